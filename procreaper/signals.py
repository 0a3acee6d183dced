"""Signals of the command become requests.

Rules: installed by the command line only, never by the library. A signal asks for the end of the app; a second one
insists. The codes are the shell's, 128 plus the number. A window that changes its size is no request: it concerns only
the terminals of the children.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from procreaper.events import Shutdown

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What stays ignored where it is: `nohup` asks for that, and a shell for its background.
OPTIONAL = (signal.SIGHUP, signal.SIGQUIT)
# They would end us by default, and leave everything running; foreman passes them on.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)


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
