"""`attach`: be at the terminal of a process, from this one.

Rules: every key is for the process, but for those that leave (`detach_keys`). What is typed while the process does not
read waits, and is dropped with a sound where it does not read at all. However it ends or stops, this terminal is as it
was.

Theory of operation. Keys are sent at once, without waiting for the replies to earlier ones; only so many bytes may be
without a reply, the rest waits here. When a run has ended, the next one is waited for as long as there will be one.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import time
from collections import deque
from typing import NamedTuple

from procreaper.cli.commands.detach_keys import DEFAULT, DetachKeys
from procreaper.cli.find_app import AppSelector, find_app
from procreaper.cli.messages import print_error
from procreaper.core.status import AT_REST
from procreaper.errors import ProcreaperError
from procreaper.remote.api import protocol
from procreaper.remote.control.client import Client, GoneError, RefusedError
from procreaper.runtime.terminal.raw import KEYBOARD, SCREEN, SUSPENDING, TERMINATING, RawTerminal

INTERRUPT = b"\x03"
# How long to wait, on leaving, until what was typed has been taken, in seconds.
PATIENCE = 1.0
# A line of the protocol holds no more; so many bytes may be without a reply; so many may wait for that.
MOST_AT_ONCE, MOST_UNANSWERED, MOST_WAITING = 1 << 13, 1 << 15, 1 << 20


class End(NamedTuple):
    """How it has ended: what to say of it, and the exit status."""

    text: str
    code: int = 0


def attach(place: AppSelector, name: str, detach_keys: str | None = None) -> int:
    """Attach until the user types the `detach_keys` (default: Ctrl-]), or the app ends; return the exit status.

    Raises ProcreaperError where there is nothing to attach to, where this is no terminal, and for keys that there are
    not.
    """
    leaving = DetachKeys(DEFAULT if detach_keys is None else detach_keys)
    for descriptor, what in ((KEYBOARD, "input"), (SCREEN, "output")):
        if not os.isatty(descriptor):
            hint = f"`procreaper logs -f {name}` shows its output without a terminal"
            raise ProcreaperError(f"`attach` needs a terminal, but standard {what} is not one", hint=hint)
    with find_app(place) as app:
        session = Session(app, name, leaving)
        session.attach()
        with RawTerminal() as terminal:
            end = session.stay(terminal)
    print_error(end.text)
    return end.code


class Session:
    """One stay at the terminal of a process, through as many of its runs as there are meanwhile."""

    def __init__(self, app: Client, name: str, leaving: DetachKeys) -> None:
        self._app = app
        self._name = name
        self._leaving = leaving
        self._is_attached = False
        self._typed = bytearray()
        # How many bytes each request had that has no reply yet.
        self._unanswered: deque[int] = deque()
        self._was_refused = False

    def attach(self) -> None:
        """Attach to the run that there is. Raises RefusedError where there is none."""
        columns, lines = os.get_terminal_size(SCREEN)
        attached = self._app.ask(protocol.AttachRequest(0, self._name, columns, lines))
        self._name = attached.process.name
        self._is_attached = True
        if attached.process.pid == os.getsid(0):
            # What it is shown would be what it shows.
            hint = "attach from another one"
            raise ProcreaperError(f"this is the terminal of `{self._name}` itself", hint=hint)

    def stay(self, terminal: RawTerminal) -> End:
        """Pass on what is typed and what is shown."""
        try:
            self._greet(terminal)
            while True:
                end = self._turn(terminal)
                if end is not None:
                    return end
        except (OSError, termios.error):
            # Its window was closed.
            return End(f"detached from {self._name}", 128 + signal.SIGHUP)

    def _turn(self, terminal: RawTerminal) -> End | None:
        for notice in self._app.arrived():
            end = self._take(notice, terminal)
            if end is not None:
                return end
        if self._take_outcomes():
            terminal.ring_bell()
        self._send()
        waiting = [self._app.fileno(), terminal.signal_pipe]
        if len(self._typed) < MOST_WAITING:
            waiting.append(KEYBOARD)
        ready, _, _ = select.select(waiting, [], [])
        if terminal.signal_pipe in ready and (number := self._follow(terminal)):
            return End(f"detached from {self._name}", 128 + number)
        if KEYBOARD in ready and (end := self._read(terminal)) is not None:
            return end
        return None

    def _greet(self, terminal: RawTerminal) -> None:
        terminal.say(f"attached to {self._name}; {self._leaving.name} detaches")

    # From here to the process.

    def _read(self, terminal: RawTerminal) -> End | None:
        data = terminal.read_keys()
        if not data:
            return End(f"detached from {self._name}", 128 + signal.SIGHUP)
        typed = self._leaving.feed(data)
        if not self._is_attached:
            return self._left() if typed.leaves or INTERRUPT in data else None
        self._typed += typed.data
        self._send()
        return self._left() if typed.leaves else None

    def _left(self) -> End:
        # Who types and leaves at once has meant what was typed.
        until = time.monotonic() + PATIENCE
        while self._unanswered and (left := until - time.monotonic()) > 0:
            select.select([self._app.fileno()], [], [], left)
            self._app.arrived()
            self._take_outcomes()
            self._send()
        lost = "; it did not read all that was typed" if self._was_refused else ""
        return End(f"detached from {self._name}{lost}")

    def _send(self) -> None:
        while self._typed and sum(self._unanswered) < MOST_UNANSWERED:
            data = bytes(self._typed[:MOST_AT_ONCE])
            del self._typed[: len(data)]
            self._unanswered.append(len(data))
            self._app.post(protocol.TypeRequest(0, data))

    def _take_outcomes(self) -> bool:
        """Whether something that was typed was refused; then so is what was to follow it."""
        was_refused = False
        for failure in self._app.outcomes():
            self._unanswered.popleft()
            if failure is not None and self._is_attached:
                self._was_refused = was_refused = True
                self._typed.clear()
        return was_refused

    def _follow(self, terminal: RawTerminal) -> int:
        """Take the size that this terminal has now; or the number of the signal that ends us."""
        numbers = terminal.read_signals()
        for number in numbers:
            if number in TERMINATING:
                return number
        stops = [number for number in numbers if number in SUSPENDING]
        if stops:
            terminal.suspend(stops[0])
        columns, lines = os.get_terminal_size(SCREEN)
        if stops or signal.SIGCONT in numbers:
            terminal.make_raw()
            # Another size makes the program draw its screen again.
            self._resize(columns, lines - 1)
        self._resize(columns, lines)
        return 0

    def _resize(self, columns: int, lines: int) -> None:
        if self._is_attached:
            self._unanswered.append(0)
            self._app.post(protocol.ResizeRequest(0, columns, lines))

    # From the process to here.

    def _take(self, notice: protocol.AnyNotice, terminal: RawTerminal) -> End | None:
        match notice:
            case protocol.ScreenNotice(data=data):
                terminal.show(data)
            case protocol.TerminalClosedNotice(reason=reason):
                return self._wait(terminal, reason)
            case protocol.GoodbyeNotice():
                return End("the app has ended")
            case protocol.RemovedNotice() if not self._is_attached:
                return End(f"{self._name} has been removed")
            case protocol.StatusNotice(process=process) if not self._is_attached:
                return self._consider(process, terminal)
            case _:
                pass
        return None

    def _wait(self, terminal: RawTerminal, reason: str) -> End | None:
        """The run is over: wait for the next one, if there is to be one."""
        self._is_attached = False
        self._typed.clear()
        self._leaving.forget()
        terminal.reset()
        over = f"{self._name} {reason}"
        try:
            followed = self._app.ask(protocol.FollowRequest(0, (self._name,)))
        except (RefusedError, GoneError):
            # The app ends too, or the process was removed.
            return End(over)
        process = followed.processes[0]
        if process.state in AT_REST:
            return End(over)
        terminal.say(f"{over}; {process.state}, {self._leaving.name} detaches")
        return self._consider(process, terminal)

    def _consider(self, process: protocol.ProcessStatus, terminal: RawTerminal) -> End | None:
        if process.state in AT_REST:
            return End(f"{self._name}: {process.reason}")
        if process.pid is not None:
            try:
                self.attach()
            except RefusedError:
                # That run is over already; what comes of it will be told.
                return None
            self._greet(terminal)
        return None
