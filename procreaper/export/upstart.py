"""upstart: a job for the app, one for each process type, and one for each process.

Rules: pure. Without a `.reaper.toml`, the export equals honcho's, except for values that would break (see
`honcho_compat`). With one, it contains all settings that upstart can express.

Theory of operation. A job follows the events of the jobs above it: `start on starting app-web`. A value of `env` may be
quoted as for a shell, but a backslash has a meaning also within single quotes, and a line end counts as a blank. So the
shell that `su` starts sets such values. After `exec`, honcho writes the command. Here it is a single program with plain
arguments, because otherwise only the first of several commands would run.
"""

from __future__ import annotations

import math
import posixpath
import re
import shlex
from collections.abc import Iterator
from itertools import groupby

from procreaper.core.plan import Condition, When
from procreaper.errors import Problem
from procreaper.export.exporter import MARK, App, Exported, File, Rendered, signal_name, slug
from procreaper.export.honcho_compat import differs, environment_of, is_plain, options_left_out, refuse
from procreaper.export.warnings import keeps_signal

TARGET = "upstart"
NAME = r"[\s\"'\\()#]"
# The shape of honcho's jobs, and of ours without a .reaper.toml.
MASTER = r"\Astart on \(started network-interface\n {10}or started network-manager\n"
GROUP = r"\Astart on starting [^\n]*\nstop on stopping [^\n]*\n?\Z"
PROCESS = r"\Astart on starting [^\n]*\nstop on stopping [^\n]*\nrespawn\n\n(?s:.*)\nexec su - "
LEFT_OUT = {
    "health": None,
    "watch": None,
    "hooks": "`post-start` and `post-stop` of a job are the place for them",
    "backoff": "upstart restarts at once",
    "log.max_size": "logrotate can rotate the file, with `copytruncate`",
    "log.max_files": None,
    "stop_all": "another job can follow the event `stopped`",
    "pty": None,
    "stop.only_main": "upstart ends the whole group",
}
NETWORK = """start on (started network-interface
          or started network-manager
          or started networking)

stop on (stopping network-interface
         or stopping network-manager
         or stopping networking)"""


def render(app: App) -> Rendered:
    """Return the jobs. Raises ConfigError for names and paths that a job cannot contain."""
    refuse(app, TARGET, of_name=NAME)
    problems = options_left_out(app, TARGET)
    files = [_file(app, app.name, MASTER, NETWORK)]
    for kind, members in groupby(app.processes, lambda one: one.process.type):
        name = f"{app.name}-{kind}"
        files.append(_file(app, name, GROUP, f"start on starting {app.name}", f"stop on stopping {app.name}"))
        for one in members:
            if one.keeps_shell:
                # `su` starts a session, so that the signal for the job's group does not reach it, and passes the
                # signal on to the shell alone.
                problems.append(keeps_signal(one, TARGET))
            lines = _supervised(app, one, problems) if app.supervised else _as_honcho(app, one, problems)
            files.append(_file(app, f"{app.name}-{one.slug}", PROCESS, *lines))
    return Rendered(tuple(files), tuple(problems), rf"{re.escape(app.name)}(-.+)?\.conf")


def _file(app: App, name: str, shape: str, *lines: str) -> File:
    text = "\n".join((f"# {MARK}", *lines, "") if app.supervised else lines)
    return File(f"{name}.conf", text, known_by=f"(?:{shape}|{re.escape(MARK)})")


