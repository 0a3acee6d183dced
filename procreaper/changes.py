"""Changed files, as one process sees them: waited for until it is quiet, then told, and not for ever.

Rules: pure, like `lifecycle`, of which this is the part about file changes. It knows nothing of patterns and trees:
`watching` says which process a file concerns.

Theory of operation. A change waits for `debounce` seconds of quiet, but for no more than `PATIENCE`. Whether the
process itself writes the files that it is restarted for cannot be seen, only tried: after `MOST_RESTARTS` within
`WINDOW` seconds each new run is held back for `CALM` seconds. If somebody else is writing, something changes meanwhile
and all is well. If nothing did `SUSPICIONS` times in a row, but something does as soon as the process runs, it is the
process, and its watch is suspended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

PATIENCE = 10.0
MOST_RESTARTS, WINDOW = 20, 60.0
CALM = 1.0
SUSPICIONS = 3


class Change(NamedTuple):
    """Files for whose change nothing was done yet; `due` is when something will be."""

    first: str
    paths: frozenset[str]
    since: float
    due: float

    def __str__(self) -> str:
        others = len(self.paths) - 1
        if not others:
            return self.first
        return f"{self.first} and {others} other{'s' if others > 1 else ''}"


class Pace(NamedTuple):
    """How often a process was restarted for changes of late. `calm_until`: its next run is held back until then."""

    times: tuple[float, ...] = ()
    calm_until: float | None = None
    suspicions: int = 0
    suspended: bool = False


def add(change: Change | None, paths: Iterable[str], debounce: float, now: float) -> Change:
    """One more change, or the first."""
    paths = tuple(paths)
    if change is None:
        return Change(paths[0], frozenset(paths), now, now + debounce)
    due = min(now + debounce, change.since + max(PATIENCE, debounce))
    return change._replace(paths=change.paths | frozenset(paths), due=due)


def disturbed(pace: Pace, now: float) -> Pace:
    """Something changed while the process was held back: it is not the process that writes."""
    if pace.calm_until is not None and now < pace.calm_until:
        return Pace()
    return pace


def restarted(pace: Pace, now: float) -> Pace:
    """It is about to be restarted for a change; `suspended` if that was once too often."""
    times = tuple(time for time in pace.times if now - time < WINDOW)
    if len(times) < MOST_RESTARTS:
        return Pace(times=(*times, now))
    if pace.suspicions >= SUSPICIONS:
        return pace._replace(suspended=True, calm_until=None)
    return pace._replace(times=(*times[1:], now), suspicions=pace.suspicions + 1)


def held_back(pace: Pace, now: float) -> Pace:
    """Nothing of it runs any more, and it is to run again."""
    return pace._replace(calm_until=now + CALM) if pace.suspicions else pace
