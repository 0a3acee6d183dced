"""The data types of the benchmarks: a table has columns and cases; a case takes one sample of one peer.

A measurement is a module of `measurements/` with a function `tables(settings)`. It knows no other peer, no other run
and no median: `run.py` interleaves the samples, and `report.py` prints the results.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from peers import Peer


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings from the command line for all measurements; `quick` means rough figures from short runs."""

    quick: bool
    runs: int

    @property
    def seconds(self) -> float:
        """Duration of a run under load, in seconds."""
        return 0.5 if self.quick else 1.0

    @property
    def most_lines(self) -> int:
        """The maximum number of lines of all producers of a run; they are built in memory beforehand."""
        return 200_000 if self.quick else 1_000_000

    @property
    def stall(self) -> float:
        """Seconds for which memory is measured under a flood, and for which a reader stalls."""
        return 1.0 if self.quick else 2.0


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of each peer; `show` formats it."""

    label: str
    show: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one run by column; a note explains a figure, or why there is none."""

    values: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to take a sample. `measure` returns figures for `columns`, and may raise `session.SampleError`.

    `repeat` is the number of samples in each run, for short samples that vary.
    """

    label: str
    columns: tuple[str, ...]
    measure: Callable[[Peer], Sample]
    limit: float = 60.0
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the report; `measurement` is its name for `--only` and for the `unfit` of a peer."""

    measurement: str
    title: str
    columns: tuple[Column, ...]
    cases: tuple[Case, ...]


def show_rate(value: float) -> str:
    """Show lines per second."""
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:,.1f} k"


def show_seconds(value: float) -> str:
    """Show a duration with three digits, in the unit that fits."""
    if value >= 10:
        return f"{value:.1f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return (
        f"{value * 1e3:.0f} ms"
        if value >= 0.1
        else f"{value * 1e3:.1f} ms"
        if value >= 0.01
        else f"{value * 1e3:.2f} ms"
    )


def show_memory(value: float) -> str:
    """Show bytes."""
    return f"{value / 2**20:.1f} MiB"


def show_count(value: float) -> str:
    """Show a count, or events per second."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def show_share(value: float) -> str:
    """Show a share of one core."""
    return f"{value * 100:.2f} %"
