"""The child of the benchmarks: writes numbered lines as fast as the pipe takes them, or one line every 10 ms.

    producer.py DIRECTORY NAME lines COUNT      COUNT lines, then waits to be stopped
    producer.py DIRECTORY NAME flood SECONDS    lines without end, for at most SECONDS
    producer.py DIRECTORY NAME ticks COUNT      COUNT lines, one every 10 ms, each with the moment it was written

DIRECTORY contains two named pipes. The producer builds its lines, writes one byte to `ready`, and waits until the
benchmark opens `gate`. So no measurement includes the start of the interpreter or the building of lines.

Every line has 100 bytes including its newline, with the name of the producer and the number of the line:
`@p01 000000123 xxxx.` A block of a thousand lines is a template in which `bytes.replace` sets the thousands, so the
building runs in C.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

LINE_BYTES = 100
MARK = b"@"
DIGITS = 9
BLOCK_LINES = 1000
TICK_SECONDS = 0.01
# A forgotten producer ends after this time.
LIFETIME_SECONDS = 900


def line(name: str, number: int) -> bytes:
    """Return one whole line with its newline."""
    head = b"%s%s %09d " % (MARK, name.encode(), number)
    return head + filling(name) + b"\n"


def filling(name: str) -> bytes:
    """Return the text between number and newline; the dot at its end proves that the line is complete."""
    return b"x" * (LINE_BYTES - len(MARK) - len(name) - DIGITS - 4) + b"."


def blocks(name: str, count: int) -> Iterator[bytes]:
    """Yield `count` lines, numbered from 0, in blocks of a thousand."""
    head = b"%s%s " % (MARK, name.encode())
    template = b"".join(line(name, number) for number in range(BLOCK_LINES))
    for thousands in range(count // BLOCK_LINES):
        yield template.replace(head + b"000000", head + b"%06d" % thousands)
    whole = count // BLOCK_LINES * BLOCK_LINES
    yield b"".join(line(name, number) for number in range(whole, count))


def write_all(data: bytes) -> None:
    """Write to standard output. A pipe may take a part only, if a signal interrupts the write."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def wait_at_gate(directory: str) -> None:
    """Report that this producer is ready, and wait until the gate opens."""
    ready = os.open(os.path.join(directory, "ready"), os.O_WRONLY)
    os.write(ready, b".")
    os.close(ready)
    os.close(os.open(os.path.join(directory, "gate"), os.O_RDONLY))


def write_lines(directory: str, name: str, count: int) -> None:
    """Write a known number of lines, built beforehand."""
    built = list(blocks(name, count))
    wait_at_gate(directory)
    for block in built:
        write_all(block)


def flood(directory: str, name: str, seconds: int) -> None:
    """Write lines until the time is over. Their numbers repeat, because they are not checked."""
    built = b"".join(blocks(name, 10 * BLOCK_LINES))
    wait_at_gate(directory)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        write_all(built)


def write_ticks(directory: str, name: str, count: int) -> None:
    """Write one line every 10 ms, with the time of the write. The schedule does not drift."""
    wait_at_gate(directory)
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number * TICK_SECONDS - time.monotonic()))
        write_all(b"%s%s %09d %d.\n" % (MARK, name.encode(), number, time.monotonic_ns()))


def main() -> None:
    directory, name, kind, amount = sys.argv[1:]
    signal.alarm(LIFETIME_SECONDS)
    {"lines": write_lines, "flood": flood, "ticks": write_ticks}[kind](directory, name, int(amount))
    # If this producer ended now, a Procfile manager would end the others in the middle of their lines.
    signal.pause()


if __name__ == "__main__":
    main()
