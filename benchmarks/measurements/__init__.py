"""The measurements, one module each, in the order of the report. A new one needs an import and a line here.

`restarts.py` measures the time from a crash or a save to the next child, also of programs that are no managers.
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
