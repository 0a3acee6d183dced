"""Record the demo, `procreaper start` in one terminal and `procreaper ps -w` in another, as an animated SVG.

    python docs/record.py              write docs/procreaper.svg
    python docs/record.py FILE         write FILE

The first port of the demo is `PORT`, or 5000, or the next thousand whose ports are free.

Rules: the text and its timing come from a real run of docs/demo. The picture contains no script and no font, so it
also moves in an `<img>`. It begins with the frame of `STILL`: the first thing that a reader sees is full and coloured.
A viewer without animations shows this frame only.

Theory of operation. Each pane is a small terminal emulator: it knows colours, and the few cursor movements with which
`ps -w` redraws its table. The picture has one element for each text that a row shows, for as long as the text stays
the same; CSS keyframes show and hide the element.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
PROGRAM = (sys.executable, "-m", "procreaper")
# Give up after this many seconds.
LIMIT = 60.0
# Seconds: writes that come within this time share a frame; how long the still and the last frame are held.
TOGETHER, POSTER, HOLD = 0.04, 1.5, 2.0
COLUMNS, HEIGHTS = 112, (22, 5)
# The texts at which the second terminal opens, the still frame is taken, and Ctrl-C is pressed.
SECOND, STILL, STOP = "store.1 is healthy", "retry 2 in 2.0 s", "packing 4 frames"
CELL, LINE, MARGIN, BAR = 8.4, 19, 14, 30
COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd", 90: "#8b949e"}
PLAIN, BACKGROUND, FRAME, TITLE = "#d6dde5", "#0d1117", "#1c232d", "#8b949e"
BOLD = 1
SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|\x1b.|[\r\n]|[^\x1b\r\n]+")


class Cell(NamedTuple):
    character: str = " "
    code: int = 0


Row = tuple[Cell, ...]


class Screen:
    """A terminal emulator that keeps all rows and shows the last `height` of them."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.rows: list[list[Cell]] = [[]]
        self._row = self._column = self._code = 0
        self._main: list[list[Cell]] | None = None

    @property
    def shown(self) -> tuple[Row, ...]:
        last = len(self.rows) - (not self.rows[-1])
        return tuple(tuple(row) for row in self.rows[max(0, last - self.height) : last])

    @property
    def text(self) -> str:
        return "\n".join("".join(cell.character for cell in row) for row in self.rows)

    def write(self, text: str) -> None:
        for match in SEQUENCE.finditer(text):
            private, numbers, final = match[1], match[2], match[3]
            if match[0] == "\r":
                self._column = 0
            elif match[0] == "\n":
                self._row, self._column = self._row + 1, 0
                if self._row == len(self.rows):
                    self.rows.append([])
            elif final == "m":
                for number in numbers.split(";"):
                    # The bright colours, 91 to 97, look like the normal ones here.
                    code = int(number or 0)
                    if code != BOLD:
                        self._code = code if code in COLOURS else code - 60 if code - 60 in COLOURS else 0
            elif final == "H":
                self._row = self._column = 0
            elif final == "K":
                del self.rows[self._row][self._column :]
            elif final == "J":
                del self.rows[self._row + 1 :]
                del self.rows[self._row][self._column :]
            elif private and numbers == "1049":
                self._switch(final == "h")
            elif final is None and match[0][0] != "\x1b":
                self._put(match[0])

    def _put(self, text: str) -> None:
        row = self.rows[self._row]
        row += [Cell()] * (self._column - len(row))
        row[self._column : self._column + len(text)] = [Cell(character, self._code) for character in text]
        self._column += len(text)

    def _switch(self, other: bool) -> None:
        if other:
            self._main, self.rows, self._row = self.rows, [[]], 0
        elif self._main is not None:
            self.rows, self._main = self._main, None
            self._row, self._column = len(self.rows) - 1, 0


class Frame(NamedTuple):
    """The rows of each pane, from `moment` (seconds since the start) on."""

    moment: float
    panes: tuple[tuple[Row, ...], ...]


