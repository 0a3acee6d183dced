"""Turns the settings of a process type into the terms of a plan, and finds contradictions in them.

Rules: pure; handles one process type at a time. `planner` handles all types together, and `instances` the differences
between the instances of a type. Imported only if there is a `.reaper.toml`. A setting of the process itself that cannot
apply is an error. A setting from `[defaults]` that cannot apply is dropped silently if the intention is clear: a health
check of a oneshot, or `max_retries` without restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from procreaper.core.plan import Backoff, Condition, Hooks, LogFile, Process, StopPolicy, Watch, When
from procreaper.core.ports import AUTO
from procreaper.errors import Problem, did_you_mean
from procreaper.project.defaults import CHECKS, Layers
from procreaper.project.schema import DependencySettings, ProcessSettings
from procreaper.project.settings import Settings
from procreaper.project.toml import Keys, format_keys, quote_text
from procreaper.project.values import parse_duration, parse_size

CHECK_KINDS = ("http", "tcp", "exec", "check")


class DependencyEntry(NamedTuple):
    """One entry of `depends_on`: the name as written, the condition, and the place in the file.

    If `condition` is None, the dependency must be up.
    """

    name: str
    condition: Condition | None
    restart: bool
    keys: Keys


class Supervision(NamedTuple):
    """The settings of a process type. `template` has the values that all its instances share.

    `has_health` is None if the health settings are broken. `pty` is None for `auto`. `port` is that of the first
    instance, or `auto`; None if the process sets no port.
    """

    layers: Layers
    template: Process
    concurrency: int
    autostart: bool
    depends_on: tuple[DependencyEntry, ...]
    has_health: bool | None
    says_stop_all: bool
    pty: bool | None
    port: int | str | None = None
    defaults_to_auto_port: bool = False


def read_process_type(
    name: str, command: str | tuple[str, ...], settings: Settings, signals: Mapping[str, int]
) -> tuple[Supervision, list[Problem]]:
    """Read the settings of the process type `name`. Return them and their problems.

    `command` is that of the Procfile, or empty. `signals` has the signal numbers of this system, by names such as
    ``SIGTERM``.
    """
    document = settings.document
    defaults = ProcessSettings() if isinstance(document.defaults, UnsetType) else document.defaults
    layers = Layers(name, document.process.get(name, ProcessSettings()), defaults)
    reader = _TypeReader(layers, settings, signals)
    return reader.read(command), reader.problems


class _TypeReader:
    """Reads the settings of one process type, and collects contradictions in them."""

    def __init__(self, layers: Layers, settings: Settings, signals: Mapping[str, int]) -> None:
        self._layers = layers
        self._signals = signals
        self._settings = settings
        self.problems: list[Problem] = []

    def read(self, command: str | tuple[str, ...]) -> Supervision:
        layers = self._layers
        oneshot = layers.get("oneshot") is True
        restart, max_retries = self._read_restart(oneshot=oneshot)
        hooks = layers.hooks
        template = Process(
            name=layers.name,
            command=self._read_command(command),
            cwd=layers.get("cwd") or None,
            oneshot=oneshot,
            restart=restart,
            backoff=self._read_backoff(),
            max_retries=max_retries,
            success_codes=self._read_success_codes(),
            stop_all=self._read_stop_all(oneshot=oneshot),
            stop=self._read_stop(),
            hooks=Hooks(hooks.on_ready or None, hooks.on_retry or None, hooks.on_fail or None)
            if any(getattr(hooks, name) for name in hooks.__struct_fields__)
            else None,
            watch=self._read_watch(),
            log=self._read_log(),
            detached=layers.get("detached") is True,
        )
        self._check_detached()
        concurrency = layers.get("concurrency")
        return Supervision(
            layers,
            template,
            concurrency=1 if concurrency is UNSET else concurrency,
            autostart=layers.get("autostart") is not False,
            depends_on=self._read_depends_on(),
            has_health=self._check_health(oneshot=oneshot),
            says_stop_all=layers.get("stop_all") is not UNSET,
            port=self._read_port(),
            defaults_to_auto_port=layers.defaults.port == AUTO,
            pty=None if layers.get("pty") in (UNSET, "auto") else layers.get("pty"),
        )

    def _add_problem(self, keys: Keys, message: str, hint: str | None, value: object = None) -> None:
        self.problems.append(self._settings.problem(keys, message, hint, value=value))

    def _read_command(self, from_procfile: str | tuple[str, ...]) -> str | tuple[str, ...]:
        layers = self._layers
        # The line of the Procfile belongs to this process, so it overrides `[defaults]`.
        command = layers.own.command if from_procfile else layers.get("command")
        if isinstance(command, UnsetType):
            return from_procfile
        blank = not command.strip() if isinstance(command, str) else not command[0]
        if blank:
            self._add_problem(
                layers.keys("command"), f"the command of `{layers.name}` is empty", "leave it out, or give one"
            )
        return command if isinstance(command, str) else tuple(command)

    def _read_port(self) -> int | str | None:
        if isinstance(self._layers.defaults.port, int):
            keys: Keys = ("defaults", "port")
            message = f"`{format_keys(keys)}` cannot be a number, because all process types would have the same port"
            self._add_problem(keys, message, 'write it under `[process.NAME]`, or write `port = "auto"`')
        return self._layers.own.port or None

    def _read_restart(self, *, oneshot: bool) -> tuple[When, int | None]:
        layers = self._layers
        text = layers.get("restart")
        word, _, count = ("never" if text is UNSET else text).partition(":")
        restart = When.NEVER if word == "no" else When(word)
        retries = layers.get("max_retries")
        max_retries = None if retries is UNSET else retries
        same_layer = layers.keys("restart")[:-1] == layers.keys("max_retries")[:-1]
        if count and max_retries not in (None, int(count)) and same_layer:
            message = (
                f"`{format_keys(layers.keys('max_retries'))}` is {max_retries}, but `restart` is {quote_text(text)}"
            )
            self._add_problem(layers.keys("max_retries"), message, "keep one of them")
        elif count and not (layers.is_own("max_retries") and not layers.is_own("restart")):
            max_retries = int(count)
        if restart is When.NEVER and max_retries is not None:
            if layers.is_own("max_retries") and not self._is_broken("restart"):
                keys = layers.keys("max_retries")
                message = f"`{format_keys(keys)}` has no effect, because `{layers.name}` is never restarted"
                self._add_problem(keys, message, 'add `restart = "on-failure"`, or remove it')
            max_retries = None
        if restart is When.ALWAYS and oneshot:
            message = f"`{layers.name}` is a oneshot, so it cannot be restarted always"
            self._add_problem(layers.keys("restart"), message, self._suggest_override("restart", "on-failure"))
        return restart, max_retries

    def _suggest_override(self, field: str, value: str) -> str:
        where = "" if self._layers.is_own(field) else f" under `[process.{self._layers.name}]`"
        return f"write `{field} = {quote_text(value)}`{where}"

    def _read_backoff(self) -> Backoff:
        backoff, default = self._layers.backoff, Backoff()
        for name in ("initial", "max", "reset"):
            value = getattr(backoff, name)
            if value is not UNSET and parse_duration(value) == 0:
                keys = self._layers.keys("backoff", name)
                self._add_problem(keys, f"`{format_keys(keys)}` must be more than 0", 'for example "100ms"')
        initial = _seconds(backoff.initial, default.initial)
        maximum = _seconds(backoff.max, max(default.maximum, initial))
        if maximum < initial:
            keys = self._layers.keys("backoff", "max")
            self._add_problem(keys, f"`{format_keys(keys)}` is less than `initial`", "swap them, or remove one")
        return Backoff(initial, maximum, _seconds(backoff.reset, default.reset))

    def _read_success_codes(self) -> frozenset[int]:
        codes = self._layers.get("success_codes")
        if codes is UNSET:
            return frozenset({0})
        found: set[int] = set()
        for index, code in enumerate(codes):
            keys = self._layers.keys("success_codes", index)
            found.add(code if isinstance(code, int) else 128 + self._read_signal(code, keys))
        return frozenset(found)

    def _read_signal(self, name: str, keys: Keys) -> int:
        number = self._signals.get(name if name.startswith("SIG") else f"SIG{name}")
        if number is None:
            message = f"`{format_keys(keys)}` must be the name of a signal, not {quote_text(name)}"
            self._add_problem(keys, message, did_you_mean(name, self._signals, otherwise=False), name)
        return number or StopPolicy().signal

    def _read_stop_all(self, *, oneshot: bool) -> When:
        stop_all = self._layers.get("stop_all")
        if stop_all is not UNSET:
            return When(stop_all)
        if self._layers.watch.paths:
            return When.NEVER
        return When.ON_FAILURE if oneshot else When.ALWAYS

    def _read_stop(self) -> StopPolicy:
        stop, keys = self._layers.stop, self._layers.keys
        if stop.signal and stop.command:
            message = f"`{format_keys(keys('stop', 'command'))}` replaces the signal, so only one of them can be set"
            self._add_problem(keys("stop", "command"), message, "remove `signal` or `command`")
        return StopPolicy(
            self._read_signal(stop.signal, keys("stop", "signal")) if stop.signal else StopPolicy().signal,
            _seconds(stop.timeout, StopPolicy().timeout),
            stop.command or None,
            stop.only_main is True,
        )

    def _read_watch(self) -> Watch | None:
        """Return the files to watch. `planner` adds the root."""
        watch, keys = self._layers.watch, self._layers.keys
        if not watch.paths:
            if self._layers.is_own("watch") and watch.paths is UNSET and not self._is_broken("watch"):
                message = f"`{format_keys(keys('watch'))}` does not say which files to watch"
                self._add_problem(keys("watch"), message, 'add `paths = ["."]`')
            return None
        return Watch(
            "",
            tuple(watch.paths),
            ignore=tuple(watch.ignore or ()),
            gitignore=watch.gitignore is not False,
            debounce=_seconds(watch.debounce, Watch("", ()).debounce),
            poll=None if isinstance(watch.poll, UnsetType) else watch.poll,
            run=watch.run or None,
            signal=self._read_signal(watch.signal, keys("watch", "signal")) if watch.signal else None,
        )

    def _read_log(self) -> LogFile | None:
        """Return the log file. `planner` makes its path absolute."""
        log, keys = self._layers.log, self._layers.keys
        if not log.file:
            if self._layers.is_own("log") and log.file is UNSET and not self._is_broken("log"):
                message = f"`{format_keys(keys('log'))}` does not name a file"
                self._add_problem(keys("log"), message, f'add `file = "log/{self._layers.name}.log"`')
            return None
        return LogFile(
            log.file,
            LogFile("").max_size if isinstance(log.max_size, UnsetType) else parse_size(log.max_size),
            LogFile("").max_files if isinstance(log.max_files, UnsetType) else log.max_files,
        )

    def _check_detached(self) -> None:
        layers = self._layers
        if layers.get("detached") is True and not layers.log.file and not self._is_broken("log"):
            message = f"`{layers.name}` is detached, so its output needs a file"
            self._add_problem(layers.keys("detached"), message, f'add `log = "log/{layers.name}.log"`')
        if layers.get("detached") is True and layers.get("pty") is True and layers.is_own("pty"):
            message = f"`{layers.name}` is detached, so it cannot have a terminal, which would end with procreaper"
            self._add_problem(layers.keys("pty"), message, "remove `pty` or `detached`")
        if layers.get("detached") is True and not self._is_broken("health") and layers.health.log:
            message = (
                f"`{layers.name}` is detached, so procreaper does not read its output, and `health.log` cannot match"
            )
            self._add_problem(layers.keys("health", "log"), message, "check its health by `http`, `tcp` or `exec`")

    def _read_depends_on(self) -> tuple[DependencyEntry, ...]:
        depends_on, keys = self._layers.get("depends_on"), self._layers.keys
        if depends_on is UNSET:
            return ()
        if isinstance(depends_on, list):
            return tuple(
                DependencyEntry(name, None, False, keys("depends_on", index)) for index, name in enumerate(depends_on)
            )
        entries = []
        for name, value in depends_on.items():
            edge = value if isinstance(value, DependencySettings) else DependencySettings(condition=value)
            condition = None if isinstance(edge.condition, UnsetType) else Condition(edge.condition)
            entries.append(DependencyEntry(name, condition, edge.restart is True, keys("depends_on", name)))
        return tuple(entries)

    def _check_health(self, *, oneshot: bool) -> bool | None:
        layers = self._layers
        health = layers.health
        if self._is_broken("health"):
            return None
        given = [check for check in CHECKS if getattr(health, check) is not UNSET]
        if oneshot and layers.is_own("health"):
            message = f"`{layers.name}` is a oneshot: it is up when it has completed, so it cannot have a health check"
            self._add_problem(layers.keys("health"), message, "remove `health` or `oneshot`")
            return None
        kinds = [check for check in given if check in CHECK_KINDS]
        if len(kinds) > 1:
            keys = layers.keys("health", kinds[1])
            message = f"`{format_keys(keys)}` cannot be used together with `{kinds[0]}`"
            self._add_problem(keys, message, "choose one of `http`, `tcp`, `exec` and `check`")
        for name in ("status", "verify", "ca"):
            if name in given and "http" not in given:
                keys = layers.keys("health", name)
                self._add_problem(keys, f"`{format_keys(keys)}` is for `http` only", "remove it")
        if "ca" in given and health.verify is False:
            keys = layers.keys("health", "ca")
            self._add_problem(keys, f"`{format_keys(keys)}` has no effect with `verify = false`", "remove one of them")
        for name in ("interval", "timeout", "start_interval", "start_timeout"):
            value = getattr(health, name)
            if value is not UNSET and parse_duration(value) == 0:
                keys = layers.keys("health", name)
                self._add_problem(keys, f"`{format_keys(keys)}` must be more than 0", 'for example "10s"')
        if kinds or "log" in given:
            return True
        if layers.is_own("health"):
            message = f"`{format_keys(layers.keys('health'))}` does not say what to check"
            self._add_problem(layers.keys("health"), message, "add one of `http`, `tcp`, `exec` and `log`")
            return None
        return False

    def _is_broken(self, field: str) -> bool:
        return any(
            self._settings.is_broken(keys) for keys in (("process", self._layers.name, field), ("defaults", field))
        )


def _seconds(value: str | float | UnsetType, default: float) -> float:
    return default if isinstance(value, UnsetType) else parse_duration(value)
