"""Every measurement in a module of its own, in the order of the report; a new one needs an import and a line here.

From a crash or a save to the next child is measured by `restarts.py`, beside programs that are no managers.
"""

from collections.abc import Callable, Mapping

from measurement import Settings, Table

from measurements import idle, latency, memory, output, stalled, start, stop

MEASUREMENTS: Mapping[str, Callable[[Settings], list[Table]]] = {
    "output": output.tables,
    "latency": latency.tables,
    "start": start.tables,
    "memory": memory.tables,
    "idle": idle.tables,
    "stop": stop.tables,
    "stalled": stalled.tables,
}
