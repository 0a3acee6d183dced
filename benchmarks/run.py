"""Compare procreaper with other managers, and print a report in Markdown.

    python benchmarks/run.py                            all measurements, about a quarter of an hour
    python benchmarks/run.py --quick                    rough figures within some minutes
    python benchmarks/run.py --only start --runs 9
    python benchmarks/run.py --peers procreaper,honcho --peer 'mine=/opt/mine/bin/mine start'

The samples of the peers are interleaved, A B C A B C, so that other work of the machine affects all of them. Each peer
is warmed up once: its files are then in memory, and its byte code is written. Progress goes to standard error.
"""

import argparse
import datetime
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import machine
import processes
import report
from measurement import Case, Settings, Table
from measurements import MEASUREMENTS
from peers import REFERENCE, Peer, known_peers
from session import SampleError, Session, time_limit

RUNS, QUICK_RUNS = 3, 1
WARM_UP_SECONDS = 30.0
# After this number of failures, a peer is skipped for the case: each failure may take as long as the limit.
MOST_FAILURES = 2
README = Path(__file__).with_name("README.md")
HEADING = "## The last table\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description="Compare procreaper with other managers.")
    parser.add_argument("--quick", action="store_true", help="rough figures from short runs, each taken once")
    parser.add_argument(
        "--only", action="append", choices=tuple(MEASUREMENTS), metavar="MEASUREMENT", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument("--peers", metavar="A,B", help="measure these; default: all that are installed")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="call a known peer by this command, or add one that runs a Procfile",
    )
    parser.add_argument("--runs", type=int, metavar="N", help=f"samples of each figure (default: {RUNS})")
    parser.add_argument("--write", action="store_true", help="also put the report into benchmarks/README.md")
    given = parser.parse_args(arguments)
    if given.runs is None:
        given.runs = QUICK_RUNS if given.quick else RUNS
    if given.runs < 1:
        parser.error("--runs must be at least 1")
    for definition in given.peer:
        name, equals, command = definition.partition("=")
        if not (name and equals and shlex.split(command)):
            parser.error(f"--peer takes NAME=COMMAND, not {definition!r}")
    return given


def choose(given: argparse.Namespace) -> list[Peer]:
    """Return the selected and installed peers, in the order of the report."""
    commands = dict(definition.split("=", 1) for definition in given.peer)
    known = known_peers(commands)
    if given.peers is None:
        return [peer for peer in known if peer.program]
    wanted = [*given.peers.split(","), *commands]
    for name in wanted:
        if name not in {peer.name for peer in known}:
            raise SystemExit(f"run.py: there is no peer {name!r}; known: {', '.join(peer.name for peer in known)}")
    chosen = [peer for peer in known if peer.name in wanted]
    if missing := [peer.name for peer in chosen if not peer.program]:
        raise SystemExit(f"run.py: not installed: {', '.join(missing)}")
    return chosen


def warm_up(peer: Peer) -> bool:
    """Run a peer once without measuring. Return whether it works."""
    session = Session(peer)
    session.add_sleepers(1)
    try:
        with time_limit(WARM_UP_SECONDS), session:
            session.wait_ready()
    except SampleError as error:
        say(f"{peer.name} is left out: {error}")
        return False
    finally:
        processes.end_everything()
    return True


def take(case: Case, table: Table, peer: Peer, results: report.Results) -> bool:
    """Take one sample of a case. Return whether it succeeded."""
    try:
        with time_limit(case.limit):
            sample = case.measure(peer)
    except SampleError as error:
        for column in case.columns:
            results.note(report.Figure(table.title, peer.name, column), str(error))
        say(f"  {peer.name}: {error}")
        return False
    finally:
        # The time limit may have interrupted the clean-up of a session.
        processes.end_everything()
    results.add(table, peer, sample)
    return True


def measure(tables: Sequence[Table], peers: Sequence[Peer], settings: Settings) -> report.Results:
    """Take all samples."""
    results = report.Results()
    for table in tables:
        for case in table.cases:
            watch = machine.Watch()
            failures = dict.fromkeys((peer.name for peer in peers if table.measurement not in peer.unfit), 0)
            for _ in range(settings.runs * case.repeat):
                for peer in peers:
                    if failures.get(peer.name, MOST_FAILURES) < MOST_FAILURES:
                        failures[peer.name] += not take(case, table, peer, results)
            say(f"{case.label}: {watch.seconds():.0f} s, others kept {watch.work_of_others():.2f} cores busy")
    return results


def preface(given: argparse.Namespace, peers: Sequence[Peer], watch: machine.Watch) -> str:
    """Return the head of the report: machine, versions and conditions of the run."""
    versions = [f"{peer.name} {peer.version()}".strip() for peer in peers]
    remarks = [f"{peer.name}: {peer.remark}." for peer in peers if peer.remark]
    runs = "one run" if given.runs == 1 else f"medians of {given.runs} runs"
    lines = [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {machine.describe()}.",
        f"{', '.join(versions)}.",
        f"{'Short runs, ' if given.quick else ''}{runs}; {watch.seconds() / 60:.0f} minutes, in which other work kept "
        f"{watch.work_of_others():.2f} cores busy.",
        "",
        f"In a cell: the median, its ratio to {REFERENCE}'s, and the lowest and the highest of the runs. For lines per "
        "second more is better, for everything else less.",
        *remarks,
    ]
    return "\n".join(lines)


def write_into(readme: Path, text: str) -> None:
    """Replace the text below the last heading."""
    before, heading, _ = readme.read_text("utf-8").partition(HEADING)
    if not heading:
        raise SystemExit(f"run.py: {readme.name} has no line {HEADING.strip()!r}")
    readme.write_text(f"{before}{heading}\n{text}", "utf-8")


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    given = parse(arguments)
    if sys.platform != "linux":
        raise SystemExit("run.py: the benchmarks need Linux: they read /proc")
    chosen = choose(given)
    settings = Settings(quick=given.quick, runs=given.runs)
    processes.become_subreaper()
    # A signal that ends the benchmark must run its `finally` clauses.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    watch = machine.Watch()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        tempfile.tempdir = directory
        try:
            peers = [peer for peer in chosen if warm_up(peer)]
            names = [name for name in MEASUREMENTS if given.only is None or name in given.only]
            tables = [table for name in names for table in MEASUREMENTS[name](settings)]
            results = measure(tables, peers, settings)
            head = preface(given, peers, watch)
        finally:
            processes.end_everything()
            tempfile.tempdir = None
    text = f"{head}\n\n{report.render(tables, peers, results)}"
    print(text, end="")
    if given.write:
        write_into(README, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
