"""systemd: a target for the app, one for each process type, and a service for each process.

Rules: pure. Without a `.reaper.toml`, the export equals honcho's, except for values that would break (see
`honcho_compat`), and except that a stop reaches all processes of a service. With one, it contains all settings that
systemd can express.

Theory of operation. A unit file has three layers of syntax. `%` begins a specifier everywhere. Quotes and C escapes
have a meaning in lists of words. `$` has a meaning in a command: `$PORT` within a longer word is left to the shell, but
`${PORT}` and `$$` are not. honcho's single quotes work as long as the text contains none of these.

A dependency starts first, and a `oneshot` must succeed. `max_retries` becomes a limit of starts within the time that
this number of retries takes. `RestartSec` cannot grow before systemd 254, so the settings that double it are comments.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby

from procreaper.core.plan import Condition, Dependency, When
from procreaper.errors import Problem
from procreaper.export.exporter import MARK, App, Exported, File, Rendered, signal_name, slug
from procreaper.export.honcho_compat import differs, environment_of, options_left_out, refuse
from procreaper.project.values import format_seconds

TARGET = "systemd"
NAME = r"[^A-Za-z0-9:_.\\-]"
PATH = r"[\x00-\x1f\x7f]|\\$|^\s|\s$"
# The shape of honcho's units, and of ours without a .reaper.toml.
SERVICE = (
    r"\A\[Unit\]\nPartOf=[^\n]*\n\n\[Service\]\nUser=(?s:.*)\nRestart=always\nStandardInput=null\n"
    r"StandardOutput=journal\nStandardError=journal\nSyslogIdentifier=%n\nKillMode=(process|control-group)\n\n"
    r"\[Install\]\nWantedBy=multi-user\.target\n?\Z"
)
MASTER = r"\A\[Unit\]\nWants=[^\n]*\n\n\[Install\]\nWantedBy=multi-user\.target\n?\Z"
GROUP = r"\A\[Unit\]\nPartOf=[^\n]*\nWants=[^\n]*\n?\Z"
# `on-failure` does not restart a process that one of these signals ended, unless the unit asks for it.
CLEAN = ("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE")
LEFT_OUT = {
    "health": "`WatchdogSec=` is for programs that report to systemd themselves",
    "watch": "a `.path` unit can act when a file changes",
    "hooks": "`ExecStartPost=` and `OnFailure=` in a drop-in come near to it",
    "log.max_size": "logrotate can rotate the file, with `copytruncate`",
    "log.max_files": None,
    "stop_all": "`OnFailure=` can name a unit that stops the target",
    "pty": "`TTYPath=` names an existing terminal",
}
DOUBLINGS = 10


def render(app: App) -> Rendered:
    """Return the units. Raises ConfigError for names and paths that a unit cannot contain."""
    refuse(app, TARGET, forbidden=PATH, of_name=NAME)
    problems = options_left_out(app, TARGET)
    groups = [(kind, list(members)) for kind, members in groupby(app.processes, lambda one: one.process.type)]
    wanted = [kind for kind, members in groups if any(one.autostart for one in members)]
    targets = " ".join(f"{app.name}-{kind}.target" for kind in wanted)
    files = [_file(app, f"{app.name}.target", MASTER, "[Unit]", f"Wants={targets}", *_install())]
    for kind, members in groups:
        services = " ".join(_unit(app, one.name) for one in members if one.autostart)
        lines = ("[Unit]", f"PartOf={app.name}.target", f"Wants={services}")
        files.append(_file(app, f"{app.name}-{kind}.target", GROUP, *lines))
        for one in members:
            service = _supervised(app, one, problems) if app.supervised else _as_honcho(app, one, problems)
            files.append(_file(app, _unit(app, one.name), SERVICE, *service))
    return Rendered(tuple(files), tuple(problems), rf"{re.escape(app.name)}(-.+)?\.(service|target)")


def _file(app: App, name: str, shape: str, *lines: str) -> File:
    known_by = f"(?:{shape}|{re.escape(MARK)})"
    if app.supervised:
        return File(name, "\n".join((f"# {MARK}", *lines, "")), known_by=known_by)
    return File(name, "\n".join(lines), known_by=known_by)


def _install() -> tuple[str, ...]:
    return ("", "[Install]", "WantedBy=multi-user.target")


def _unit(app: App, name: str) -> str:
    return f"{app.name}-{slug(name)}.service"


def _as_honcho(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    yield from ("[Unit]", f"PartOf={app.name}-{one.process.type}.target", "", "[Service]")
    yield from _common(app, one, problems)
    yield from ("Restart=always", "StandardInput=null", "StandardOutput=journal", "StandardError=journal")
    yield from ("SyslogIdentifier=%n", "KillMode=control-group", *_install())


def _common(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    """Return the user, the command, the directory and the environment of a service."""
    specified = (text for text in (app.root, app.shell, app.user) if "%" in text)
    problems += (differs(f"`{text}`", "systemd would take its `%` for a specifier") for text in specified)
    yield f"User={_specifiers(app.user)}"
    yield f"WorkingDirectory={_specifiers(one.process.cwd or app.root)}"
    for name, value in environment_of(one, problems).items():
        if found := re.search(r"[\\%\n]", value):
            problems.append(differs(f"the value of `{name}`", f"systemd would not leave {_spelled(found[0])} as it is"))
            yield f"Environment={_quoted(f'{name}={value}')}"
        else:
            yield f"Environment={name}={shlex.quote(value)}"
    shell = f"{_specifiers(app.shell)} -lc"
    script = one.exec_script
    if found := re.search(r"['\\%\n]|\$[{$]|^\$", script):
        why = f"systemd would not leave {_spelled(found[0])} as it is"
        problems.append(differs(f"the command of `{one.process.type}`", why))
        yield f"ExecStart={shell} {_quoted(script).replace('$', '$$')}"
    else:
        yield f"ExecStart={shell} '{script}'"


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Quote a word so that it arrives unchanged, except for dollar signs."""
    escapes = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _spelled(text: str) -> str:
    return "a line end" if text == "\n" else f"`{text}`"