class Terminal:
    """A procreaper command on a pseudo-terminal, whose output goes to `screen`."""

    def __init__(self, screen: Screen, environment: dict[str, str], *arguments: str) -> None:
        self.screen = screen
        self._ours, its = os.openpty()
        termios.tcsetwinsize(its, (screen.height, COLUMNS))
        self.screen.write(f"procreaper {' '.join(arguments)}\n")
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=DOCS / "demo",
            env=environment,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)

    def fileno(self) -> int:
        return self._ours

    def read(self) -> bool:
        """Show the output that has arrived. Return whether more may come."""
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:
            # Linux reports the end of a terminal as EIO.
            data = b""
        self.screen.write(data.decode(errors="replace"))
        return bool(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def record(environment: dict[str, str]) -> tuple[list[Frame], int]:
    """Run the demo. Return its frames, and the index of the still frame."""
    screens = [Screen(height) for height in HEIGHTS]
    for screen in screens:
        screen.write("$ ")
    frames: list[Frame] = []
    still = 0
    began = time.monotonic()
    terminals = [Terminal(screens[0], environment, "start")]
    running = list(terminals)
    stopping = False
    try:
        while running:
            left = began + LIMIT - time.monotonic()
            ready, _, _ = select.select(running, [], [], max(0.0, left))
            if not ready:
                raise TimeoutError(f"the demo has not ended after {LIMIT} s:\n{screens[0].text}")
            time.sleep(TOGETHER)
            running = [one for one in running if one not in ready or one.read()]
            seen = screens[0].text
            if SECOND in seen and len(terminals) == 1:
                terminals.append(Terminal(screens[1], environment, "ps", "-w"))
                running.append(terminals[1])
            if STOP in seen and not stopping:
                stopping = True
                screens[0].write("^C\n")
                terminals[0].process.send_signal(signal.SIGINT)
            frames.append(Frame(time.monotonic() - began, tuple(screen.shown for screen in screens)))
            if STILL in seen and STILL in screens[1].text and not stopping:
                still = still or len(frames) - 1
    finally:
        for terminal in terminals:
            terminal.close()
    return frames, still or len(frames) - 1


class Spans:
    """The CSS animations, one for each span of frames; rows that appear and disappear together share one."""

    def __init__(self, frames: list[Frame], still: int) -> None:
        self._moments = [frame.moment for frame in frames]
        self._still = still
        self._total = POSTER + frames[-1].moment + HOLD
        self._spans: dict[tuple[int, int], str] = {}

    def name(self, first: int, end: int) -> str:
        """The CSS classes of an element that is visible from frame `first` until before frame `end`."""
        name = self._spans.setdefault((first, end), f"s{len(self._spans)}")
        return name if first <= self._still < end else f"{name} off"

    def css(self) -> str:
        return "".join(
            f".{name}{{animation:{name} {self._total:.2f}s step-end infinite}}@keyframes {name}{{{steps}}}\n"
            for name, steps in ((name, self._steps(*span)) for span, name in self._spans.items())
        )

    def _steps(self, first: int, end: int) -> str:
        changes = [(0.0, first <= self._still < end), (POSTER, first == 0)]
        changes.append((POSTER + (self._moments[first] if first else 0.0), True))
        if end < len(self._moments):
            changes.append((POSTER + self._moments[end], False))
        return "".join(
            f"{100 * at / self._total:.2f}%{{visibility:{'visible' if visible else 'hidden'}}}"
            for at, visible in changes
        )


def picture(frames: list[Frame], still: int) -> str:
    """Draw the frames as an animated SVG."""
    spans = Spans(frames, still)
    width = round(COLUMNS * CELL + 2 * MARGIN)
    parts, y = [], 0
    for pane, (height, title) in enumerate(zip(HEIGHTS, ("one terminal", "another terminal"), strict=True)):
        parts.append(
            f'<rect y="{y}" width="{width}" height="{BAR}" fill="{FRAME}"/>'
            f'<text class="title" x="{width / 2:g}" y="{y + 20}">{title}</text>\n'
        )
        y += BAR + MARGIN // 2
        parts += [_row(frames, spans, pane, number, y + LINE * number + 14) for number in range(height)]
        y += height * LINE + MARGIN // 2
    colours = "".join(f".c{code}{{fill:{colour}}}" for code, colour in COLOURS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img" '
        'xml:space="preserve">\n'
        "<title>procreaper start in one terminal, and procreaper ps -w in another</title>\n"
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        f"fill:{PLAIN};white-space:pre}}.title{{fill:{TITLE};text-anchor:middle}}{colours}"
        f".off{{visibility:hidden}}\n{spans.css()}"
        "@media(prefers-reduced-motion:reduce){*{animation:none!important}}</style>\n"
        f'<clipPath id="round"><rect width="{width}" height="{y}" rx="8"/></clipPath><g clip-path="url(#round)">\n'
        f'<rect width="{width}" height="{y}" fill="{BACKGROUND}"/>\n{"".join(parts)}</g></svg>\n'
    )


def _row(frames: list[Frame], spans: Spans, pane: int, number: int, y: int) -> str:
    """The elements of one row of a pane: each text that it shows, with the time for which it shows it."""
    parts = []
    seen = [frame.panes[pane][number] if number < len(frame.panes[pane]) else () for frame in frames]
    first = 0
    for end in range(1, len(seen) + 1):
        if end == len(seen) or seen[end] != seen[first]:
            if runs := _runs(seen[first]):
                parts.append(f'<text class="{spans.name(first, end)}" y="{y}">{runs}</text>\n')
            first = end
    return "".join(parts)


def _runs(row: Row) -> str:
    """The parts of a row, split where the colour changes."""
    parts, start = [], 0
    for end in range(1, len(row) + 1):
        if end == len(row) or row[end].code != row[start].code:
            text = "".join(cell.character for cell in row[start:end]).rstrip()
            if text.strip():
                colour = f' class="c{row[start].code}"' if row[start].code else ""
                parts.append(
                    f'<tspan{colour} x="{MARGIN + start * CELL:g}" textLength="{len(text) * CELL:g}">'
                    f"{escape(text, quote=False)}</tspan>"
                )
            start = end
    return "".join(parts)


def are_free(first: int) -> bool:
    """Whether the three ports of the demo, from `first` on, are free."""
    try:
        for port in range(first, first + 300, 100):
            socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Record the demo.")
    parser.add_argument("file", type=Path, nargs="?", default=DOCS / "procreaper.svg", help="by default %(default)s")
    target = parser.parse_args(arguments).file
    with tempfile.TemporaryDirectory(prefix="record-") as runtime:
        unwanted = ("NO_COLOR", "PROCFILE", "PORT")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        environment |= {"XDG_RUNTIME_DIR": runtime, "TERM": "xterm-256color"}
        first = os.environ.get("PORT") or next(port for port in range(5000, 60_000, 1000) if are_free(port))
        frames, still = record(environment | {"PORT": str(first)})
    target.write_text(picture(frames, still), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
