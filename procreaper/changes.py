"""Changed files, as one process sees them: waited for until it is quiet, then told, and not for ever.

Rules: pure, like `lifecycle`, of which this is the part about file changes. It knows nothing of patterns and trees:
`watching` says which process a file concerns.

Theory of operation. A change waits for `debounce` seconds of quiet, but for no more than `PATIENCE`. Whether the
process itself writes the files that it is restarted for cannot be seen, only tried: after `MOST_RESTARTS` within
`WINDOW` seconds each new run is *held back*, ever longer (`CALMS`), and so is a signal, or a preparation. If somebody
else is writing, something changes meanwhile, or long after (`SOON`), and all is forgiven. If it was quiet every time,
but something changed as soon as the process ran, it is the process, and its watch is suspended. The last of the calms
is longer than any regular writer is silent who is quick enough to be suspected. A program that writes when it reads
what the process prints could be taken for it: for so long the owner withholds what is printed by one under suspicion.
"""

from collections.abc import Iterable
from typing import NamedTuple

PATIENCE = 10.0
MOST_RESTARTS, WINDOW = 20, 60.0
# A change that never became quiet counts for so many: what is written all the time leads to few restarts.
NEVER_QUIET = 4
CALMS = (1.0, 2.0, 4.0, 8.0)
# Whoever needs longer is not restarted so often.
SOON = WINDOW / MOST_RESTARTS
# What was written before a calm, as the last words of a run that ends, may be reported so many seconds later.
DELAY = 0.5


class Change(NamedTuple):
    """Files for whose change nothing was done yet; `due` is when something will be. `held`: which is held back."""

    first: str
    paths: frozenset[str]
    since: float
    due: float
    held: bool = False

    def __str__(self) -> str:
        others = len(self.paths) - 1
        if not others:
            return self.first
        return f"{self.first} and {others} other{'s' if others > 1 else ''}"


class Pace(NamedTuple):
    """How often a process was restarted for changes of late, `suspicions` of them as if it wrote the files itself.

    What is to be done next is held back until `calm_until`; `resumed` is when that was over.
    """

    times: tuple[float, ...] = ()
    suspicions: int = 0
    calm_from: float = 0.0
    calm_until: float | None = None
    resumed: float | None = None
    suspended: bool = False


def add(change: Change | None, pace: Pace, paths: Iterable[str], debounce: float, now: float) -> tuple[Change, Pace]:
    """One more change, or the first; one that disturbs a calm was not made by the process."""
    paths = tuple(paths)
    is_calm = pace.calm_until is not None and now < pace.calm_until
    disturbs = is_calm and now - pace.calm_from >= DELAY
    if change is None:
        change = Change(paths[0], frozenset(paths), now, now + debounce)
    else:
        since = now if change.held and disturbs else change.since
        due = min(now + debounce, since + max(PATIENCE, debounce))
        held = change.held and not disturbs
        paths = change.paths.union(paths)
        change = Change(change.first, paths, since, max(due, change.due) if held else due, held)
    # From now on it is only waited for quiet.
    return change, Pace(calm_until=change.due) if disturbs else pace


def count(pace: Pace, change: Change, now: float) -> Pace:
    """Something is about to be done for a change; `suspended` if that is once too often."""
    if pace.suspicions and pace.resumed is not None and change.since <= pace.resumed + SOON:
        return Pace(suspicions=pace.suspicions + 1) if pace.suspicions < len(CALMS) else Pace(suspended=True)
    times = tuple(time for time in pace.times if now - time < WINDOW)
    if len(times) >= MOST_RESTARTS:
        return Pace(suspicions=1)
    weight = NEVER_QUIET if now - change.since >= PATIENCE else 1
    return Pace(times=(*times, *(now,) * weight))


def hold_back(pace: Pace, now: float) -> Pace:
    """It is to begin again, or to be told something: not before a calm, if it is under suspicion."""
    if not pace.suspicions:
        return pace
    return pace._replace(calm_from=now, calm_until=now + CALMS[pace.suspicions - 1])


def resume(pace: Pace) -> Pace:
    """The calm is over."""
    return pace if pace.calm_until is None else pace._replace(calm_until=None, resumed=pace.calm_until)
