"""The one definition of `.reaper.toml`: its tables, the types of its keys, and what each of them means.

Rules: words only, and only those of the file; `supervision` and `planning` say what they lead to. Imported only when
there is such a file, because msgspec takes 25 ms. A key that was not given is UNSET. Descriptions are for people who
write the file: editors show them, and `procreaper schema` prints them.

Theory of operation. msgspec decides whether a value fits and writes the JSON Schema. What it cannot say in the words of
the file stands in `Meta.extra`, for the messages of `settings`: `expected`, what a value must be; `hint`, how to write
it; `words`, the words that there are, with `synonyms` of theirs; and `also`, what other tools call the key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.json import schema

from procreaper.core.plan import HIGHEST_PORT, MOST_PROCESSES
from procreaper.project.values import DURATION_EXAMPLES, DURATION_HINT, DURATION_PATTERN, LONGEST_DURATION, SIZE_PATTERN

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# In Python `$` would also match before a line feed at the end.
NAME = r"^[A-Za-z0-9_-]+$(?!\n)"
SIGNAL = r"^[A-Z][A-Z0-9+-]*$(?!\n)"
DEPENDENCY_HINT = 'a condition stands in a table: `depends_on = { db = "healthy" }`'
STOP_HINT = 'for example "SIGINT", or `{ signal = "SIGINT", timeout = "10s" }`'

Duration = Annotated[
    Annotated[str, Meta(pattern=DURATION_PATTERN)] | Annotated[float, Meta(ge=0, le=LONGEST_DURATION)],
    Meta(
        title="duration",
        examples=[*DURATION_EXAMPLES, 10],
        extra={"expected": "a duration", "hint": DURATION_HINT},
    ),
]
SignalName = Annotated[
    str,
    Meta(
        title="signal",
        pattern=SIGNAL,
        examples=["SIGTERM", "SIGINT"],
        extra={"expected": "the name of a signal", "hint": 'for example "SIGTERM", "SIGINT" or "SIGHUP"'},
    ),
]
Size = Annotated[
    Annotated[str, Meta(pattern=SIZE_PATTERN)] | Annotated[int, Meta(ge=1)],
    Meta(
        title="size",
        examples=["10MB", 1048576],
        extra={"expected": "a size", "hint": 'write it as "10MB" or "512KiB"; a bare number is bytes'},
    ),
]
Name = Annotated[str, Meta(pattern=NAME)]
Text = Annotated[str, Meta(min_length=1)]
Command = Annotated[
    Text | Annotated[list[str], Meta(min_length=1)],
    Meta(
        extra={"expected": "a command", "hint": 'write a string for the shell, or a list: ["program", "argument"]'},
    ),
]
Paths = Text | list[Text]
Status = Annotated[int, Meta(ge=100, le=599, extra={"expected": "an HTTP status from 100 to 599"})]
Code = Annotated[int, Meta(ge=0, le=255)]
Condition = Literal["started", "healthy", "completed"]
When = Annotated[Literal["never", "on-failure", "always"], Meta(extra={"synonyms": {"no": "never", "yes": "always"}})]
Restart = Annotated[
    str,
    Meta(
        pattern=r"^(never|no|on-failure|on-failure:[1-9][0-9]{0,8}|always)$(?!\n)",
        examples=["never", "on-failure", "always"],
        extra={"words": ("never", "on-failure", "always"), "synonyms": {"unless-stopped": "always", "yes": "always"}},
    ),
]
Value = Annotated[str | int | float | bool, Meta(extra={"expected": "a string, a number, `true` or `false`"})]


class BackoffSettings(Struct, forbid_unknown_fields=True):
    """The wait before a restart: `initial`, doubling up to `max`; a run that stayed up for `reset` starts over."""

    initial: Annotated[
        Duration | UnsetType,
        Meta(description="The first wait; each further one is twice as long.", extra_json_schema={"default": "1s"}),
    ] = UNSET
    max: Annotated[
        Duration | UnsetType, Meta(description="No wait is longer.", extra_json_schema={"default": "30s"})
    ] = UNSET
    reset: Annotated[
        Duration | UnsetType,
        Meta(
            description="After so long a time up, the next failure counts as the first one again.",
            extra_json_schema={"default": "45s"},
        ),
    ] = UNSET


class DependencySettings(Struct, forbid_unknown_fields=True):
    """What is waited for, and whether to be restarted whenever the dependency is."""

    condition: Annotated[
        Condition | UnsetType,
        Meta(description="`started`, `healthy` or `completed`; by default what makes the dependency *up* by its kind."),
    ] = UNSET
    restart: Annotated[
        bool | UnsetType,
        Meta(
            description="Restart this process whenever the dependency restarts.", extra_json_schema={"default": False}
        ),
    ] = UNSET


class HealthSettings(Struct, forbid_unknown_fields=True):
    """One of `http`, `tcp`, `exec` and `check`, and/or `log`; and how often."""

    http: Annotated[
        Text | UnsetType,
        Meta(
            description="An `http` or `https` URL. It may use `$PORT` and the process's own environment.",
            examples=["http://127.0.0.1:$PORT/healthz"],
            extra={"also": ("url", "http_get")},
        ),
    ] = UNSET
    tcp: Annotated[
        Text | UnsetType,
        Meta(
            description="`host:port` of a TCP port that accepts connections. It may use `$PORT`.",
            examples=["127.0.0.1:$PORT"],
            extra={"also": ("port",)},
        ),
    ] = UNSET
    exec: Annotated[
        Command | UnsetType,
        Meta(
            description="A command that exits with 0 while the process is healthy, in the environment of the process. "
            "A string runs through `/bin/sh -c`, a list without a shell.",
            examples=["pg_isready -q"],
            extra={"also": ("cmd", "command", "test")},
        ),
    ] = UNSET
    check: Annotated[
        Text | UnsetType,
        Meta(
            description="A URL whose scheme names a check of an installed package (entry points `procreaper.health`)."
        ),
    ] = UNSET
    log: Annotated[
        Text | UnsetType,
        Meta(
            description="A regular expression; the process is ready once a line of its output matches.",
            examples=["ready to accept connections"],
        ),
    ] = UNSET
    status: Annotated[
        Status | Annotated[list[Status], Meta(min_length=1)] | UnsetType,
        Meta(
            description="The HTTP statuses that mean healthy; any 2xx if not given. Redirects are not followed.",
            examples=[200, [200, 401]],
        ),
    ] = UNSET
    verify: Annotated[
        bool | UnsetType,
        Meta(
            description="`false`: accept every certificate of an `https` URL.",
            extra_json_schema={"default": True},
            extra={"also": ("insecure", "tls_verify", "ssl_verify")},
        ),
    ] = UNSET
    ca: Annotated[
        Text | UnsetType,
        Meta(
            description="A file of certificates (PEM) to trust instead of the system's, for an `https` URL; relative "
            "to the application root.",
            examples=["certs/ca.pem"],
            extra={"also": ("cacert", "ca_file", "cafile")},
        ),
    ] = UNSET
    interval: Annotated[
        Duration | UnsetType,
        Meta(
            description="Between two checks.",
            extra_json_schema={"default": "10s"},
            extra={"also": ("every", "period", "period_seconds")},
        ),
    ] = UNSET
    timeout: Annotated[
        Duration | UnsetType, Meta(description="How long one check may take.", extra_json_schema={"default": "5s"})
    ] = UNSET
    retries: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(description="So many failures in a row mean unhealthy.", extra_json_schema={"default": 3}),
    ] = UNSET
    start_interval: Annotated[
        Duration | UnsetType,
        Meta(description="Between two checks before the first success.", extra_json_schema={"default": "500ms"}),
    ] = UNSET
    start_timeout: Annotated[
        Duration | UnsetType,
        Meta(
            description="How long the first success may take; failures do not count until then.",
            extra_json_schema={"default": "60s"},
            extra={"also": ("start_period",)},
        ),
    ] = UNSET


class StopSettings(Struct, forbid_unknown_fields=True):
    """How the process is asked to end, and how long it may take."""

    signal: Annotated[
        SignalName | UnsetType,
        Meta(description="What is sent first, to its whole group.", extra_json_schema={"default": "SIGTERM"}),
    ] = UNSET
    timeout: Annotated[
        Duration | UnsetType,
        Meta(
            description="SIGKILL follows after this time.",
            extra_json_schema={"default": "5s"},
            extra={"also": ("kill_after", "kill_timeout", "grace_period", "stop_grace_period", "stopwaitsecs")},
        ),
    ] = UNSET
    command: Annotated[
        Text | UnsetType,
        Meta(description="Run by the shell, in the environment of the process, instead of sending the signal."),
    ] = UNSET
    only_main: Annotated[
        bool | UnsetType,
        Meta(
            description="Send the signal to the program that the command runs, not to what that program has started.",
            extra_json_schema={"default": False},
        ),
    ] = UNSET


class WatchSettings(Struct, forbid_unknown_fields=True):
    """What leads to a restart when it changes."""

    paths: Annotated[
        list[Text] | UnsetType, Meta(description="Files, directories and globs, relative to the application root.")
    ] = UNSET
    ignore: Annotated[
        list[Text] | UnsetType, Meta(description="Globs of what is not watched, besides a built-in list.")
    ] = UNSET
    gitignore: Annotated[
        bool | UnsetType, Meta(description="Ignore what git ignores.", extra_json_schema={"default": True})
    ] = UNSET
    debounce: Annotated[
        Duration | UnsetType,
        Meta(description="Wait until nothing changed for so long.", extra_json_schema={"default": "50ms"}),
    ] = UNSET
    poll: Annotated[
        bool | UnsetType, Meta(description="Look again and again, where the system does not tell of changes.")
    ] = UNSET
    run: Annotated[
        Text | UnsetType, Meta(description="Run this at each change; only its success leads to the restart.")
    ] = UNSET
    signal: Annotated[
        SignalName | UnsetType,
        Meta(
            description=(
                "Send this signal instead of restarting. On Linux only the program that handles it gets it, not the "
                "shell above that program, nor its workers; elsewhere the whole group gets it."
            )
        ),
    ] = UNSET


class LogSettings(Struct, forbid_unknown_fields=True):
    """A file that the output of the process goes to as well."""

    file: Annotated[
        Text | UnsetType,
        Meta(
            description="Relative to the application root; may use the environment of the process.",
            extra={"also": ("path",)},
        ),
    ] = UNSET
    max_size: Annotated[
        Size | UnsetType,
        Meta(
            description='The file is rotated when it is larger: `"10MB"`, `"512KiB"`, or bytes.',
            extra_json_schema={"default": "10MB"},
        ),
    ] = UNSET
    max_files: Annotated[
        Annotated[int, Meta(ge=0)] | UnsetType,
        Meta(description="So many rotated files are kept beside the current one.", extra_json_schema={"default": 3}),
    ] = UNSET


class HooksSettings(Struct, forbid_unknown_fields=True):
    """Shell commands that are run with `REAPER_NAME`, `REAPER_EXIT_CODE` and `REAPER_RETRIES` in their environment."""

    on_ready: Annotated[Text | UnsetType, Meta(description="When the process is up.")] = UNSET
    on_retry: Annotated[Text | UnsetType, Meta(description="When the process will be tried again.")] = UNSET
    on_fail: Annotated[Text | UnsetType, Meta(description="When the process has failed for good.")] = UNSET


class ProcessSettings(Struct, forbid_unknown_fields=True):
    """How one process type is run and supervised."""

    command: Annotated[
        Command | UnsetType,
        Meta(
            description=(
                "A string runs through `/bin/sh -c`, with `exec` before its last program where that changes nothing "
                "else; a list runs without a shell. By default the Procfile's line."
            ),
            examples=["postgres -D ./data", ["postgres", "-D", "./data"]],
            extra={"also": ("cmd", "exec", "run", "shell", "script")},
        ),
    ] = UNSET
    cwd: Annotated[
        Text | UnsetType,
        Meta(
            description="The working directory, relative to the application root.",
            extra={"also": ("dir", "directory", "working_dir", "working_directory", "workdir", "chdir")},
        ),
    ] = UNSET
    env: Annotated[
        dict[str, Value] | UnsetType,
        Meta(
            description="Variables of the environment; `false` unsets one, `true` is the text `true`. A text may use "
            "`$NAME` and `${NAME}`, with `$$` for a dollar sign.",
            examples=[{"LOG_LEVEL": "debug", "DEBUG": False, "URL": "http://localhost:$PORT"}],
            extra={"also": ("environment", "environ", "vars")},
        ),
    ] = UNSET
    env_file: Annotated[
        Paths | UnsetType,
        Meta(
            description="One or more environment files, relative to the application root; later ones win.",
            extra={"also": ("env_files", "envfile", "environment_file")},
        ),
    ] = UNSET
    port: Annotated[
        Annotated[int, Meta(ge=1, le=HIGHEST_PORT)] | Literal["auto"] | UnsetType,
        Meta(
            description="The `PORT` of its first instance; each further instance has one more. By default 5000 for the "
            "first type, 100 more for each further type. `auto` is a free port from 20000 to 29999, the same at each "
            "start while it is free. It beats `-p`; in `[defaults]` only `auto` is possible, and `-p` beats it.",
            examples=[3000, "auto"],
            extra={"also": ("ports",)},
        ),
    ] = UNSET
    concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=MOST_PROCESSES)] | UnsetType,
        Meta(
            description="How many processes of this type are run; `-c` and `-m` beat it.",
            extra_json_schema={"default": 1},
            extra={"also": ("numprocs", "count", "replicas", "instances", "scale", "formation")},
        ),
    ] = UNSET
    autostart: Annotated[
        bool | UnsetType,
        Meta(
            description="`false`: only started when it is named, or when another process depends on it.",
            extra_json_schema={"default": True},
        ),
    ] = UNSET
    oneshot: Annotated[
        bool | UnsetType,
        Meta(description="It does its work and ends; it is up when it has.", extra_json_schema={"default": False}),
    ] = UNSET
    depends_on: Annotated[
        list[Annotated[str, Meta(extra={"hint": DEPENDENCY_HINT})]]
        | dict[str, Condition | DependencySettings]
        | UnsetType,
        Meta(
            description="What must be up before this process starts: types, instances such as `web.1`, or groups. "
            "A process that was up starts again without them.",
            examples=[["db"], {"db": "healthy", "migrate": {"condition": "completed", "restart": True}}],
            extra={"also": ("depends", "dependencies", "deps", "after", "requires", "needs")},
        ),
    ] = UNSET
    restart: Annotated[
        Restart | UnsetType,
        Meta(
            description="When it is restarted after it ended; `on-failure:3` also sets `max_retries`.",
            extra_json_schema={"default": "never"},
            extra={"also": ("autorestart", "auto_restart", "restart_policy", "respawn")},
        ),
    ] = UNSET
    max_retries: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(
            description="After so many restarts in a row it has failed; without limit if not given.",
            extra={"also": ("retries", "max_restarts", "startretries", "start_retries")},
        ),
    ] = UNSET
    success_codes: Annotated[
        list[Code | SignalName] | UnsetType,
        Meta(
            description='Exit codes that mean success; `"SIGTERM"` means death by that signal.',
            extra_json_schema={"default": [0]},
            examples=[[0, "SIGTERM"]],
            extra={"also": ("exitcodes", "exit_codes", "success_exit_codes")},
        ),
    ] = UNSET
    backoff: Annotated[
        Duration | BackoffSettings | UnsetType,
        Meta(
            description="The wait before a restart. A duration is `initial`; up to `max` it doubles.",
            examples=["2s", {"initial": "2s", "max": "30s", "reset": "45s"}],
            extra={"also": ("restart_delay", "restart_sec", "backoff_seconds", "delay")},
        ),
    ] = UNSET
    stop_all: Annotated[
        When | UnsetType,
        Meta(
            description="When its end ends the app. By default `always`; `on-failure` for a oneshot, `never` "
            "with `watch`.",
            extra={"also": ("exit_on_end", "exit_on_failure", "critical")},
        ),
    ] = UNSET
    health: Annotated[
        Text | HealthSettings | UnsetType,
        Meta(
            description="How to know that it is healthy: a URL (`http://`, `https://`, `tcp://host:port`), or a table.",
            examples=["http://127.0.0.1:$PORT/healthz", "tcp://127.0.0.1:6379", {"exec": "pg_isready -q"}],
            extra={"also": ("healthcheck", "health_check", "ready", "readiness_probe", "liveness_probe", "probe")},
        ),
    ] = UNSET
    stop: Annotated[
        SignalName | StopSettings | UnsetType,
        Meta(
            description="The signal that ends it, or a table.",
            examples=["SIGINT", {"signal": "SIGINT", "timeout": "30s"}],
            extra={"hint": STOP_HINT, "also": ("stop_signal", "stopsignal", "kill_signal", "shutdown", "signal")},
        ),
    ] = UNSET
    watch: Annotated[
        list[Text] | WatchSettings | UnsetType,
        Meta(
            description="Files, directories and globs whose change restarts it. "
            "Where `.env`, the `Procfile` or this file is among them, it restarts with what they say now.",
            examples=[["app", "config/*.toml"], {"paths": ["styles"], "run": "make css"}],
        ),
    ] = UNSET
    log: Annotated[
        Text | LogSettings | UnsetType,
        Meta(
            description="A file that its output goes to as well.",
            examples=["log/db.log", {"file": "log/db.log", "max_size": "10MB", "max_files": 3}],
            extra={"also": ("stdout_logfile", "logfile", "log_file", "log_location")},
        ),
    ] = UNSET
    pty: Annotated[
        bool | Literal["auto"] | UnsetType,
        Meta(
            description="Whether it gets a terminal of its own; `auto` where procreaper has one.",
            extra_json_schema={"default": "auto"},
            extra={"expected": '`true`, `false` or "auto"', "also": ("tty", "is_tty")},
        ),
    ] = UNSET
    detached: Annotated[
        bool | UnsetType,
        Meta(
            description="It goes on running when procreaper ends, and the next start finds it again. It needs a `log`, "
            "to which it writes by itself, so that this is put aside only when a run begins.",
            extra_json_schema={"default": False},
            extra={"also": ("daemon", "is_daemon", "background")},
        ),
    ] = UNSET
    hooks: Annotated[
        HooksSettings | UnsetType, Meta(description="Commands that are run when something happens to it.")
    ] = UNSET


class OutputSettings(Struct, forbid_unknown_fields=True):
    """What the output looks like."""

    format: Annotated[
        Literal["text", "json"] | UnsetType,
        Meta(description="`--log-format` beats it.", extra_json_schema={"default": "text"}),
    ] = UNSET
    timestamps: Annotated[
        bool | UnsetType,
        Meta(
            description="Begin each line with the time of day; `--no-timestamp` beats it.",
            extra_json_schema={"default": True},
            extra={"also": ("timestamp",)},
        ),
    ] = UNSET


class ControlSettings(Struct, forbid_unknown_fields=True):
    """How the running app can be reached."""

    http: Annotated[
        Text | UnsetType,
        Meta(
            description="`host:port`, or a port, of a read-only HTTP server with status, events, logs and metrics, on "
            "this machine only; port 0 is one that is free; off if not given. `--http` beats it. It takes "
            "`pip install 'procreaper[http]'`.",
            examples=["127.0.0.1:9464"],
        ),
    ] = UNSET


class EnvSettings(Struct, forbid_unknown_fields=True):
    """The environment files of the app."""

    files: Annotated[
        Paths | UnsetType,
        Meta(
            description="Environment files, relative to the application root; later ones win. `-e` beats it.",
            extra_json_schema={"default": [".env"]},
            extra={"also": ("file",)},
        ),
    ] = UNSET
    parser: Annotated[
        Literal["honcho", "dotenv"] | UnsetType,
        Meta(
            description="Who says what a line means: honcho, or python-dotenv (the extra `dotenv`).",
            extra_json_schema={"default": "honcho"},
        ),
    ] = UNSET


class Document(Struct, forbid_unknown_fields=True):
    """The settings of procreaper for one project: `.reaper.toml`, beside its Procfile."""

    process: Annotated[
        dict[Name, ProcessSettings],
        Meta(
            description="By process type: one of the Procfile, or a new one that brings its `command`.",
            extra={"also": ("processes", "program", "service", "services", "daemons")},
        ),
    ] = field(default_factory=dict)
    defaults: Annotated[
        ProcessSettings | UnsetType,
        Meta(description="Any field of a process, for all of them.", extra={"also": ("default",)}),
    ] = UNSET
    groups: Annotated[
        dict[Name, list[str]],
        Meta(
            description="Names for several processes, usable wherever a name is.",
            examples=[{"backend": ["api", "worker"]}],
            extra={"also": ("group",)},
        ),
    ] = field(default_factory=dict)
    output: OutputSettings | UnsetType = UNSET
    control: ControlSettings | UnsetType = UNSET
    env: Annotated[EnvSettings | UnsetType, Meta(extra={"also": ("environment", "dotenv")})] = UNSET


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors and other tools."""
    return {"$schema": DRAFT, "title": ".reaper.toml", "description": Document.__doc__, **schema(Document)}
