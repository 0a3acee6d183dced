"""runit: a service directory for each process, with its environment, its log and its restart policy.

Rules: pure. Without a `.reaper.toml`, the export equals honcho's, except for values that would break (see
`honcho_compat`), and except that a stop reaches all processes of the group. With one, runit can express nearly
everything in scripts: `finish` has the restart policy with its back-off, `control/t` stops the process, `check` tests
whether it is up, and `run` waits for its dependencies.

Theory of operation. `chpst -e` sets a variable for each file in `env`: the first line without trailing blanks, with a
NUL for each line end; an empty file unsets it. `/usr/bin/env` sets the other values. A shell without these variables
reads the text that honcho puts after `chpst`. So only a single program with plain arguments is written there; every
other command runs in its own shell.

`-P` makes the process the leader of a group, and the scripts in `control` signal that group. `finish` keeps the number
of retries in a file beside it, and a `d` written to the control pipe means: stay down.
"""

from __future__ import annotations

import math
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator

from procreaper.core.checks import ExecCheck
from procreaper.core.plan import Condition, Dependency, When
from procreaper.errors import Problem
from procreaper.export.exporter import MARK, App, Exported, File, Rendered, slug
from procreaper.export.honcho_compat import differs, environment_of, is_plain, options_left_out, refuse
from procreaper.project.values import format_seconds

TARGET = "runit"
# The shape of honcho's scripts, and of ours without a .reaper.toml.
RUN = r"\A#![^\n]*\nexec 2>&1\nENVDIR=\$PWD/env\ncd [^\n]*\nexec chpst -u "
LOG = r"\A#!/bin/sh\nset -e\n\nLOG=[^\n]*\n\nif \[ ! -d \"\$LOG\" \]; then\n"
LEFT_OUT = {
    "watch": None,
    "hooks": "the script `finish` is the place for them",
    "stop_all": "the script `finish` can call `sv down` for the others",
    "stop.timeout": "`sv -w SECONDS force-stop` kills the remaining processes after SECONDS",
    "log.max_size": "without `log` svlogd keeps and rotates what the process writes",
    "log.max_files": None,
    "pty": None,
}


def render(app: App) -> Rendered:
    """Return the service directories. Raises ConfigError for names and paths that they cannot contain."""
    refuse(app, TARGET)
    problems = options_left_out(app, TARGET)
    files: list[File] = []
    for one in app.processes:
        files += _supervised(app, one, problems) if app.supervised else _as_honcho(app, one, problems)
    return Rendered(tuple(files), tuple(problems), f"{re.escape(app.name)}-.+")


def _as_honcho(app: App, one: Exported, problems: list[Problem]) -> Iterator[File]:
    environment = environment_of(one, problems)
    for name, value in environment.items():
        if _in_file(value) != value:
            problems.append(differs(f"the value of `{name}`", "runit would change the end of it, or unset it"))
    script = one.script
    if not is_plain(script):
        why = "a shell that does not have its environment would read it, and `chpst` would get what is left"
        problems.append(differs(f"the command of `{one.process.type}`", why))
        script = f"{app.shell} -c {shlex.quote(one.exec_script)}"
    lines = (f"#!{app.shell}", "exec 2>&1", "ENVDIR=$PWD/env", f"cd {_path(app.root, problems)}")
    yield from _variables(app, one, environment)
    yield _script(app, one, "run", *lines, *_start(app, environment, script, "-P "))
    yield from _control(app, one, f'kill -s {one.stop_signal} -- "-$pid"')
    yield from _svlogd(app, one, problems)


