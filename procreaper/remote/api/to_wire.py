"""Convert statuses and notices to the types of `api.protocol`.

Rules: pure. The control socket and HTTP both send what is made here.
"""

from __future__ import annotations

from typing import TypeGuard, assert_never

from procreaper.core import events
from procreaper.core.plan import Process
from procreaper.core.status import Status
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import replace_surrogates


def process_to_wire(status: Status, process: Process) -> protocol.ProcessStatus:
    """Convert the status of a process at one moment."""
    return protocol.ProcessStatus(
        name=replace_surrogates(process.name),
        type=replace_surrogates(process.type),
        state=status.state.value,
        reason=replace_surrogates(status.reason),
        run=status.run,
        pid=status.pid,
        retries=status.retries,
        restarts=status.restarts,
        backoff=status.backoff,
        started_at=None if status.started_at is None else status.started_at.timestamp(),
        exit_code=status.exit_code,
        up=status.up,
        out_of_reach=status.out_of_reach,
        port=read_port(process),
        pty=process.pty,
        log=None if process.log is None else replace_surrogates(process.log.path),
        detached=process.detached,
        waits_for=tuple(map(replace_surrogates, status.waits_for)),
    )


def notice_to_wire(notice: events.Notice) -> protocol.AnyNotice | None:
    """Convert a notice; the result does not depend on the time of the call.

    Return None for output, which each kind of client encodes in its own way, and for a health check, which the
    transitions reflect.
    """
    match notice:
        case events.Output():
            return None
        case events.Checked():
            # Transitions report its effect.
            return None
        case events.Transition(time=time, name=name, exit=end):
            return protocol.TransitionNotice(
                time=time,
                name=replace_surrogates(name),
                before=notice.before.value,
                state=notice.state.value,
                reason=replace_surrogates(notice.reason),
                reason_before=replace_surrogates(notice.reason_before),
                retries=notice.retries,
                backoff=notice.backoff,
                code=None if end is None else end.code,
                signal=None if end is None else end.signal,
                restart=None if notice.restart is None else notice.restart.value,
            )
        case events.RunBegan(time=time, name=name, pid=pid, pty=pty, since=since):
            return protocol.BeganNotice(time, replace_surrogates(name), pid, pty, since)
        case events.RunEnded(time=time, name=name, pid=ended, exit=end, reason=reason, asked=asked):
            return protocol.EndedNotice(
                time, replace_surrogates(name), ended, end.code, end.signal, replace_surrogates(reason), asked
            )
        case events.SignalSent(time=time, name=name, pid=pid, signal=number):
            return protocol.SignalNotice(time, replace_surrogates(name), pid, number)
        case events.Removed(time=time, name=name):
            return protocol.RemovedNotice(time, replace_surrogates(name))
        case events.Message(time=time, text=text):
            return protocol.MessageNotice(time, replace_surrogates(text))
        case _:
            assert_never(notice)


def changes_status(notice: events.Notice) -> TypeGuard[events.Transition | events.RunBegan]:
    """Whether this notice changes the status of a process, so that followers need the new status."""
    return isinstance(notice, events.Transition | events.RunBegan)


def read_port(process: Process) -> int | None:
    """Return the `PORT` in the environment of a process, or None if it has no valid one."""
    port = "" if process.env is None else process.env.get("PORT", "")
    return int(port) if port.isascii() and port.isdecimal() else None
