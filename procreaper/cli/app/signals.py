"""Signals of the command become requests.

Rules: installed by the command line only, never by the library. A signal asks for the end of the app; a second one
insists. The codes are the shell's, 128 plus the number. A window that changes its size is no request: it concerns only
the terminals of the children.

Theory of operation. Python writes the number of each signal to a descriptor, which wakes asyncio. asyncio's own is a
socket with room for some 270 signals; when a thousand children end at once, the numbers of later signals would be lost,
that of SIGTERM too. So a pipe with room for 65,536 takes its place, and each turn of the loop passes on what has come,
with one SIGCHLD for all.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from procreaper.core.events import Shutdown

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What stays ignored where it is: `nohup` asks for that, and a shell for its background.
OPTIONAL = (signal.SIGHUP, signal.SIGQUIT)
# They would end us by default, and leave everything running; foreman passes them on.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
PIPE_SIZE = 65536

SIGCHLD = bytes((signal.SIGCHLD,))

# The pipe that takes the numbers of signals, with the loop that it wakes.
_pipe: tuple[asyncio.AbstractEventLoop, int] | None = None


def follow_window(resize: Callable[[], None]) -> None:
    """From now on `resize` is called in the running loop when our terminal has another size."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resize)


def signals_as_requests(post: Callable[[Shutdown], None], say: Callable[[str], None]) -> None:
    """From now on every ending signal is announced by `say` and posted as a `Shutdown`, in the running loop.

    It stays so until the process ends: taken away earlier, a late Ctrl-C would find Python's own handler.
    """
    loop = asyncio.get_running_loop()

    def request(number: signal.Signals) -> None:
        say(f"{number.name} received")
        post(Shutdown(128 + number, insistent=True, by=number.name))

    # Who started us may have blocked them, and our children would inherit that too.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    for number in ENDING:
        if number in OPTIONAL and signal.getsignal(number) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(number, request, number)
    for number in IGNORED:
        # A handler and not SIG_IGN, which the children would inherit.
        loop.add_signal_handler(number, lambda: None)
    make_room()


def make_room() -> None:
    """Let no signal be lost because many come at once; call it again after each new handler of the running loop.

    It does nothing where the system has no descriptors left.
    """
    global _pipe
    loop = asyncio.get_running_loop()
    # There is no other way to learn which descriptor asyncio has chosen.
    wakes_asyncio = signal.set_wakeup_fd(-1)
    try:
        if _pipe is None or _pipe[0] is not loop:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
            loop.add_reader(reading, _pass_on, reading, wakes_asyncio)
            _pipe = loop, writing
    except OSError:
        signal.set_wakeup_fd(wakes_asyncio)
    else:
        signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)


def _pass_on(reading: int, wakes_asyncio: int) -> None:
    numbers = os.read(reading, PIPE_SIZE)
    others = numbers.replace(SIGCHLD, b"")
    with suppress(BlockingIOError):
        os.write(wakes_asyncio, others if len(others) == len(numbers) else others + SIGCHLD)
