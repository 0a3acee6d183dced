"""supervisord: one file, with a program for each process and a group for the app.

Rules: pure. Without a `.reaper.toml`, the export equals honcho's, except for values that would break (see
`honcho_compat`), and except that a stop reaches all processes of the group. With one, it contains all settings that
supervisord can express.

Theory of operation. Three parsers read a value one after another, and each has its own rules for quotes. Python's
configparser ends a value before ` ;` and ` #`, also within quotes, and strips each line of a longer one. Then `%`
begins an expansion. Then a command is split as by a POSIX shell, so two quotes, which mean nothing there, can separate
a blank from a character that must not follow it. An `environment` is split into words that have no escapes at all and
lose quotes at their ends. `/usr/bin/env` sets values that cannot be written there, and unsets variables.

An end within `startsecs` counts as a failed start, whatever its exit code, and is retried after a wait that grows by a
second each time, up to `startretries`; after a later end, the program restarts at once.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator

from procreaper.core.plan import Condition, When
from procreaper.errors import Problem
from procreaper.export.exporter import MARK, App, Exported, File, Rendered
from procreaper.export.honcho_compat import differs, environment_of, options_left_out, refuse

TARGET = "supervisord"
NAME = r"[\s:/,\[\]%]"
PATH = r"[\x00-\x1f\x7f]|\s[;#]|^\s|\s$"
# The shape of honcho's file, and of ours without a .reaper.toml.
SHAPE = (
    r"\A(\[program:(?s:.*)\nstopsignal=QUIT\n(stopasgroup=true\nkillasgroup=true\n)?stdout_logfile=(?s:.*)\n\n)?"
    r"\[group:[^\n]*\]\nprograms=[^\n]*\n?\Z"
)
# The characters of an unquoted word in `environment`.
WORD = r"[A-Za-z0-9_/.+:-]+"
HERE = "%(here)s"
UNLIMITED = 1_000_000
FIRST_PRIORITY = 100
LEFT_OUT = {
    "health": "superlance's `httpok` restarts what does not answer",
    "watch": None,
    "hooks": "an event listener can act when a process changes its state",
    "stop.command": "it is ended by a signal; let the program do on it what the command does",
    "stop_all": "an event listener can stop the others",
    "pty": None,
}


def render(app: App) -> Rendered:
    """Return the file. Raises ConfigError for names and paths that it cannot contain."""
    refuse(app, TARGET, forbidden=PATH, of_name=NAME)
    problems = options_left_out(app, TARGET)
    lines = [f"; {MARK}"] if app.supervised else []
    for one in app.processes:
        lines += _supervised(app, one, problems) if app.supervised else _as_honcho(app, one, problems)
        lines.append("")
    lines += [f"[group:{app.name}]", f"programs={','.join(one.slug for one in app.processes)}"]
    lines += [""] if app.supervised else []
    file = File(f"{app.name}.conf", "\n".join(lines), known_by=f"(?:{SHAPE}|{re.escape(MARK)})")
    return Rendered((file,), tuple(problems))


def _as_honcho(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    found = (text for text in (app.root, app.shell, app.log, app.user) if "%" in text)
    problems += (differs(f"`{text}`", "supervisord would take its `%` for an expansion") for text in found)
    environment = environment_of(one, problems)
    others = [name for name, value in environment.items() if not _is_sayable(value)]
    yield f"[program:{one.slug}]"
    yield _command(app, one, {name: environment[name] for name in others}, problems)
    yield from ("autostart=true", "autorestart=true", "stopsignal=QUIT", "stopasgroup=true", "killasgroup=true")
    log = _log(f"{app.log}/{one.slug}")
    yield from (f"stdout_logfile={log}.log", f"stderr_logfile={log}.error.log")
    yield from _place(app, one)
    yield _environment({name: environment[name] for name in environment if name not in others}, problems)


def _supervised(app: App, one: Exported, problems: list[Problem]) -> Iterator[str]:
    process, stop = one.process, one.process.stop
    environment = environment_of(one, problems)
    _warn_left_out(app, one, problems)
    others = {name: value for name, value in environment.items() if not _is_sayable(value)}
    yield f"[program:{one.slug}]"
    yield _command(app, one, others, [])
    yield f"autostart={str(one.autostart).lower()}"
    yield f"priority={FIRST_PRIORITY + _rank(app, one)}"
    words = {When.NEVER: "false", When.ON_FAILURE: "unexpected", When.ALWAYS: "true"}
    yield f"autorestart={words[one.restart]}"
    if process.oneshot or one.restart is When.NEVER:
        # An early end is never a failed start.
        yield from ("startsecs=0", "startretries=0")
    else:
        yield f"startretries={UNLIMITED if process.max_retries is None else process.max_retries}"
    yield f"exitcodes={','.join(map(str, sorted(process.success_codes)))}"
    yield f"stopsignal={one.stop_signal}"
    yield f"stopwaitsecs={math.ceil(stop.timeout)}"
    yield from (f"stopasgroup={str(not stop.only_main).lower()}", "killasgroup=true")
    if process.log is None:
        log = _log(f"{app.log}/{one.slug}")
        yield from (f"stdout_logfile={log}.log", f"stderr_logfile={log}.error.log")
    else:
        yield from (f"stdout_logfile={_log(process.log.path)}", "redirect_stderr=true")
        yield f"stdout_logfile_maxbytes={process.log.max_size}"
        yield f"stdout_logfile_backups={process.log.max_files}"
    yield from _place(app, one)
    yield _environment({name: value for name, value in environment.items() if name not in others}, [])


def _place(app: App, one: Exported) -> Iterator[str]:
    yield from (f"user={_expansions(app.user)}", f"directory={_expansions(one.process.cwd or app.root)}")


def _command(app: App, one: Exported, others: dict[str, str], problems: list[Problem]) -> str:
    """Return the command. `env` runs it if variables cannot be set elsewhere, or are unset."""
    words = [*(f"-u {name}" for name in one.unset), *(_quoted(f"{name}={value}") for name, value in others.items())]
    before = f"/usr/bin/env {' '.join(words)} " if words else ""
    problems += (differs(f"the value of `{name}`", "supervisord's `environment` cannot hold it") for name in others)
    if "'" in one.exec_script:
        problems.append(differs(f"the command of `{one.process.type}`", "supervisord would take its `'` for the end"))
    elif _is_broken(one.exec_script):
        why = "supervisord would take a part of it for a comment, or for its own"
        problems.append(differs(f"the command of `{one.process.type}`", why))
    return f"command={before}{_expansions(app.shell)} -c {_quoted(one.exec_script)}"


def _environment(environment: dict[str, str], problems: list[Problem]) -> str:
    words = []
    for name, value in environment.items():
        written = value if re.fullmatch(WORD, value) else f'"{value}"' if "'" in value else f"'{value}'"
        if written != shlex.quote(value):
            problems.append(differs(f"the value of `{name}`", "supervisord would cut it"))
        words.append(f"{name}={_expansions(written)}")
    return f"environment={','.join(words)}"


def _is_sayable(value: str) -> bool:
    """Return whether `environment` can contain a value: it has no escapes, and strips quotes from both ends."""
    quotes = {character for character in value if character in "'\""}
    return not (len(quotes) > 1 or value[:1] in quotes or value[-1:] in quotes or "\n" in value or _is_broken(value))


def _is_broken(text: str) -> bool:
    """Return whether a part would become a comment or a directory, or be lost at the end of a line."""
    return re.search(r"\s[;#]|\n|%\(here\)s", text) is not None


def _quoted(text: str) -> str:
    """Quote a word of a command so that it arrives unchanged."""
    if not _is_broken(text):
        return _expansions(f"'{text}'" if "'" not in text else shlex.quote(text))
    quoted = shlex.quote(text)
    # Two quotes separate a blank from a character that would begin a comment, and from the ends of a line.
    quoted = re.sub(r"(\s)([;#])", r"\1''\2", quoted)
    quoted = re.sub(r"\n", "''\n  ''", quoted)
    # In an included file, this is replaced before two per cent signs become one.
    return _expansions(quoted).replace(HERE, "%''(here)s")


def _expansions(text: str) -> str:
    return text.replace("%", "%%")


def _log(path: str) -> str:
    # Paths of logs are expanded twice.
    return _expansions(_expansions(path))


def _rank(app: App, one: Exported) -> int:
    """Return how many processes must start one after the other before this one."""
    names = {other.name: other for other in app.processes}
    edges = [names[edge.name] for edge in one.process.depends_on if edge.name in names]
    return 1 + max((_rank(app, other) for other in edges), default=-1)


def _warn_left_out(app: App, one: Exported, problems: list[Problem]) -> None:
    process = one.process
    problems += app.left_out(one, TARGET, LEFT_OUT)
    edges = (edge for edge in process.depends_on if edge.condition is not Condition.STARTED or edge.restart)
    if names := app.names(edges):
        message = f"`depends_on` of `{process.type}`: {TARGET} starts {names} first, and waits for nothing else"
        problems.append(app.warning(one, "depends_on", message, "let it try again until what it needs is there"))
    if one.restart is When.NEVER:
        return
    if process.oneshot:
        message = f"`restart` of `{process.type}`: {TARGET} restarts a oneshot at once and without limit"
        problems.append(app.warning(one, "restart", message, 'write `restart = "never"` to have it tried once'))
    elif "backoff" in one.said:
        message = f"`backoff` of `{process.type}` is left out: {TARGET} waits a second longer each time"
        problems.append(app.warning(one, "backoff", message))
    if one.restart is When.ON_FAILURE and any(code > 128 for code in process.success_codes):
        message = f"`success_codes` of `{process.type}`: {TARGET} knows exit codes only, and takes signals for failures"
        problems.append(app.warning(one, "success_codes", message))
