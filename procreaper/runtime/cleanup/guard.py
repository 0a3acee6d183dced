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
import stat
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
# An entry has an ID, a target for kill(1), and a start time. For an output the ID is p and the inode of a pipe, or t
# and the number of a terminal, and a number of ours; no process that began before the start time belongs to it.
SCRIPT = r"""
trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU
set -f
mark=$1 exempt=$2 list= count=0 gone=,deleted
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
    alive) gone= ;;
    esac
done
# The kernel closes this pipe a moment before procreaper has ended. When its terminals are closed, those of the children
# have no names any more; their numbers may soon be those of new ones.
looks=0
while [ -n "$gone" ] && [ $looks -lt 50 ] && status= && read -r status </proc/$PPID/stat; do
    case ${status##*) } in [ZX]*|'') break ;; esac
    looks=$((looks + 1))
    sleep 0.02
done
targets= outputs=
for id in $list; do
    eval "set -- \$entry$id"
    [ $# = 2 ] || continue
    target=$1 start=$2 status=
    case $id in
    p*) id=${id#p} outputs="$outputs pipe:[${id%_*}]@$start" ; continue ;;
    t*) id=${id#t} outputs="$outputs /dev/pts/${id%_*}$gone@$start" ; continue ;;
    esac
    read -r status </proc/$id/stat
    set -- ${status##*) }
    [ $start = 0 ] || [ -z "${20}" ] || [ "${20}" = $start ] || continue
    targets="$targets $target"
done
if ! [ -r /proc/self/environ ]; then
    [ -z "$targets" ] || kill -s KILL -- $targets
    exit 0
fi
set +f
if printf 'a\0b' | grep -qF b; then
    having() { grep -lsF -e "$1" -e "$2" /proc/[0-9]*/environ; }
else
    having() {
        for file in /proc/[0-9]*/environ; do
            while IFS= read -r line || [ -n "$line" ]; do
                case $line in *"$1"*|*"$2"*) echo "$file" ;; esac
            done <"$file"
        done
    }
fi
# Processes that have one of these outputs open. Procreaper is still there when it asks for this; nested guards end by
# themselves.
holders() {
    ls -l /proc/[0-9]*/fd | sed 's/ (deleted)$/,deleted/' | awk -v outputs="$outputs" '
        BEGIN {
            n = split(outputs, words, " ")
            for (i = 1; i <= n; i++) { split(words[i], parts, "@"); after[parts[1]] = parts[2] }
        }
        /^\/proc\// { split($0, parts, "/"); pid = parts[3] }
        (i = index($0, " -> ")) && (substr($0, i + 4) in after) { print pid, after[substr($0, i + 4)] }
    ' | sort -u | while read -r pid after; do
        case " $spared " in *[!0-9]"$pid"[!0-9]*) continue ;; esac
        status=
        read -r status </proc/$pid/stat
        set -- ${status##*) }
        [ "${20:-0}" -lt $after ] || echo $pid
    done
}
# Processes that descend from the targets, and are in none of the groups among these.
descendants() {
    cat /proc/[0-9]*/stat | awk -v targets="$targets" -v spared="$spared" '
        BEGIN {
            n = split(targets, words, " ")
            for (i = 1; i <= n; i++) if (words[i] < 0) group[-words[i]] = 1; else found[words[i]] = 1
            n = split(spared, words, /[^0-9]+/)
            for (i = 1; i <= n; i++) left_alone[words[i]] = 1
        }
        {
            pid = $1 + 0
            while ((i = index($0, ") ")) > 0) $0 = substr($0, i + 2)
            parent[pid] = $2
            if ($3 in group) found[pid] = 1
        }
        END {
            do {
                more = 0
                for (pid in parent) if (!(pid in found) && !(pid in left_alone) && (parent[pid] in found)) {
                    found[pid] = more = 1
                    print pid
                }
            } while (more)
        }
    '
}
spared="$$ $PPID "$(echo $(having "$exempt=guard" "$exempt=detached/"))
[ -z "$outputs" ] || targets="$targets $(echo $(holders))"
if [ -n "${targets# }" ]; then
    # A process that is stopped cannot fork while the others are found.
    kill -s STOP -- $targets
    looks=0
    while [ $looks -lt 20 ] && more=$(echo $(descendants)) && [ -n "$more" ]; do
        kill -s STOP -- $more
        targets="$targets $more" looks=$((looks + 1))
    done
    kill -s KILL -- $targets
fi
quiet=0 looks=0
while [ $quiet -lt 5 ] && [ $looks -lt 200 ]; do
    quiet=$((quiet + 1)) looks=$((looks + 1))
    for file in $(having "$mark" "$mark"); do
        id=${file#/proc/}
        kill -s KILL "${id%/environ}" && quiet=0
    done
    [ -z "$outputs" ] || for id in $(holders); do kill -s KILL $id && quiet=0; done
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
        self._entries: dict[str, bytes] = {}
        self._outputs = 0
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

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on notice in this loop when the guard ends, and start another one."""
        self._loop = loop
        if self._pipe is not None:
            # Nothing ever comes from there; what is noticed is that the other end was closed.
            loop.add_reader(self._pipe, self._replace)
            self._write()

    def add_process(self, pid: int, target: int, start: int) -> None:
        """Put a process on the list: `target` is its pid, or minus its group, `start` its start time, 0 if unknown."""
        self._add(str(pid), str(target), start)

    def remove_process(self, pid: int) -> None:
        """Take it off the list: it is gone, and its number may become that of another process."""
        self._remove(str(pid))

    def watch_output(self, output: int) -> str:
        """Before a spawn, put on the list all that will have the child's output open, by the descriptor for that.

        The number of a child becomes known only when it runs already, and a descendant may leave its group and lose its
        parent and its mark at any time. Return a key for `forget_output`.
        """
        status = os.fstat(output)
        self._outputs += 1
        if stat.S_ISFIFO(status.st_mode):
            key = f"p{status.st_ino}_{self._outputs}"
        elif stat.S_ISCHR(status.st_mode):
            # Numbers of terminals are given out again soon.
            key = f"t{os.minor(status.st_rdev)}_{self._outputs}"
        else:
            return ""
        # Start times in /proc have this clock, in hundredths of a second. One that began in this hundredth counts.
        self._add(key, "output", int(time.clock_gettime(time.CLOCK_BOOTTIME) * 100))
        # At once: the loop has no turn before the child runs.
        self._write()
        return key

    def forget_output(self, key: str) -> None:
        """The other end of the output has been closed."""
        self._remove(key)

    def kill(self) -> None:
        """End the guard: nothing is left that would need it. It is not waited for."""
        if self._process is not None:
            # Not by closing the pipe, which would have it look for what is left. One that was stopped ends too.
            self._process.kill()
            self._close()

    def end_leftovers(self) -> None:
        """Have the guard end what is left, though we are still here."""
        self._send(b"alive\n")
        self._write()
        self._close()

    def _start(self) -> None:
        # Not at the top: asyncio, which is not there yet, needs it too.
        import subprocess

        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                (SHELL, "-c", SCRIPT, NAME, self._mark, self._mark.partition("=")[0]),
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
            self.use_loop(self._loop)
        self._send(b"".join(self._entries.values()))

    def _add(self, key: str, target: str, start: int) -> None:
        self._entries[key] = f"+ {key} {target} {start}\n".encode()
        self._send(self._entries[key])

    def _remove(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self._send(f"- {key}\n".encode())

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
