"""`attach`: connect this terminal to the terminal of a running process.

Rules: every key goes to the process, except for the keys that detach (`detach_keys`). Input waits while the process
does not read. If the process refuses input, the input is dropped and the bell rings. The command restores this terminal
whenever it ends or is suspended.

Theory of operation. Keys are sent at once, without waiting for the replies to earlier ones. At most MOST_UNANSWERED
bytes may be without a reply; the rest waits here. After the end of a run, the command waits for the next run, unless
the process is at rest.
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
# Seconds to wait on detaching until the process has taken the input.
PATIENCE = 1.0
# In bytes: the most in one request; the most without a reply; the most that wait to be sent.
MOST_AT_ONCE, MOST_UNANSWERED, MOST_WAITING = 1 << 13, 1 << 15, 1 << 20


class End(NamedTuple):
    """The end of the command: the message, and the exit status."""

    text: str
    code: int = 0


def attach(selector: AppSelector, name: str, detach_keys: str | None = None) -> int:
    """Attach until the user types the `detach_keys` (default: Ctrl-]), or the app ends; return the exit status.

    Raises ProcreaperError if the process is not running, if this is not a terminal, and for invalid keys.
    """
    leaving = DetachKeys(DEFAULT if detach_keys is None else detach_keys)
    for descriptor, what in ((KEYBOARD, "input"), (SCREEN, "output")):
        if not os.isatty(descriptor):
            hint = f"`procreaper logs -f {name}` shows its output without a terminal"
            raise ProcreaperError(f"`attach` needs a terminal, but standard {what} is not one", hint=hint)
    with find_app(selector) as app:
        session = Session(app, name, leaving)
        session.attach()
        with RawTerminal() as terminal:
            end = session.stay(terminal)
    print_error(end.text)
    return end.code


class Session:
    """One connection to the terminal of a process, over all its runs."""

    def __init__(self, app: Client, name: str, leaving: DetachKeys) -> None:
        self._app = app
        self._name = name
        self._detach_keys = leaving
        self._is_attached = False
        self._typed = bytearray()
        # The bytes of each request that has no reply yet.
        self._unanswered: deque[int] = deque()
        self._was_refused = False

    def attach(self) -> None:
        """Attach to the current run. Raises RefusedError if there is none."""
        columns, lines = os.get_terminal_size(SCREEN)
        attached = self._app.ask(protocol.AttachRequest(0, self._name, columns, lines))
        self._name = attached.process.name
        self._is_attached = True
        if attached.process.pid == os.getsid(0):
            # Its output would be its input, without end.
            hint = "attach from another one"
            raise ProcreaperError(f"this is the terminal of `{self._name}` itself", hint=hint)

    def stay(self, terminal: RawTerminal) -> End:
        """Pass input and output on until the end."""
        try:
            self._print_greeting(terminal)
            while True:
                end = self._run_once(terminal)
                if end is not None:
                    return end
        except (OSError, termios.error):
            # The window of this terminal was closed.
            return End(f"detached from {self._name}", 128 + signal.SIGHUP)

    def _run_once(self, terminal: RawTerminal) -> End | None:
        for notice in self._app.arrived():
            end = self._handle_notice(notice, terminal)
            if end is not None:
                return end
        if self._handle_replies():
            terminal.ring_bell()
        self._send()
        waiting = [self._app.fileno(), terminal.signal_pipe]
        if len(self._typed) < MOST_WAITING:
            waiting.append(KEYBOARD)
        ready, _, _ = select.select(waiting, [], [])
        if terminal.signal_pipe in ready and (number := self._handle_signals(terminal)):
            return End(f"detached from {self._name}", 128 + number)
        if KEYBOARD in ready and (end := self._read(terminal)) is not None:
            return end
        return None

    def _print_greeting(self, terminal: RawTerminal) -> None:
        terminal.say(f"attached to {self._name}; {self._detach_keys.name} detaches")

    # Input, from this terminal to the process.

    def _read(self, terminal: RawTerminal) -> End | None:
        data = terminal.read_keys()
        if not data:
            return End(f"detached from {self._name}", 128 + signal.SIGHUP)
        typed = self._detach_keys.feed(data)
        if not self._is_attached:
            return self._detach() if typed.leaves or INTERRUPT in data else None
        self._typed += typed.data
        self._send()
        return self._detach() if typed.leaves else None

    def _detach(self) -> End:
        # The user may type a command and detach at once; the process must still get it.
        until = time.monotonic() + PATIENCE
        while self._unanswered and (left := until - time.monotonic()) > 0:
            select.select([self._app.fileno()], [], [], left)
            self._app.arrived()
            self._handle_replies()
            self._send()
        lost = "; it did not read all that was typed" if self._was_refused else ""
        return End(f"detached from {self._name}{lost}")

    def _send(self) -> None:
        while self._typed and sum(self._unanswered) < MOST_UNANSWERED:
            data = bytes(self._typed[:MOST_AT_ONCE])
            del self._typed[: len(data)]
            self._unanswered.append(len(data))
            self._app.post(protocol.TypeRequest(0, data))

    def _handle_replies(self) -> bool:
        """Return whether some input was refused; then drop the input that follows."""
        was_refused = False
        for failure in self._app.outcomes():
            self._unanswered.popleft()
            if failure is not None and self._is_attached:
                self._was_refused = was_refused = True
                self._typed.clear()
        return was_refused

    def _handle_signals(self, terminal: RawTerminal) -> int:
        """Handle the signals: suspend, resume, resize. Return the number of a signal that ends us, or 0."""
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
            # A changed size makes the program redraw its screen.
            self._resize(columns, lines - 1)
        self._resize(columns, lines)
        return 0

    def _resize(self, columns: int, lines: int) -> None:
        if self._is_attached:
            self._unanswered.append(0)
            self._app.post(protocol.ResizeRequest(0, columns, lines))

    # Output, from the process to this terminal.

    def _handle_notice(self, notice: protocol.AnyNotice, terminal: RawTerminal) -> End | None:
        match notice:
            case protocol.ScreenNotice(data=data):
                terminal.show(data)
            case protocol.TerminalClosedNotice(reason=reason):
                return self._wait_for_next_run(terminal, reason)
            case protocol.GoodbyeNotice():
                return End("the app has ended")
            case protocol.RemovedNotice() if not self._is_attached:
                return End(f"{self._name} has been removed")
            case protocol.StatusNotice(process=process) if not self._is_attached:
                return self._attach_if_running(process, terminal)
            case _:
                pass
        return None

    def _wait_for_next_run(self, terminal: RawTerminal, reason: str) -> End | None:
        """The run has ended: wait for the next one, unless the process is at rest."""
        self._is_attached = False
        self._typed.clear()
        self._detach_keys.forget()
        terminal.reset()
        over = f"{self._name} {reason}"
        try:
            followed = self._app.ask(protocol.FollowRequest(0, (self._name,)))
        except (RefusedError, GoneError):
            # The app is ending too, or the process was removed.
            return End(over)
        process = followed.processes[0]
        if process.state in AT_REST:
            return End(over)
        terminal.say(f"{over}; {process.state}, {self._detach_keys.name} detaches")
        return self._attach_if_running(process, terminal)

    def _attach_if_running(self, process: protocol.ProcessStatus, terminal: RawTerminal) -> End | None:
        if process.state in AT_REST:
            return End(f"{self._name}: {process.reason}")
        if process.pid is not None:
            try:
                self.attach()
            except RefusedError:
                # That run has already ended; a notice will follow.
                return None
            self._print_greeting(terminal)
        return None