def _supervised(app: App, one: Exported, problems: list[Problem]) -> Iterator[File]:
    process = one.process
    environment = environment_of(one, problems)
    _warn_left_out(app, one, problems)
    waits = [
        f"until sv start ../{app.name}-{slug(edge.name)} >/dev/null; do sleep 1; done"
        for edge in process.depends_on
        if edge.condition is not Condition.COMPLETED
    ]
    output = ["exec 2>&1"]
    if process.log is not None:
        output = [f"mkdir -p {shlex.quote(posixpath.dirname(process.log.path))}"]
        output += [f"exec >>{shlex.quote(process.log.path)} 2>&1"]
    place = ("ENVDIR=$PWD/env", f"cd {shlex.quote(process.cwd or app.root)} || exit 1")
    inner = f"{app.shell} -c {shlex.quote(one.exec_script)}"
    lines = (*output, *waits, "date +%s >supervise/started", *place, *_start(app, environment, inner, "-P "))
    yield from _variables(app, one, environment)
    yield _script(app, one, "run", *_begin(), *lines)
    yield _script(app, one, "finish", *_begin(), *_finish(one))
    yield from _control(app, one, *_stop(app, one, environment, place))
    if process.health is not None and isinstance(process.health.check, ExecCheck):
        check = shlex.join(process.health.check.argv)
        yield _script(app, one, "check", *_begin(), "exec >/dev/null 2>&1", *place, *_start(app, environment, check))
    if not one.autostart:
        yield File(f"{_directory(app, one)}/down", "", known_by=None)
    if process.log is None:
        yield from _svlogd(app, one, problems)


def _directory(app: App, one: Exported) -> str:
    return f"{app.name}-{one.slug}"


def _script(app: App, one: Exported, name: str, *lines: str) -> File:
    text = "\n".join((*lines, "") if app.supervised else lines)
    shape = f"(?:{LOG if name == 'log/run' else RUN}|{re.escape(MARK)})"
    return File(f"{_directory(app, one)}/{name}", text, executable=True, known_by=shape)


def _begin() -> tuple[str, ...]:
    return ("#!/bin/sh", f"# {MARK}")


def _variables(app: App, one: Exported, environment: dict[str, str]) -> Iterator[File]:
    values = {name: content for name, value in environment.items() if (content := _in_file(value)) is not None}
    for name, content in {**values, **dict.fromkeys(one.unset, "")}.items():
        yield File(f"{_directory(app, one)}/env/{name}", content, known_by=None)


def _in_file(value: str) -> str | None:
    """Return the content of the file for a variable; None if no file can express the value."""
    if value.endswith((" ", "\t")):
        return None
    return value.replace("\n", "\0") or "\n"


def _start(app: App, environment: dict[str, str], script: str, options: str = "") -> Iterator[str]:
    """Return the last command of a script: it runs the program as the user, in its environment."""
    words = [shlex.quote(f"{name}={value}") for name, value in environment.items() if _in_file(value) is None]
    before = f"/usr/bin/env {' '.join(words)} " if words else ""
    yield f'exec chpst -u {app.user} {options}-e "$ENVDIR" \\'
    yield f"  {before}{script}"


def _path(path: str, problems: list[Problem]) -> str:
    quoted = shlex.quote(path)
    if quoted != path:
        problems.append(differs(f"`{path}`", "the shell would split it, or read something into it"))
    return quoted


def _svlogd(app: App, one: Exported, problems: list[Problem]) -> Iterator[File]:
    directory = _path(f"{app.log}/{one.slug}", problems)
    lines = ("set -e", "", f"LOG={directory}", "", 'if [ ! -d "$LOG" ]; then', '    mkdir -p -m 2750 "$LOG"')
    owner = f'    chown {app.user} "$LOG"'
    begin = _begin() if app.supervised else _begin()[:1]
    yield _script(app, one, "log/run", *begin, *lines, owner, "fi", "", f'exec chpst -u {app.user} svlogd "$LOG"')


