"""After `kill -9` at random moments, with processes that hide in all known ways, only the documented gap survives.

Rules: survivors are found by a unique argument, and not by their environment, which many of them clear.
The number of kills is PROCREAPER_TEST_KILLS, the first of them PROCREAPER_TEST_FIRST; each number is one case.
PROCREAPER_TEST_PLACE has all cases in one of the `PLACES`.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from support.driver import LIMIT, Project

from .watching import guards, wait_until_gone

KILLS = int(os.environ.get("PROCREAPER_TEST_KILLS", "6"))
FIRST = int(os.environ.get("PROCREAPER_TEST_FIRST", "0"))
PLACE = os.environ.get("PROCREAPER_TEST_PLACE", "")
# The argument of each `sleep` begins with a number of the case and the position in the Procfile. It ends with one of
# these if the process may survive, because it is in the gap or detached.
GAP, DETACHED = "0098", "0099"
KINDS = {
    "plain": "exec sleep N",
    "stubborn": "trap '' TERM INT HUP QUIT; sleep N & sleep N & while :; do wait; done",
    "setsid": "setsid sh -c 'sleep N & exec sleep N' & wait",
    "double fork": "(setsid sleep N &); exec sleep N",
    "closed": "(setsid sh -c 'exec sleep N <&- >&- 2>&-' &); exec sleep N",
    "cleared": "exec env -i sleep N",
    "cleared tree": "env -i sh -c 'setsid sh -c \"sleep N & wait\" & sleep N & wait'",
    "cleared, parent": "env -i setsid --wait sleep N",
    # On a terminal, the hang-up ends the parent.
    "cleared, parent, closed": f"env -i setsid --wait sh -c 'exec sleep N{GAP} <&- >&- 2>&-'",
    "cleared daemon": "(env -i setsid sleep N &); exec sleep N",
    "gap": f"(env -i setsid sh -c 'exec sleep N{GAP} <&- >&- 2>&-' &); exec sleep N",
    "crash": "(env -i setsid sleep N &); (setsid sh -c 'exec sleep N <&- >&- 2>&-' &); exit 1",
}
if os.geteuid() == 0:
    KINDS |= {
        "su": "su - nobody -s /bin/sh -c 'exec sleep N'",
        "runuser": "runuser -l nobody -s /bin/sh -c 'setsid sleep N & exec sleep N'",
        "setpriv": "setpriv --reuid=65534 --regid=65534 --clear-groups env -i setsid --wait sleep N",
    }
MOMENTS = ("start", "storm", "reload", "scale", "restart", "stop", "end", "idle")
PLACES = ("pipe", "terminal", "pty", "background", "detached", "commands")


@pytest.mark.timeout(60 + 30 * KILLS)
def test_kills_at_random_moments_leave_the_documented_gap_only(
    project: Project, record_property: pytest.RecordProperty
) -> None:
    kept: Counter[str] = Counter()
    lost: list[str] = []
    times = []
    alive = 0
    for number in range(FIRST, FIRST + KILLS):
        dice = random.Random(number)
        unique = str(dice.randrange(10**8, 10**9))
        moment, place = MOMENTS[number % len(MOMENTS)], dice.choice(PLACES)
        place = PLACE or place
        kinds = dice.choices(list(KINDS), k=4)
        prepare(project, dice, unique, moment, place, kinds)
        apps = begin(project, dice, unique, moment, place)
        alive += len(having(unique))
        times.append(kill_apps(apps))
        for pid, command in having(unique):
            if not re.search(rf"{unique}\.\d+{DETACHED}\b", command):
                inside = re.search(rf"{unique}\.\d+{GAP}\b", command) is not None
                kept["in the gap" if inside else "outside"] += 1
                case = f"case {number}, {moment}, {place}, {kinds}"
                lost += [] if inside else [f"{case}: {pid} ({command}) {described(pid)}"]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        project.clean_up()
        sys.stdout.write(f"{number}: {dict(kept)}, {alive} processes, {times[-1]:.1f} s\n" + "".join(lost[-1:]))
        sys.stdout.flush()
    slow = sum(took > 2 for took in times)
    text = (
        f"{KILLS} kills, {alive} processes, survivors: {dict(kept)}; {slow} times after 2 s, at most {max(times):.1f} s"
    )
    record_property("survivors", text)
    sys.stdout.write(f"{text}\n" + "".join(f"{line}\n" for line in lost))
    assert alive > KILLS
    assert lost == []


def prepare(project: Project, dice: random.Random, unique: str, moment: str, place: str, kinds: list[str]) -> None:
    commands = {f"p{at}": command_of(kind, f"{unique}.{at}") for at, kind in enumerate(kinds)}
    if place not in ("terminal", "pty"):
        # Without a terminal, the parent lives until the guard has found its children.
        commands = {name: text.replace(GAP, "") if "--wait" in text else text for name, text in commands.items()}
    tables = ['[defaults]\nrestart = "always"\nbackoff = "20ms"\nstop_all = "never"\nstop = { timeout = "300ms" }']
    if place == "pty":
        tables[0] += "\npty = true"
    if place == "detached":
        commands["apart"] = f"exec sleep {unique}.0{DETACHED}"
        tables.append('[process.apart]\ndetached = true\nlog = "apart.log"')
    if place == "commands":
        hook, check = (quoted(command_of(dice.choice(list(KINDS)), f"{unique}.{at}")) for at in (8, 9))
        tables.append(f'[process.p0]\nhealth = {{ exec = {check}, interval = "100ms", timeout = "300ms" }}')
        tables.append(f"[process.p1]\nhooks = {{ on_ready = {hook} }}")
    if moment == "storm":
        commands |= {f"crash{at}": command_of("crash", f"{unique}.{at}7") for at in range(3)}
    project.procfile(**commands)
    project.write(".reaper.toml", "\n".join(tables) + "\n")
    if moment == "reload":
        project.write("next", "".join(f"{name}: {command}; :\n" for name, command in commands.items()))


def command_of(kind: str, argument: str) -> str:
    return KINDS[kind].replace("sleep N", f"sleep {argument}")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def begin(project: Project, dice: random.Random, unique: str, moment: str, place: str) -> set[int]:
    """Start the app, wait for the moment, suspend the processes of procreaper, and return their pids."""
    state = {"XDG_STATE_HOME": str(project.path / "state")}
    arguments = ("start", "-D") if place == "background" else ("start",)
    program = project.begin(*arguments, env=state, terminal=place == "terminal")
    # Sometimes kill it before any process has started.
    if moment != "start" or dice.randrange(4):
        deadline = time.monotonic() + LIMIT
        while not having(unique):
            assert time.monotonic() < deadline, "no process has started"
            time.sleep(0.03)
    time.sleep(dice.uniform(0, 0.4) if moment == "start" else dice.uniform(0.2, 0.9))
    if moment == "reload":
        os.replace(project.path / "next", project.path / "Procfile")
    asked = {
        "reload": ("reload",),
        "scale": ("scale", "p0=3", "p1=0", "p2=2"),
        "restart": ("restart", "all"),
        "stop": ("stop", "p0", "p1", "p2"),
    }
    if moment in asked:
        project.begin(*asked[moment], env=state)
        time.sleep(dice.uniform(0.1, 0.7))
    elif moment == "end":
        for pid in find_apps(project.path):
            os.kill(pid, signal.SIGTERM)
        time.sleep(dice.uniform(0, 0.4))
    apps = {*find_apps(project.path), program.pid}
    for app in apps:
        with suppress(ProcessLookupError):
            os.kill(app, signal.SIGSTOP)
    return apps


def kill_apps(apps: set[int]) -> float:
    """Kill the processes of procreaper, and return the seconds that their guards took."""
    watching = [guard for app in apps for guard in guards(app)]
    began = time.monotonic()
    for app in apps:
        with suppress(ProcessLookupError):
            os.kill(app, signal.SIGKILL)
    wait_until_gone(watching)
    return time.monotonic() - began


def find_apps(directory: Path) -> list[int]:
    """The processes of procreaper for the app of this directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"procreaper" in words and b"start" in words and (entry / "cwd").samefile(directory):
                found.append(int(entry.name))
    return found


def having(unique: str) -> list[tuple[int, str]]:
    """The processes with this text in their command lines, with these; zombies have no command line."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/cmdline", "rb", 0) as file:
            command = file.read(10_000).replace(b"\0", b" ").decode(errors="replace")
            if unique in command:
                found.append((int(name), command))
    return found


def described(pid: int) -> str:
    """Facts that help to find out why the guard missed a survivor."""
    with suppress(OSError):
        links = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        mark = next((each for each in environment if each.startswith(b"PROCREAPER_APP")), b"no mark")
        state, parent, group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:4]
        return f"{state=} {parent=} {group=} {session=} {mark!r} {links}"
    return "gone by now"
