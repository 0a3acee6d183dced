r"""Notices as text, as honcho prints them: ``HH:MM:SS web.1 | line``.

Rules: pure; the clock comes in as a function. The output of a child is never decoded or changed; prefixes are inserted
between its lines. There is no work per line: one `replace` inserts all prefixes of a chunk. Only the output of a child
that has a terminal of its own is filtered, because the child behaves as if it had the screen to itself (`escapes`).

Theory of operation. At any time one line may be *open*: it was flushed before its end came. Its process goes on without
a new prefix; a notice of another process ends the line first. On a terminal, a ``\r`` within a line (a progress bar)
would overwrite the prefix, so the prefix is printed again behind it.
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol, assert_never

from procreaper.core.events import (
    Checked,
    Message,
    Notice,
    Output,
    Removed,
    RunBegan,
    RunEnded,
    SignalSent,
    State,
    Transition,
)
from procreaper.core.state import ABOUT_TO_START, HEALTHY, PAUSED, UNTIL_A_CHANGE

if TYPE_CHECKING:
    from procreaper.output.escapes import TerminalFilter

SYSTEM = "system"
TIME = "HH:MM:SS "
SEPARATOR = " | "
# In honcho's order: cyan yellow green magenta red blue, then the same bold.
COLOURS = tuple(f"{code}{weight}" for weight in ("", ";1") for code in (36, 33, 32, 35, 31, 34))
RESET = b"\x1b[0m"
# A carriage return that is followed by more of the same line.
RETURN_WITHIN_LINE = re.compile(rb"\r(?=[^\r\n])")


class Style(NamedTuple):
    """The look of the prefix of a line. `terminal`: the text goes to a screen, where a return moves the cursor."""

    colour: bool = False
    prefix: bool = True
    timestamps: bool = True
    terminal: bool = False


class Format(Protocol):
    """The part of a format that a sink needs; `margin` is the number of columns before a line."""

    margin: int

    def expect(self, names: Iterable[str]) -> None:
        """Prepare for these processes too; they may change the margin."""

    def render(self, notice: Notice) -> bytes:
        """The bytes to print for a notice."""

    def finish(self) -> bytes:
        """Return the bytes to print last."""


class TextFormat:
    """Renders notices one after the other; it remembers the open line between them.

    `names` are all processes, in the order in which they take their colours; others may come later. `clock` returns the
    time of day as ``HH:MM:SS`` for seconds since the epoch; `signal_name` returns ``SIGTERM`` for 15. `filtered` are
    the processes that have a terminal of their own; `filter_all` filters the output of all.
    """

    def __init__(
        self,
        names: Iterable[str],
        style: Style,
        *,
        clock: Callable[[float], str],
        signal_name: Callable[[int], str],
        filtered: Iterable[str] = (),
        filter_all: bool = False,
    ) -> None:
        # None until the process writes something. Without a child that has a terminal, the filter is not even imported.
        self._filters: dict[str, TerminalFilter | None] = dict.fromkeys(filtered)
        self._filter_all = filter_all
        # The last output of a process, as long as it cannot be seen, such as the reset of a colour.
        self._unseen: dict[str, bytes] = {}
        self._style = style
        self._clock = clock
        self._signal_name = signal_name
        self._second = -1
        self._time = b""
        self._labels: dict[str, tuple[bytes, bytes]] = {}
        self._prefixes: dict[str, bytes] = {}
        self.margin = 0
        self.expect(names)
        self._open: str | None = None
        self._returned = False

    def expect(self, names: Iterable[str]) -> None:
        """Prepare for these processes too; they may change the margin."""
        known = list(dict.fromkeys((*self._labels, *names)))
        known = [name for name in known if name != SYSTEM]
        width = max(map(len, (SYSTEM, *known)))
        self.margin = len(TIME) * self._style.timestamps + width + len(SEPARATOR) if self._style.prefix else 0
        self._labels = {SYSTEM: self._label(SYSTEM, width, "")}
        for index, name in enumerate(known):
            self._labels[name] = self._label(name, width, COLOURS[index % len(COLOURS)])
        self._prefixes.clear()

    def render(self, notice: Notice) -> bytes:
        """The bytes to print for a notice; none for one that only programs care about."""
        match notice:
            case Output(time=time, name=name, data=data):
                return self._lines(time, name, data)
            case RunBegan(since=float()):
                # A message reports this.
                return b""
            case RunBegan(time=time, name=name, pid=pid, pty=pty):
                if (filter_ := self._filters.get(name)) is not None:
                    filter_.restart()
                elif pty:
                    self._filters[name] = None
                return self._say(time, f"{name} started (pid={pid})")
            case RunEnded(time=time, name=name, pid=None, reason=reason):
                return self._say(time, f"{name} could not be started: {reason}")
            case RunEnded(time=time, name=name, exit=exit_):
                return self._say(time, f"{name} stopped (rc={exit_.returncode if exit_.known else 'unknown'})")
            case SignalSent(time=time, name=name, pid=pid, signal=number, leftovers=True):
                said = f"sending {self._signal_name(number)} to what {name} left running (process group {pid})"
                return self._say(time, said)
            case SignalSent(time=time, name=name, pid=pid, signal=number):
                return self._say(time, f"sending {self._signal_name(number)} to {name} (pid {pid})")
            case Transition():
                text = describe(notice)
                return self._say(notice.time, text) if text else b""
            case Removed(time=time, name=name):
                return self._say(time, f"{name} removed")
            case Message(time=time, text=text):
                return self._say(time, text)
            case Checked():
                return b""
            case _:
                assert_never(notice)

    def finish(self) -> bytes:
        """Return the bytes to print last."""
        if self._open is None:
            return b""
        filter_ = self._filters.get(self._open)
        return b"\n" if filter_ is None else filter_.finish() + b"\n"

    def _label(self, name: str, width: int, colour: str) -> tuple[bytes, bytes]:
        """Return what stands before and behind the time of day."""
        style = self._style
        if not style.prefix:
            return b"", b""
        behind = f"{name.ljust(width)}{SEPARATOR}".encode()
        if style.timestamps:
            behind = b" " + behind
        if not style.colour:
            return b"", behind
        # The reset comes first: a colour that a child left on must not bleed into the next line of any process.
        if not colour:
            return RESET, behind
        return RESET + f"\x1b[{colour}m".encode(), behind + RESET

    def _prefix(self, time: float, name: str) -> bytes:
        second = int(time)
        if second != self._second:
            self._second = second
            self._time = self._clock(time).encode() if self._style.prefix and self._style.timestamps else b""
            self._prefixes.clear()
        prefix = self._prefixes.get(name)
        if prefix is None:
            if name not in self._labels:
                self.expect((name,))
            before, behind = self._labels[name]
            prefix = self._prefixes[name] = before + self._time + behind
        return prefix

    def _say(self, time: float, text: str) -> bytes:
        # A text may carry a file's name or a program's word: bytes that are not UTF-8 pass through here too.
        return self._lines(time, SYSTEM, text.encode(errors="surrogateescape") + b"\n")

    def _lines(self, time: float, name: str, data: bytes) -> bytes:
        if name in self._filters or (self._filter_all and name != SYSTEM):
            data = self._filter(name, data)
            if not data:
                return b""
        prefix = self._prefix(time, name)
        goes_on = self._open == name
        start = prefix
        if goes_on:
            # After a bare carriage return the cursor stands on the old prefix.
            start = prefix if self._returned else b""
        elif self._open is not None:
            # The filter of the open line closes its colours and links: a prefix without colours has no reset.
            filter_ = self._filters.get(self._open)
            start = b"\n" + prefix if filter_ is None else filter_.interrupt() + b"\n" + prefix
        if self._style.terminal and b"\r" in data:
            data = RETURN_WITHIN_LINE.sub(lambda _: b"\r" + prefix, data)
        if data.endswith(b"\n"):
            self._open = None
            self._returned = False
            if not prefix:
                return start + data
            return b"".join((start, data[:-1].replace(b"\n", b"\n" + prefix), b"\n"))
        self._open = name
        self._returned = self._style.terminal and data.endswith(b"\r")
        return start + (data.replace(b"\n", b"\n" + prefix) if prefix else data)

    def _filter(self, name: str, data: bytes) -> bytes:
        from procreaper.output.escapes import TerminalFilter, is_invisible

        filter_ = self._filters.get(name)
        if filter_ is None:
            filter_ = self._filters[name] = TerminalFilter()
        data = self._unseen.pop(name, b"") + filter_.feed(data)
        if self._open != name and is_invisible(data):
            # A line without anything visible is not begun.
            self._unseen[name], data = data, b""
        return data


def describe(notice: Transition) -> str:
    """Return the message for a transition; None for those that honcho has too, which have lines of their own."""
    name, reason, before = notice.name, notice.reason, notice.before
    changed = notice.state is not before
    match notice.state:
        case State.PENDING if changed and reason != ABOUT_TO_START:
            return f"{name}: {reason}"
        case State.HEALTHY if changed:
            return f"{name} is healthy"
        case State.HEALTHY if reason == HEALTHY:
            return f"{name}: {'checks go on' if notice.reason_before == PAUSED else 'healthy again'}"
        case State.HEALTHY:
            return f"{name}: {reason}"
        case State.UNHEALTHY if changed:
            return f"{name} is {reason}"
        case State.STOPPING if before in (State.STARTING, State.HEALTHY) and notice.exit is not None:
            return f"{name}: {reason}"
        case State.RESTARTING if changed:
            # The reason was printed before if the run had to be ended first.
            return f"{name}: {reason.removeprefix(f'{notice.reason_before}; ')}"
        case State.FAILED if changed and notice.retries and reason != notice.reason_before:
            return f"{name}: {reason}"
        case State.FAILED | State.COMPLETED if changed and reason.endswith(UNTIL_A_CHANGE):
            return f"{name}: {reason}"
        case State.SKIPPED if changed:
            return f"{name} skipped: {reason}"
        case _:
            return ""
