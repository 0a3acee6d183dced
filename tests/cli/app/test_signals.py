from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys
from procreaper.cli.app.signals import handle_signals

ignored, *sent = (getattr(signal, name) for name in sys.argv[1:])
signal.signal(ignored, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, sent)

async def main():
    asked = asyncio.Event()
    handle_signals(lambda request: (print(request.code), asked.set()), print)
    for number in sent:
        os.kill(os.getpid(), number)
    await asked.wait()

asyncio.run(main())
"""


FOLLOW = """
import asyncio, os, signal
from procreaper.cli.app.signals import watch_window_size

async def main():
    resized = asyncio.Event()
    watch_window_size(resized.set)
    os.kill(os.getpid(), signal.SIGWINCH)
    await resized.wait()
    print("resized")

asyncio.run(main())
"""


FLOOD = """
import asyncio, os, signal
from procreaper.cli.app.signals import use_large_pipe, handle_signals

async def main():
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, lambda: print("a child has ended"))
    handle_signals(lambda request: (print(request.code), request.code == 143 and ended.set()), print)
    for _ in range(2):
        ended.clear()
        for number in (*[signal.SIGCHLD] * 1000, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        await ended.wait()
        loop.add_signal_handler(signal.SIGCONT, print)
        use_large_pipe()

asyncio.run(main())
"""


def test_no_signal_is_lost_when_a_thousand_children_end_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=60, check=True)
    requests = ["SIGINT received", "130", "SIGINT received", "130", "SIGTERM received", "143"]
    assert (done.stdout.splitlines(), done.stderr) == ([*requests, "a child has ended"] * 2, "")


def test_window_size_change_calls_back() -> None:
    command = [sys.executable, "-c", FOLLOW]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "resized\n"


def told(*names: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", "130"), ("SIGTERM", "143"), ("SIGHUP", "129"), ("SIGQUIT", "131")]
)
def test_ending_signal_requests_shutdown_with_the_exit_code_of_a_shell(name: str, code: str) -> None:
    assert told("SIGCHLD", name) == [f"{name} received", code]


@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT"])
def test_ignored_hangup_and_quit_stay_ignored(name: str) -> None:
    assert told(name, name, "SIGTERM") == ["SIGTERM received", "143"]


def test_ignored_interrupt_is_handled_as_in_honcho() -> None:
    assert told("SIGINT", "SIGINT") == ["SIGINT received", "130"]
