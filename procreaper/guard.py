"""A tiny process that ends what is left, should procreaper be killed before it can do so itself.

Rules: started before the first child, by the command line only. It holds nothing of ours but the reading end of a pipe:
no standard stream, no directory, no terminal, no variable. It never holds up procreaper, and its lack is told once.

Theory of operation. The guard is a shell in a session of its own that reads who has begun and who is gone. The end of
that pipe means that procreaper is gone, however: it has the only writing end, which no child inherits. Whoever is still
on the list is killed then, after a look at the time when that process began, since numbers are used again. So is, where
there is a /proc, whoever has our mark in its environment, until several looks in a row have found nobody: one that was
just being forked or executed has no mark yet. The guard's own death closes the pipe too; a new one is told everything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from procreaper.errors import reason_of

if TYPE_CHECKING:
    import asyncio
    import subprocess

SHELL = "/bin/sh"
# Not our own name: who ends everything of that name with SIGKILL does not mean the guard as well.
NAME = "reaper-guard"
# One that ends sooner than this many seconds after its start, so often in a row, will not be of use.
SHORT_LIFE = 1.0
MOST_SHORT_LIVES = 3

# Fields after the parenthesis in /proc/PID/stat begin with the third, so that the twenty-second, the start, is ${20}.
# The grep of busybox sees no further than the first NUL; `read` drops them, but is slow.
SCRIPT = r"""
trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU
set -f
mark=$1 list= count=0
while read -r verb id target start; do
    case $verb in
    +)
        eval "entry$id='$target $start'"
        list="$list $id" count=$((count + 1))
        if [ $count -gt 500 ]; then
            kept= count=0
            for id in $list; do
                eval "entry=\$entry$id"
                [ -z "$entry" ] || kept="$kept $id"
            done
            list=$kept
        fi ;;
    -) unset "entry$id" ;;
    esac
done
for id in $list; do
    eval "set -- \$entry$id"
    [ $# = 2 ] || continue
    target=$1 start=$2 status=
    read -r status </proc/$id/stat
    set -- ${status##*) }
    [ $start = 0 ] || [ -z "${20}" ] || [ "${20}" = $start ] || continue
    kill -s KILL -- $target
done
[ -r /proc/self/environ ] || exit 0
set +f
if printf 'a\0b' | grep -qF b; then
    marked() { grep -lsF -e "$mark" /proc/[0-9]*/environ; }
else
    marked() {
        for file in /proc/[0-9]*/environ; do
            while IFS= read -r line || [ -n "$line" ]; do
                case $line in *"$mark"*) echo "$file" ;; esac
            done <"$file"
        done
    }
fi
quiet=0 looks=0
while [ $quiet -lt 5 ] && [ $looks -lt 200 ]; do
    quiet=$((quiet + 1)) looks=$((looks + 1))
    for file in $(marked); do
        id=${file#/proc/}
        kill -s KILL "${id%/environ}" && quiet=0
    done
    sleep 0.04
done
"""


class Guard:
    """Ends, when we are gone, who is on its list and who has `mark`, as ``NAME=value``, in its environment.

    `variables` are all that it has in its own, besides a PATH. `warn` is told, once, why there is no guard.
    """

    def __init__(self, mark: str, variables: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._mark = mark
        self._variables = variables
        self._warn = warn
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entries: dict[int, bytes] = {}
        self._unsent = bytearray()
        self._waits = False
        self._began = 0.0
        self._short_lives = 0

    @property
    def pid(self) -> int | None:
        """The process id of the guard, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the guard; what hinders that is a warning and not an error."""
        try:
            self._start()
        except OSError as error:
            self._go_without(reason_of(error))

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on notice in this loop when the guard ends, and start another one."""
        self._loop = loop
        if self._pipe is not None:
            # Nothing ever comes from there; what is noticed is that the other end was closed.
            loop.add_reader(self._pipe, self._replace)
            self._write()

    def enlist(self, pid: int, target: int, start: int) -> None:
        """Put a process on the list: `target` is its pid, or minus its group, `start` its start time, 0 if unknown."""
        self._entries[pid] = b"+ %d %d %d\n" % (pid, target, start)
        self._send(self._entries[pid])

    def discharge(self, pid: int) -> None:
        """Take it off the list: it is gone, and its number may become somebody else's."""
        if self._entries.pop(pid, None) is not None:
            self._send(b"- %d\n" % pid)

    def dismiss(self) -> None:
        """End the guard: nothing is left that would need it. It is not waited for."""
        if self._process is not None:
            # Not by closing the pipe, which would have it look for what is left. One that was stopped ends too.
            self._process.kill()
            self._close()

    def release(self) -> None:
        """Have the guard end what is left, though we are still here."""
        self._close()

    def _start(self) -> None:
        # Not at the top: asyncio, which is not there yet, needs it too.
        import subprocess

        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                (SHELL, "-c", SCRIPT, NAME, self._mark),
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                # Without the mark of a procreaper that this one runs under: each guard does its own work to the end.
                env={"PATH": os.environ.get("PATH", os.defpath), **self._variables},
                start_new_session=True,
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        os.set_blocking(writing, False)
        self._pipe = writing
        self._began = time.monotonic()
        if self._loop is not None:
            self.attend(self._loop)
        self._send(b"".join(self._entries.values()))

    def _send(self, data: bytes) -> None:
        if self._pipe is None:
            return
        if self._loop is not None and not self._unsent:
            # A hundred that begin in the same turn of the loop are one write.
            self._loop.call_soon(self._write)
        self._unsent += data

    def _write(self) -> None:
        if self._pipe is None or not self._unsent:
            return
        try:
            del self._unsent[: os.write(self._pipe, self._unsent)]
        except BlockingIOError:
            # It was stopped, or the machine is busy; nobody waits for it.
            pass
        except OSError:
            # It is gone, which the reader of the pipe is told too.
            self._unsent.clear()
        if self._loop is None or bool(self._unsent) == self._waits:
            return
        self._waits = bool(self._unsent)
        if self._waits:
            self._loop.add_writer(self._pipe, self._write)
        else:
            self._loop.remove_writer(self._pipe)

    def _replace(self) -> None:
        self._let_go()
        lived = time.monotonic() - self._began
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
        if self._short_lives == MOST_SHORT_LIVES:
            self._go_without("it ends again and again")
        else:
            self.start()

    def _let_go(self) -> None:
        self._close()
        if self._process is not None:
            # Its end of the pipe is closed, so that it is about to end, if it has not.
            self._process.wait()
            self._process = None

    def _close(self) -> None:
        if self._pipe is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._pipe)
                self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = None
            self._unsent.clear()
            self._waits = False

    def _go_without(self, reason: str) -> None:
        self._warn(
            f"procreaper: warning: there is no guard: {reason}\n"
            "  hint: all works as usual, but a `kill -9` of procreaper may leave processes behind"
        )