def _supervised(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    process = one.process
    _warn_left_out(app, one, problems)
    yield from ("[Unit]", f"Description={process.name} of {app.name}")
    if not process.detached:
        yield f"PartOf={app.name}-{process.type}.target"
    yield from _dependencies(app, process.depends_on)
    if one.restart is not When.NEVER:
        yield from _limit(one)
    yield from ("", "[Service]")
    if process.oneshot:
        yield from ("Type=oneshot", "RemainAfterExit=yes")
    # With a .reaper.toml, differences from honcho's files are of no interest.
    yield from _common(app, one, [])
    if one.unset:
        yield f"UnsetEnvironment={' '.join(one.unset)}"
    yield from _restart(one)
    yield from _stop(app, one)
    yield "StandardInput=null"
    if process.log is None:
        yield from ("StandardOutput=journal", "StandardError=journal")
    else:
        path = _specifiers(process.log.path)
        yield from (f"StandardOutput=append:{path}", f"StandardError=append:{path}")
    yield "SyslogIdentifier=%n"
    if one.autostart:
        yield from _install()


def _dependencies(app: App, edges: tuple[Dependency, ...]) -> Iterator[str]:
    names = {edge: _unit(app, edge.name) for edge in edges}
    strict = [edge for edge in edges if edge.restart or edge.condition is Condition.COMPLETED]
    if strict:
        yield f"Requires={' '.join(names[edge] for edge in strict)}"
    if len(strict) < len(names):
        yield f"Wants={' '.join(names[edge] for edge in names if edge not in strict)}"
    if names:
        yield f"After={' '.join(names.values())}"


def _limit(one: Exported) -> Iterator[str]:
    retries, backoff = one.process.max_retries, one.process.backoff
    if retries is None:
        yield "StartLimitIntervalSec=0"
    else:
        # RestartSec is the wait before each restart; a run longer than `reset` does not count as one in a row.
        yield f"StartLimitIntervalSec={format_seconds(retries * (backoff.initial + backoff.reset))}"
        yield f"StartLimitBurst={retries + 1}"


def _restart(one: Exported) -> Iterator[str]:
    process, backoff = one.process, one.process.backoff
    codes = sorted(process.success_codes - {0})
    signals = [
        f"SIG{signal_name(code - 128)}" for code in codes if code > 128 and not signal_name(code - 128).isdigit()
    ]
    words = {When.NEVER: "no", When.ON_FAILURE: "on-failure", When.ALWAYS: "always"}
    yield f"Restart={words[one.restart]}"
    if one.restart is not When.NEVER:
        yield f"RestartSec={format_seconds(backoff.initial)}"
        steps = next(
            step for step in range(DOUBLINGS + 1) if backoff.wait(step + 1) == backoff.maximum or step == DOUBLINGS
        )
        if steps:
            yield "# With systemd 254 or later:"
            yield f"# RestartSteps={steps}"
            yield f"# RestartMaxDelaySec={format_seconds(backoff.maximum)}"
    if codes:
        yield f"SuccessExitStatus={' '.join((*map(str, codes), *signals))}"
    if one.restart is When.ON_FAILURE:
        forced = [name for name in CLEAN if name not in signals]
        forced += ["0"] if 0 not in process.success_codes else []
        yield f"RestartForceExitStatus={' '.join(forced)}"


def _stop(app: App, one: Exported) -> Iterator[str]:
    stop = one.process.stop
    yield f"KillMode={'mixed' if stop.only_main else 'control-group'}"
    if stop.command is not None:
        yield f"ExecStop={_specifiers(app.shell)} -c {_quoted(stop.command).replace('$', '$$')}"
        # systemd sends a signal after the command in any case; this one has no effect.
        yield "KillSignal=SIGCONT"
    else:
        yield f"KillSignal={'' if one.stop_signal.isdigit() else 'SIG'}{one.stop_signal}"
    yield f"TimeoutStopSec={format_seconds(stop.timeout)}"


def _warn_left_out(app: App, one: Exported, problems: list[Problem]) -> None:
    process = one.process
    environment_of(one, problems)
    problems += app.left_out(one, TARGET, LEFT_OUT)
    if names := app.names(edge for edge in process.depends_on if edge.condition is Condition.HEALTHY):
        message = (
            f"`depends_on` of `{process.type}`: {TARGET} waits only for the start of {names}, and checks no health"
        )
        hint = "`Type=notify` is for programs that tell it themselves"
        problems.append(app.warning(one, "depends_on", message, hint))
    if "backoff" in one.said and one.restart is not When.NEVER and process.backoff.maximum > process.backoff.initial:
        message = f"`backoff` of `{process.type}` does not double before systemd 254"
        problems.append(app.warning(one, "backoff", message, "take out the `#` of `RestartSteps=` there"))
