"""What programs are told of the app: its processes and what happens to them, in the words of `control.protocol`.

Rules: pure. All that programs get is made here, whichever way it goes to them: the control socket, HTTP.
"""

from __future__ import annotations

from typing import TypeGuard, assert_never

from procreaper.core import events
from procreaper.core.plan import Process
from procreaper.core.status import Status
from procreaper.remote.api import protocol
from procreaper.remote.api.codec import readable


def view_process(status: Status, process: Process) -> protocol.Process:
    """One process at one moment."""
    return protocol.Process(
        name=readable(process.name),
        type=readable(process.type),
        state=status.state.value,
        reason=readable(status.reason),
        run=status.run,
        pid=status.pid,
        retries=status.retries,
        restarts=status.restarts,
        backoff=status.backoff,
        started_at=None if status.started_at is None else status.started_at.timestamp(),
        exit_code=status.exit_code,
        up=status.up,
        out_of_reach=status.out_of_reach,
        port=port_of(process),
        pty=process.pty,
        log=None if process.log is None else readable(process.log.path),
        detached=process.detached,
        waits_for=tuple(map(readable, status.waits_for)),
    )


def view_notice(notice: events.Notice) -> protocol.AnyNotice | None:
    """What a notice says, at whatever time it is read; None for output, which everybody wants in another way."""
    match notice:
        case events.Output():
            return None
        case events.Checked():
            # What comes of it is told by transitions.
            return None
        case events.Transition(time=time, name=name, exit=end):
            return protocol.TransitionNotice(
                time=time,
                name=readable(name),
                before=notice.before.value,
                state=notice.state.value,
                reason=readable(notice.reason),
                reason_before=readable(notice.reason_before),
                retries=notice.retries,
                backoff=notice.backoff,
                code=None if end is None else end.code,
                signal=None if end is None else end.signal,
                restart=None if notice.restart is None else notice.restart.value,
            )
        case events.RunBegan(time=time, name=name, pid=pid, pty=pty, since=since):
            return protocol.BeganNotice(time, readable(name), pid, pty, since)
        case events.RunEnded(time=time, name=name, pid=ended, exit=end, reason=reason, asked=asked):
            return protocol.EndedNotice(time, readable(name), ended, end.code, end.signal, readable(reason), asked)
        case events.SignalSent(time=time, name=name, pid=pid, signal=number):
            return protocol.SignalNotice(time, readable(name), pid, number)
        case events.Removed(time=time, name=name):
            return protocol.RemovedNotice(time, readable(name))
        case events.Message(time=time, text=text):
            return protocol.MessageNotice(time, readable(text))
        case _:
            assert_never(notice)


def changes(notice: events.Notice) -> TypeGuard[events.Transition | events.RunBegan]:
    """Whether a process is another than before, so that its status is worth telling."""
    return isinstance(notice, events.Transition | events.RunBegan)


def port_of(process: Process) -> int | None:
    """The `PORT` in the environment of a process; None where it has none."""
    port = "" if process.env is None else process.env.get("PORT", "")
    return int(port) if port.isascii() and port.isdecimal() else None