def _finish(one: Exported) -> Iterator[str]:
    """Write the restart policy: `d` keeps the service down, and a sleep here delays the next run."""
    process, backoff = one.process, one.process.backoff
    stay_down = "printf d >supervise/control"
    yield "# Asked to be down: there is nothing to decide"
    yield 'case $(cat supervise/stat) in *", want"*) rm -f supervise/retries; exit ;; esac'
    if one.restart is When.NEVER:
        yield stay_down
        return
    if one.restart is When.ON_FAILURE:
        yield "# $1 is the exit code; after a signal it is -1, and $2 has the number"
        yield "code=$1"
        yield '[ "$code" -ge 0 ] || code=$((128 + ($2 & 127)))'
        codes = "|".join(map(str, sorted(process.success_codes)))
        yield f"case $code in {codes or '-'}) rm -f supervise/retries; {stay_down}; exit ;; esac"
    yield "retries=$(cat supervise/retries 2>/dev/null || echo 0)"
    yield "started=$(cat supervise/started 2>/dev/null || date +%s)"
    yield f"[ $(($(date +%s) - started)) -lt {math.ceil(backoff.reset)} ] || retries=0"
    yield "retries=$((retries + 1))"
    if process.max_retries is not None:
        yield f'[ "$retries" -le {process.max_retries} ] || {{ rm -f supervise/retries; {stay_down}; exit; }}'
    yield 'echo "$retries" >supervise/retries'
    yield "case $retries in"
    retry = 1
    while backoff.wait(retry) < backoff.maximum:
        yield f"    {retry}) sleep {format_seconds(backoff.wait(retry))} ;;"
        retry += 1
    yield f"    *) sleep {format_seconds(backoff.maximum)} ;;"
    yield "esac"


def _stop(app: App, one: Exported, environment: dict[str, str], place: tuple[str, ...]) -> Iterator[str]:
    """Return the commands that replace SIGTERM to the process alone."""
    stop = one.process.stop
    if stop.command is not None:
        yield from (*place, *_start(app, environment, f"{app.shell} -c {shlex.quote(stop.command)}"))
    else:
        yield f'kill -s {one.stop_signal} {"" if stop.only_main else "-- -"}"$pid"'


def _control(app: App, one: Exported, *stop: str) -> Iterator[File]:
    """Return the scripts that stop and kill the whole group of the process, because runsv signals only the process."""
    for name, lines in {"t": stop, "k": ('kill -s KILL -- "-$pid"',)}.items():
        group = (
            "pid=$(cat supervise/pid)",
            "# Before its program starts, the process is a shell without a group of its own",
            f'kill -s 0 -- "-$pid" 2>/dev/null || {{ kill{" -s KILL" if name == "k" else ""} "$pid"; exit; }}',
        )
        content = "\n".join(("#!/bin/sh", f"# {MARK}", *group, *lines, ""))
        yield File(f"{_directory(app, one)}/control/{name}", content, executable=True)


def _warn_left_out(app: App, one: Exported, problems: list[Problem]) -> None:
    process = one.process
    keys = dict(LEFT_OUT)
    health = process.health
    if health is not None and isinstance(health.check, ExecCheck):
        message = f"`health` of `{process.type}` counts only at its start: {TARGET} does not restart the unhealthy"
        problems.append(app.warning(one, "health", message))
        problems += app.left_out(one, TARGET, {"health.log": None})
    else:
        keys["health"] = "a command, as `exec`, becomes the script `check`"
    problems += app.left_out(one, TARGET, keys)
    others = {other.name: other.process for other in app.processes}

    def tell(edges: Iterable[Dependency], what: str, hint: str) -> None:
        if names := app.names(edges):
            message = f"`depends_on` of `{process.type}`: {TARGET} {what} {names}"
            problems.append(app.warning(one, "depends_on", message, hint))

    def has_command(edge: Dependency) -> bool:
        health = others[edge.name].health
        return health is not None and isinstance(health.check, ExecCheck)

    edges = process.depends_on
    completed = [edge for edge in edges if edge.condition is Condition.COMPLETED]
    tell(completed, "does not wait for the end of", "run that in the command of the other, before it")
    unchecked = [edge for edge in edges if edge.condition is Condition.HEALTHY and not has_command(edge)]
    tell(unchecked, "knows no command for the health, and waits only for the start, of", "say its health as `exec`")
    tell((edge for edge in edges if edge.restart), "restarts no process together with", "`sv restart` both")
