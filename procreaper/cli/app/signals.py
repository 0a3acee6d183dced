"""Turn the signals of the command into requests.

Rules: only the command line installs these handlers, never the library. A signal asks the app to end; a second signal
insists. The exit codes are those of a shell, 128 plus the signal number. A change of the window size is not a request:
it concerns only the terminals of the children.

Theory of operation. Python writes the number of each signal to a descriptor, which wakes asyncio. asyncio's descriptor
is a socket with room for about 270 signals. When a thousand children end at once, the numbers of later signals would be
lost, even that of SIGTERM. So a pipe with room for 65,536 signals replaces the socket. Each turn of the loop passes the
numbers on to asyncio, with one SIGCHLD for all children.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from procreaper.core.events import Shutdown

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# These stay ignored if they are: `nohup` and the background jobs of a shell rely on that.
OPTIONAL = (signal.SIGHUP, signal.SIGQUIT)
# By default they would end procreaper, and leave the processes running. foreman passes them on.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
PIPE_SIZE = 65536

SIGCHLD = bytes((signal.SIGCHLD,))

# The write end of the pipe for signal numbers, with the loop that it wakes.
_pipe: tuple[asyncio.AbstractEventLoop, int] | None = None


def watch_window_size(resize: Callable[[], None]) -> None:
    """Call `resize` in the running loop whenever the size of our terminal changes."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resize)


def handle_signals(post: Callable[[Shutdown], None], say: Callable[[str], None]) -> None:
    """Announce every ending signal with `say` and post it as a `Shutdown`, in the running loop.

    The handlers stay until the process ends. Without them, a late Ctrl-C would run Python's own handler.
    """
    loop = asyncio.get_running_loop()

    def request(number: signal.Signals) -> None:
        say(f"{number.name} received")
        post(Shutdown(128 + number, insistent=True, by=number.name))

    # Our parent may have blocked them, and our children would inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    for number in ENDING:
        if number in OPTIONAL and signal.getsignal(number) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(number, request, number)
    for number in IGNORED:
        # A handler and not SIG_IGN, which the children would inherit.
        loop.add_signal_handler(number, lambda: None)
    use_large_pipe()


def use_large_pipe() -> None:
    """Make room for many signals at once. Call this again after each new signal handler of the running loop.

    It changes nothing if no descriptor is left.
    """
    global _pipe
    loop = asyncio.get_running_loop()
    # No other call returns the descriptor that asyncio uses.
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