def _as_honcho(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    environment = environment_of(one, problems)
    others = {name: value for name, value in environment.items() if not _is_sayable(value)}
    problems += (differs(f"the value of `{name}`", "upstart would not leave it as it is") for name in others)
    yield from _events(f"{app.name}-{one.process.type}")
    yield from ("respawn", "", *_variables(environment, others), "")
    yield f"exec {_su(app)} {_command(app, one, others, problems)}"


def _events(above: str) -> tuple[str, str]:
    return f"start on starting {above}", f"stop on stopping {above}"


def _variables(environment: dict[str, str], others: dict[str, str]) -> Iterator[str]:
    return (f"env {name}={shlex.quote(value)}" for name, value in environment.items() if name not in others)


def _is_sayable(value: str) -> bool:
    return "\\" not in value and "\n" not in value


def _su(app: App) -> str:
    return f"su - {app.user} -m -s {app.shell} -c"


def _command(app: App, one: Exported, others: dict[str, str], problems: list[Problem]) -> str:
    """Return, as one word, the command line for the shell that `su` starts."""
    root = app.root
    script = f"exec {one.script}"
    is_program = script == one.exec_script or is_plain(one.script)
    if is_program and not re.search(r"['\n]", script) and shlex.quote(root) == root and not others:
        return f"'cd {root}; {script}'"
    if shlex.quote(root) != root:
        problems.append(differs(f"`{root}`", "the shell would split it, or read something into it"))
    elif not others:
        why = "with `exec` before it only a part of it would be run"
        if is_program and "'" in script:
            why = "the shell would take its `'` for the end"
        problems.append(differs(f"the command of `{one.process.type}`", why))
    return _script(f"cd {shlex.quote(root)}", *_exports(others), one.exec_script)


def _exports(variables: dict[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        if "\n" in value:
            # The full stop keeps trailing line ends, which `$(...)` would remove.
            yield f"{name}=\"$(printf '%b.' {shlex.quote(_escaped(value))})\"; {name}=${{{name}%.}}; export {name}"
        else:
            yield f"export {name}={shlex.quote(value)}"


def _script(*commands: str) -> str:
    """Return commands as one word on one line, because the stanza `exec` takes only that."""
    script = "; ".join(commands)
    if "\n" in script:
        script = f"eval \"$(printf '%b' {shlex.quote(_escaped(script))})\""
    return shlex.quote(script)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _supervised(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    process, stop = one.process, one.process.stop
    environment = environment_of(one, problems)
    _warn_left_out(app, one, problems)
    others = {name: value for name, value in environment.items() if not _is_sayable(value)}
    begin = [f"unset {name}" for name in one.unset]
    begin += [f"cd {shlex.quote(process.cwd or app.root)} || exit 1", *_exports(others)]
    output = []
    if process.log is not None:
        output = [f"mkdir -p {shlex.quote(posixpath.dirname(process.log.path))}"]
        output += [f"exec >>{shlex.quote(process.log.path)} 2>&1"]
    above = f"{app.name}-{process.type}"
    yield f'description "{process.name} of {app.name}"'
    if one.autostart:
        yield f"start on {_conditions(app, one, above)}"
    if not process.detached:
        yield f"stop on stopping {above}"
    if process.oneshot:
        yield "task"
    yield from _respawn(one)
    yield f"kill signal {'CONT' if stop.command else one.stop_signal}"
    yield f"kill timeout {math.ceil(stop.timeout)}"
    yield from ("", *_variables(environment, others), "")
    if stop.command:
        yield f"pre-stop exec {_su(app)} {_script(*begin, stop.command)}"
    yield f"exec {_su(app)} {_script(*begin, *output, one.exec_script)}"


def _conditions(app: App, one: Exported, above: str) -> str:
    words = [f"starting {above}"]
    for edge in one.process.depends_on:
        job = f"{app.name}-{slug(edge.name)}"
        words.append(f"stopped {job} RESULT=ok" if edge.condition is Condition.COMPLETED else f"started {job}")
    return words[0] if len(words) == 1 else f"({' and '.join(words)})"


def _respawn(one: Exported) -> Iterator[str]:
    process = one.process
    if one.restart is When.NEVER:
        return
    yield "respawn"
    if process.max_retries is None:
        yield "respawn limit unlimited"
    else:
        yield f"respawn limit {process.max_retries} {math.ceil(process.max_retries * process.backoff.reset)}"
    if one.restart is When.ON_FAILURE:
        codes = sorted(process.success_codes)
        signals = [name for code in codes if code > 128 and not (name := signal_name(code - 128)).isdigit()]
        yield f"normal exit {' '.join((*map(str, codes), *signals))}"


def _warn_left_out(app: App, one: Exported, problems: list[Problem]) -> None:
    process = one.process
    problems += app.left_out(one, TARGET, LEFT_OUT)
    if names := app.names(edge for edge in process.depends_on if edge.condition is Condition.HEALTHY):
        message = (
            f"`depends_on` of `{process.type}`: {TARGET} waits only for the start of {names}, and checks no health"
        )
        problems.append(app.warning(one, "depends_on", message, "`post-start` can wait until a job is ready"))
    if names := app.names(edge for edge in process.depends_on if edge.restart):
        message = f"`depends_on` of `{process.type}`: {TARGET} restarts no process together with {names}"
        problems.append(app.warning(one, "depends_on", message, "restart the app"))
