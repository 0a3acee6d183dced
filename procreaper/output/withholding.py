"""The output of those who are suspected of writing the files that they are restarted for: withheld for a moment.

Rules: nothing is lost, and the order stays. What this is good for is said in `changes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from procreaper.changes import SOON
from procreaper.events import Notice, Output

# So many bytes of one process are withheld at most.
MOST_WITHHELD = 1 << 20


class Withholding:
    """Passes notices on to `publish`, which must not raise; the output of some a little later."""

    def __init__(self, publish: Callable[[Notice], bool]) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._withheld: dict[str, _Withheld] = {}

    def pass_on(self, notice: Notice) -> bool:
        """Publish a notice now, or once its process is not withheld any more; False where there is no room for more."""
        withheld = self._withheld.get(notice.name) if isinstance(notice, Output) else None
        if withheld is None or not isinstance(notice, Output):
            return self._publish(notice)
        withheld.outputs.append(notice)
        withheld.size += len(notice.data)
        if withheld.size > MOST_WITHHELD:
            self.end(notice.name)
        return True

    def begin(self, name: str) -> None:
        """Withhold what this process writes from now on, for `SOON` seconds."""
        if name not in self._withheld:
            self._withheld[name] = _Withheld(self._loop.call_later(SOON, self.end, name))

    def end(self, name: str) -> None:
        """Publish what was withheld."""
        withheld = self._withheld.pop(name, None)
        if withheld is not None:
            withheld.timer.cancel()
            for output in withheld.outputs:
                self._publish(output)

    def end_all(self) -> None:
        """Publish all that was withheld."""
        for name in tuple(self._withheld):
            self.end(name)


class _Withheld:
    """The output of one process that is not told yet, and the timer that ends this."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.timer = timer
        self.outputs: list[Output] = []
        self.size = 0
