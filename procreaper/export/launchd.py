"""launchd: a property list for each process, for ~/Library/LaunchAgents or /Library/LaunchDaemons of a Mac.

Rules: files are named like foreman's, `APP-web-1.plist`. A character that a property list cannot contain is an error,
because a command without that character is worse than no file. launchd knows no dependencies and no health checks: it
starts everything at once, and again after an end.

Theory of operation. `KeepAlive` with `SuccessfulExit` starts a job at once, regardless of other keys. So a process that
does not start with the app is `Disabled`, until `launchctl enable`. launchd stops a job by SIGTERM, and when the job
has ended, kills the rest of its group.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Iterator
from math import ceil
from signal import SIGTERM
from typing import Any, assert_never

from procreaper.core.plan import When
from procreaper.errors import ConfigError, Problem
from procreaper.export.exporter import MARK, App, Exported, File, Rendered
from procreaper.export.warnings import Warnings

# Characters that XML 1.0 forbids, and the carriage return, which every parser turns into a line feed.
_FORBIDDEN = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
DOCTYPE_END = '.dtd">\n'


def render(app: App) -> Rendered:
    """Return the files for this app. Raises ConfigError for texts that a property list cannot contain."""
    warnings = Warnings(app, "launchd")
    jobs = [_job(app, exported, warnings) for exported in app.processes]
    problems = [
        problem for exported, job in zip(app.processes, jobs, strict=True) for problem in _broken(exported, job)
    ]
    if problems:
        raise ConfigError(problems)
    warnings.add_options({"image": "launchd runs no images"})
    files = tuple(File(f"{job['Label']}.plist", _write(job)) for job in jobs)
    return Rendered(files, warnings.problems, rf"{re.escape(app.name)}-.+\.plist")


def _job(app: App, exported: Exported, warnings: Warnings) -> dict[str, Any]:
    process, label = exported.process, f"{app.name}-{exported.slug}"
    output = f"{app.log.rstrip('/')}/{label}.log" if process.log is None else process.log.path
    _warn(exported, warnings)
    job: dict[str, Any] = {
        "Label": label,
        "ProgramArguments": [*_without(exported.unset), *_argv(app, exported)],
        "EnvironmentVariables": dict(exported.environment),
        "WorkingDirectory": process.cwd or app.root,
        # For a daemon; an agent runs as the user who has loaded it.
        "UserName": app.user,
        "RunAtLoad": exported.autostart,
        "KeepAlive": _keep_alive(exported.restart),
        "ThrottleInterval": ceil(process.backoff.initial),
        # 0 would mean without limit.
        "ExitTimeOut": max(1, ceil(process.stop.timeout)),
        "StandardOutPath": output,
        "StandardErrorPath": output,
    }
    if not exported.autostart:
        job["Disabled"] = True
    return job


def _argv(app: App, exported: Exported) -> list[str]:
    command = exported.process.command
    return [app.shell, "-c", exported.exec_script] if isinstance(command, str) else list(command)


def _without(names: tuple[str, ...]) -> list[str]:
    return ["/usr/bin/env", *(word for name in names for word in ("-u", name))] if names else []


def _keep_alive(restart: When) -> bool | dict[str, bool]:
    match restart:
        case When.ALWAYS:
            return True
        case When.NEVER:
            return False
        case When.ON_FAILURE:
            return {"SuccessfulExit": False}
        case _:
            assert_never(restart)


def _warn(exported: Exported, warnings: Warnings) -> None:
    process = exported.process
    if process.stop.signal != SIGTERM:
        warnings.add(exported, "stop.signal", "launchd stops everything by SIGTERM", "have the command translate it")
    warnings.left_out(
        exported,
        {
            "stop.command": "launchd stops everything by SIGTERM",
            "max_retries": "launchd does not give up",
            "depends_on": "with `restart`, it is started again until what it needs is there",
            "health": None,
            "watch": "`launchctl kickstart -k` restarts it",
            "log.max_size": "see newsyslog.conf",
            "log.max_files": "see newsyslog.conf",
            "pty": None,
        },
    )
    if exported.asks_for("backoff"):
        warnings.add(exported, "backoff", "launchd waits before each restart as long as before the first")
    warnings.add_common(exported)
    warnings.add_shell(exported)


def _write(job: dict[str, Any]) -> str:
    text = plistlib.dumps(job, sort_keys=False).decode()
    return text.replace(DOCTYPE_END, f"{DOCTYPE_END}<!-- {MARK} -->\n", 1)


def _broken(exported: Exported, job: dict[str, Any]) -> Iterator[Problem]:
    """Return an error for each text that a parser would change: with control characters, including carriage returns."""
    texts = {
        "the command": " ".join(job["ProgramArguments"]),
        "the directory": job["WorkingDirectory"],
        "the log file": job["StandardOutPath"],
        **{f"the name of the variable `{name}`": name for name in exported.environment},
        **{f"the variable `{name}`": value for name, value in exported.environment.items()},
    }
    for what, text in texts.items():
        if (character := _FORBIDDEN.search(text)) is not None:
            shown = f"U+{ord(character[0]):04X}"
            message = f"{what} of `{exported.process.type}` has the character {shown}, which no property list can have"
            yield Problem(message, hint="write it in another way, such as in an escape")
