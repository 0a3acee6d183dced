"""The definition of `.reaper.toml`: its tables, the types of its keys, and their descriptions.

Rules: data only; `process_types` and `planner` give the keys their meaning. Imported only if there is such a file,
because msgspec takes 25 ms. A key that the file does not have is UNSET. The descriptions are for the authors of the
file: editors show them, `procreaper schema` prints them, and docs/settings.md is generated from them.

Theory of operation. msgspec checks the values and generates the JSON Schema. `Meta.extra` has what the messages of
`settings` need besides: `expected`, a noun for a valid value; `hint`, an example of one; `words`, the valid words, with
their `synonyms`; and `also`, the names of the key in other tools.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.json import schema

from procreaper.core.plan import HIGHEST_PORT, MOST_PROCESSES
from procreaper.project.values import DURATION_EXAMPLES, DURATION_HINT, DURATION_PATTERN, LONGEST_DURATION, SIZE_PATTERN

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# In Python, `$` alone would also match before a line feed at the end.
NAME = r"^[A-Za-z0-9_-]+$(?!\n)"
SIGNAL = r"^[A-Z][A-Z0-9+-]*$(?!\n)"
DEPENDENCY_HINT = 'write a condition in a table: `depends_on = { db = "healthy" }`'
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
    """The wait before a restart: `initial` at first, then twice as long each time, up to `max`."""

    initial: Annotated[
        Duration | UnsetType,
        Meta(
            description="The first wait. Each further wait is twice as long as the one before.",
            extra_json_schema={"default": "1s"},
        ),
    ] = UNSET
    max: Annotated[
        Duration | UnsetType,
        Meta(
            description="The longest wait. The default is `initial` if that is longer than 30 seconds.",
            extra_json_schema={"default": "30s"},
        ),
    ] = UNSET
    reset: Annotated[
        Duration | UnsetType,
        Meta(
            description=(
                "The time after which a process that is up counts as recovered. The wait after its next "
                "failure is `initial` again."
            ),
            extra_json_schema={"default": "45s"},
        ),
    ] = UNSET


class DependencySettings(Struct, forbid_unknown_fields=True):
    """The state of the dependency to wait for, and whether to restart together with it."""

    condition: Annotated[
        Condition | UnsetType,
        Meta(
            description=(
                "The state to wait for: `started`, `healthy` or `completed`. By default, the dependency must "
                "be *up*: `completed` for a oneshot, `healthy` for a process with a health check, otherwise "
                "`started`."
            )
        ),
    ] = UNSET
    restart: Annotated[
        bool | UnsetType,
        Meta(
            description="Restart this process whenever the dependency restarts.", extra_json_schema={"default": False}
        ),
    ] = UNSET


class HealthSettings(Struct, forbid_unknown_fields=True):
    """The health check: one of `http`, `tcp`, `exec` and `check`, or `log`, or `log` and one of the others."""

    http: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "An `http` or `https` URL to request. It may contain `$PORT` and other variables of the process."
            ),
            examples=["http://127.0.0.1:$PORT/healthz"],
            extra={"also": ("url", "http_get")},
        ),
    ] = UNSET
    tcp: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "The `host:port` of a TCP port to connect to. It may contain `$PORT` and other variables of "
                "the process."
            ),
            examples=["127.0.0.1:$PORT"],
            extra={"also": ("port",)},
        ),
    ] = UNSET
    exec: Annotated[
        Command | UnsetType,
        Meta(
            description=(
                "A command to run, in the environment of the process. The process is healthy if the command "
                "exits with 0. A string runs through `/bin/sh -c`, a list runs without a shell."
            ),
            examples=["pg_isready -q"],
            extra={"also": ("cmd", "command", "test")},
        ),
    ] = UNSET
    check: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "A URL for a check from an installed package. Its scheme selects the package by the entry "
                "points of the group `procreaper.health`."
            )
        ),
    ] = UNSET
    log: Annotated[
        Text | UnsetType,
        Meta(
            description="A regular expression. The process is ready once a line of its output matches it.",
            examples=["ready to accept connections"],
        ),
    ] = UNSET
    status: Annotated[
        Status | Annotated[list[Status], Meta(min_length=1)] | UnsetType,
        Meta(
            description=(
                "The HTTP statuses of a healthy process. By default, these are 200 to 299. Redirects are not followed."
            ),
            examples=[200, [200, 401]],
        ),
    ] = UNSET
    verify: Annotated[
        bool | UnsetType,
        Meta(
            description=(
                "Whether to verify the certificate of an `https` URL. With `false`, any certificate is accepted."
            ),
            extra_json_schema={"default": True},
            extra={"also": ("insecure", "tls_verify", "ssl_verify")},
        ),
    ] = UNSET
    ca: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "A file with the certificates (PEM) to trust for an `https` URL, instead of those of the "
                "system. The path is relative to the application root."
            ),
            examples=["certs/ca.pem"],
            extra={"also": ("cacert", "ca_file", "cafile")},
        ),
    ] = UNSET
    interval: Annotated[
        Duration | UnsetType,
        Meta(
            description="The time between two checks.",
            extra_json_schema={"default": "10s"},
            extra={"also": ("every", "period", "period_seconds")},
        ),
    ] = UNSET
    timeout: Annotated[
        Duration | UnsetType,
        Meta(description="The time limit for a single check.", extra_json_schema={"default": "5s"}),
    ] = UNSET
    retries: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(
            description="The number of failures in a row after which the process is unhealthy.",
            extra_json_schema={"default": 3},
        ),
    ] = UNSET
    start_interval: Annotated[
        Duration | UnsetType,
        Meta(
            description="The time between two checks before the first success.", extra_json_schema={"default": "500ms"}
        ),
    ] = UNSET
    start_timeout: Annotated[
        Duration | UnsetType,
        Meta(
            description="The time limit for the first success. Failures before that do not count.",
            extra_json_schema={"default": "60s"},
            extra={"also": ("start_period",)},
        ),
    ] = UNSET


class StopSettings(Struct, forbid_unknown_fields=True):
    """How to stop the process, and how long this may take."""

    signal: Annotated[
        SignalName | UnsetType,
        Meta(
            description="The signal to send first, to the whole process group.",
            extra_json_schema={"default": "SIGTERM"},
        ),
    ] = UNSET
    timeout: Annotated[
        Duration | UnsetType,
        Meta(
            description="The time to wait for the process to end. After that, procreaper sends SIGKILL.",
            extra_json_schema={"default": "5s"},
            extra={"also": ("kill_after", "kill_timeout", "grace_period", "stop_grace_period", "stopwaitsecs")},
        ),
    ] = UNSET
    command: Annotated[
        Text | UnsetType,
        Meta(description="A shell command to run instead of sending the signal, in the environment of the process."),
    ] = UNSET
    only_main: Annotated[
        bool | UnsetType,
        Meta(
            description=(
                "Send the signal only to the program that the command runs, not to the processes that this "
                "program has started."
            ),
            extra_json_schema={"default": False},
        ),
    ] = UNSET


class WatchSettings(Struct, forbid_unknown_fields=True):
    """The files to watch, and what to do when one of them changes."""

    paths: Annotated[
        list[Text] | UnsetType,
        Meta(description="The files, directories and globs to watch, relative to the application root."),
    ] = UNSET
    ignore: Annotated[
        list[Text] | UnsetType, Meta(description="Globs of files not to watch, in addition to a built-in list.")
    ] = UNSET
    gitignore: Annotated[
        bool | UnsetType, Meta(description="Ignore the files that git ignores.", extra_json_schema={"default": True})
    ] = UNSET
    debounce: Annotated[
        Duration | UnsetType,
        Meta(
            description="The quiet time before the restart, in which no watched file changes.",
            extra_json_schema={"default": "50ms"},
        ),
    ] = UNSET
    poll: Annotated[
        bool | UnsetType,
        Meta(
            description=(
                "Compare the files at regular intervals, for a file system that reports no changes. By "
                "default, procreaper does this for a Windows directory under WSL."
            )
        ),
    ] = UNSET
    run: Annotated[
        Text | UnsetType,
        Meta(
            description="A shell command to run after each change. The process restarts only if the command succeeds."
        ),
    ] = UNSET
    signal: Annotated[
        SignalName | UnsetType,
        Meta(
            description=(
                "A signal to send instead of restarting. On Linux, only the program that handles the signal "
                "gets it, not a shell above this program and not its workers. On other systems, the whole "
                "process group gets it."
            )
        ),
    ] = UNSET


class LogSettings(Struct, forbid_unknown_fields=True):
    """A log file for the output of the process, and its rotation."""

    file: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "The path of the log file, relative to the application root. It may contain variables of the process."
            ),
            extra={"also": ("path",)},
        ),
    ] = UNSET
    max_size: Annotated[
        Size | UnsetType,
        Meta(
            description='The size above which the file is rotated: `"10MB"`, `"512KiB"`, or a number of bytes.',
            extra_json_schema={"default": "10MB"},
        ),
    ] = UNSET
    max_files: Annotated[
        Annotated[int, Meta(ge=0)] | UnsetType,
        Meta(
            description="The number of rotated files to keep besides the current one.", extra_json_schema={"default": 3}
        ),
    ] = UNSET


class HooksSettings(Struct, forbid_unknown_fields=True):
    """Shell commands to run at certain events, with `REAPER_NAME`, `REAPER_EXIT_CODE` and `REAPER_RETRIES` set."""

    on_ready: Annotated[Text | UnsetType, Meta(description="A command to run when the process is up.")] = UNSET
    on_retry: Annotated[
        Text | UnsetType, Meta(description="A command to run when the process has failed and will be started again.")
    ] = UNSET
    on_fail: Annotated[
        Text | UnsetType,
        Meta(description="A command to run when the process has failed and will not be started again."),
    ] = UNSET


class ProcessSettings(Struct, forbid_unknown_fields=True):
    """How to run and supervise one process type."""

    command: Annotated[
        Command | UnsetType,
        Meta(
            description=(
                "The command to run. By default, this is the command in the Procfile. A string runs through "
                "`/bin/sh -c`; procreaper puts `exec` before the last program if this changes nothing else. A "
                "list runs without a shell."
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
            description=(
                "Environment variables to set. `false` removes a variable, and `true` sets it to the text "
                "`true`. A text may contain `$NAME` and `${NAME}`; `$$` is a dollar sign."
            ),
            examples=[{"LOG_LEVEL": "debug", "DEBUG": False, "URL": "http://localhost:$PORT"}],
            extra={"also": ("environment", "environ", "vars")},
        ),
    ] = UNSET
    env_file: Annotated[
        Paths | UnsetType,
        Meta(
            description=(
                "One or more environment files, relative to the application root. A later file overrides an "
                "earlier one."
            ),
            extra={"also": ("env_files", "envfile", "environment_file")},
        ),
    ] = UNSET
    port: Annotated[
        Annotated[int, Meta(ge=1, le=HIGHEST_PORT)] | Literal["auto"] | UnsetType,
        Meta(
            description=(
                "The `PORT` of the first instance. Each further instance gets the next number. By default, "
                "the first process type gets 5000 and each further type 100 more. `auto` selects a free port "
                "from 20000 to 29999, and the same port at every start if it is still free. This setting "
                "overrides `-p`. In `[defaults]`, only `auto` is valid, and `-p` overrides it."
            ),
            examples=[3000, "auto"],
            extra={"also": ("ports",)},
        ),
    ] = UNSET
    concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=MOST_PROCESSES)] | UnsetType,
        Meta(
            description="The number of instances to run. `-c` and `-m` override it.",
            extra_json_schema={"default": 1},
            extra={"also": ("numprocs", "count", "replicas", "instances", "scale", "formation")},
        ),
    ] = UNSET
    autostart: Annotated[
        bool | UnsetType,
        Meta(
            description=(
                "Whether to start the process with the app. With `false`, it starts only if it is named or if "
                "another process depends on it."
            ),
            extra_json_schema={"default": True},
        ),
    ] = UNSET
    oneshot: Annotated[
        bool | UnsetType,
        Meta(
            description="Expect the process to do its work and end. It is up once it has succeeded.",
            extra_json_schema={"default": False},
        ),
    ] = UNSET
    depends_on: Annotated[
        list[Annotated[str, Meta(extra={"hint": DEPENDENCY_HINT})]]
        | dict[str, Condition | DependencySettings]
        | UnsetType,
        Meta(
            description=(
                "The processes that must be up before this one starts: process types, instances such as "
                "`web.1`, or groups. A process that has been up does not wait for them when it restarts."
            ),
            examples=[["db"], {"db": "healthy", "migrate": {"condition": "completed", "restart": True}}],
            extra={"also": ("depends", "dependencies", "deps", "after", "requires", "needs")},
        ),
    ] = UNSET
    restart: Annotated[
        Restart | UnsetType,
        Meta(
            description="When to restart the process after it ends. `on-failure:3` also sets `max_retries`.",
            extra_json_schema={"default": "never"},
            extra={"also": ("autorestart", "auto_restart", "restart_policy", "respawn")},
        ),
    ] = UNSET
    max_retries: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(
            description=(
                "How many times in a row to restart the process before it counts as failed. By default, there "
                "is no limit."
            ),
            extra={"also": ("retries", "max_restarts", "startretries", "start_retries")},
        ),
    ] = UNSET
    success_codes: Annotated[
        list[Code | SignalName] | UnsetType,
        Meta(
            description=(
                'The exit codes that mean success. A name such as `"SIGTERM"` stands for death by that signal.'
            ),
            extra_json_schema={"default": [0]},
            examples=[[0, "SIGTERM"]],
            extra={"also": ("exitcodes", "exit_codes", "success_exit_codes")},
        ),
    ] = UNSET
    backoff: Annotated[
        Duration | BackoffSettings | UnsetType,
        Meta(
            description=(
                "The wait before a restart. A plain duration sets `initial`, and the wait doubles up to `max`."
            ),
            examples=["2s", {"initial": "2s", "max": "30s", "reset": "45s"}],
            extra={"also": ("restart_delay", "restart_sec", "backoff_seconds", "delay")},
        ),
    ] = UNSET
    stop_all: Annotated[
        When | UnsetType,
        Meta(
            description=(
                "When the end of this process stops the whole app. The default is `always`, but `on-failure` "
                "for a oneshot, and `never` with `watch`."
            ),
            extra={"also": ("exit_on_end", "exit_on_failure", "critical")},
        ),
    ] = UNSET
    health: Annotated[
        Text | HealthSettings | UnsetType,
        Meta(
            description=(
                "How to check whether the process is healthy: a URL (`http://`, `https://` or "
                "`tcp://host:port`), or a table."
            ),
            examples=["http://127.0.0.1:$PORT/healthz", "tcp://127.0.0.1:6379", {"exec": "pg_isready -q"}],
            extra={"also": ("healthcheck", "health_check", "ready", "readiness_probe", "liveness_probe", "probe")},
        ),
    ] = UNSET
    stop: Annotated[
        SignalName | StopSettings | UnsetType,
        Meta(
            description="The signal that stops the process, or a table.",
            examples=["SIGINT", {"signal": "SIGINT", "timeout": "30s"}],
            extra={"hint": STOP_HINT, "also": ("stop_signal", "stopsignal", "kill_signal", "shutdown", "signal")},
        ),
    ] = UNSET
    watch: Annotated[
        list[Text] | WatchSettings | UnsetType,
        Meta(
            description=(
                "The files, directories and globs to watch; a change restarts the process. If they include "
                "`.env`, the `Procfile` or `.reaper.toml`, the restart applies the new content of these "
                "files."
            ),
            examples=[["app", "config/*.toml"], {"paths": ["styles"], "run": "make css"}],
        ),
    ] = UNSET
    log: Annotated[
        Text | LogSettings | UnsetType,
        Meta(
            description="A log file, to which the output is written in addition to the terminal.",
            examples=["log/db.log", {"file": "log/db.log", "max_size": "10MB", "max_files": 3}],
            extra={"also": ("stdout_logfile", "logfile", "log_file", "log_location")},
        ),
    ] = UNSET
    pty: Annotated[
        bool | Literal["auto"] | UnsetType,
        Meta(
            description=(
                "Whether the process gets a terminal of its own. With `auto`, it does if procreaper runs in a terminal."
            ),
            extra_json_schema={"default": "auto"},
            extra={"expected": '`true`, `false` or "auto"', "also": ("tty", "is_tty")},
        ),
    ] = UNSET
    detached: Annotated[
        bool | UnsetType,
        Meta(
            description=(
                "Keep the process running when procreaper ends; the next start finds it again. It needs a "
                "`log`. Because the process writes to this file directly, the file is rotated only at the "
                "start of a run."
            ),
            extra_json_schema={"default": False},
            extra={"also": ("daemon", "is_daemon", "background")},
        ),
    ] = UNSET
    hooks: Annotated[HooksSettings | UnsetType, Meta(description="Commands to run at certain events.")] = UNSET


class OutputSettings(Struct, forbid_unknown_fields=True):
    """The format of the output."""

    format: Annotated[
        Literal["text", "json"] | UnsetType,
        Meta(
            description="The format of the output. `--log-format` overrides it.", extra_json_schema={"default": "text"}
        ),
    ] = UNSET
    timestamps: Annotated[
        bool | UnsetType,
        Meta(
            description="Begin each line with the time of day. `--no-timestamp` overrides it.",
            extra_json_schema={"default": True},
            extra={"also": ("timestamp",)},
        ),
    ] = UNSET


class ControlSettings(Struct, forbid_unknown_fields=True):
    """Access to the running app."""

    http: Annotated[
        Text | UnsetType,
        Meta(
            description=(
                "The `host:port`, or only the port, of a read-only HTTP server with status, events, logs and "
                "metrics. It accepts connections from this machine only. Port 0 selects a free port. By "
                "default, there is no server. `--http` overrides this setting. It requires `pip install "
                "'procreaper[http]'`."
            ),
            examples=["127.0.0.1:9464"],
        ),
    ] = UNSET


class EnvSettings(Struct, forbid_unknown_fields=True):
    """The environment files of the app."""

    files: Annotated[
        Paths | UnsetType,
        Meta(
            description=(
                "The environment files, relative to the application root. A later file overrides an earlier "
                "one. `-e` overrides this setting."
            ),
            extra_json_schema={"default": [".env"]},
            extra={"also": ("file",)},
        ),
    ] = UNSET
    parser: Annotated[
        Literal["honcho", "dotenv"] | UnsetType,
        Meta(
            description=(
                "The rules for reading the lines: those of honcho, or those of python-dotenv. python-dotenv "
                "requires `pip install 'procreaper[dotenv]'`."
            ),
            extra_json_schema={"default": "honcho"},
        ),
    ] = UNSET


class Document(Struct, forbid_unknown_fields=True):
    """The settings of procreaper for one project, in the file `.reaper.toml` beside its Procfile."""

    process: Annotated[
        dict[Name, ProcessSettings],
        Meta(
            description=(
                "The settings of each process type. The name is that of a process type in the Procfile, or a "
                "new one with a `command`."
            ),
            extra={"also": ("processes", "program", "service", "services", "daemons")},
        ),
    ] = field(default_factory=dict)
    defaults: Annotated[
        ProcessSettings | UnsetType,
        Meta(
            description="Settings for all process types. Every key of a process is valid here.",
            extra={"also": ("default",)},
        ),
    ] = UNSET
    groups: Annotated[
        dict[Name, list[str]],
        Meta(
            description="Names for several processes. A group is valid wherever the name of a process is.",
            examples=[{"backend": ["api", "worker"]}],
            extra={"also": ("group",)},
        ),
    ] = field(default_factory=dict)
    output: OutputSettings | UnsetType = UNSET
    control: ControlSettings | UnsetType = UNSET
    env: Annotated[EnvSettings | UnsetType, Meta(extra={"also": ("environment", "dotenv")})] = UNSET


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors and other tools."""
    return {"$schema": DRAFT, "title": ".reaper.toml", "description": Document.__doc__, **schema(Document)}
