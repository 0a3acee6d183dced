"""The differences between the instances of a process type: the environment, the health check and the log file.

Rules: pure. These settings may contain `$PORT` and other variables of the process. A variable that is not set is an
error now, instead of a check that fails later. Imported only if there is a `.reaper.toml`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from msgspec import UNSET, UnsetType

from procreaper.core.checks import Check, ExecCheck, Health, HealthCheck, HTTPCheck, LogCheck, TCPCheck
from procreaper.core.ports import PREFIX
from procreaper.errors import Problem, ProcreaperError, enumerate_words
from procreaper.project.defaults import Layers
from procreaper.project.process_types import CHECK_KINDS
from procreaper.project.procfile import OURS
from procreaper.project.settings import Settings
from procreaper.project.toml import Keys, format_keys, quote_text
from procreaper.project.values import UnsetVariableError, parse_duration, substitute_variables

# The digits of the highest port.
MOST_DIGITS = 5
DURATIONS = ("interval", "timeout", "start_interval", "start_timeout")
LoadCheck = Callable[[str], HealthCheck]


class InstanceReader:
    """Makes the environment, the health check and the log path of one process, and collects the problems.

    `environment` has all variables except those of `env`, which may override them. `is_complete` is False if an
    environment file could not be read; then unset variables are not reported. Paths are relative to `directory`, the
    application root.
    """

    def __init__(
        self,
        layers: Layers,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        is_complete: bool = True,
        directory: str = ".",
    ) -> None:
        self._layers = layers
        self._settings = settings
        self._is_complete = is_complete
        self._directory = directory
        self.environment = dict(environment)
        self.problems: list[Problem] = []
        self._add_variables()
        # The path as written, with the values of its variables.
        self.log_path: str | None = None
        if not isinstance(layers.log.file, UnsetType):
            self.log_path = self._substitute(layers.log.file, layers.keys("log", "file"))

    def make_health(self, load_check: LoadCheck) -> Health | None:
        """Make the health check. Return None if there is none, or if it has a mistake."""
        health, keys = self._layers.health, self._layers.keys
        check: Check | None = None
        log: LogCheck | None = None
        count = len(self.problems)
        kind = next((kind for kind in CHECK_KINDS if getattr(health, kind) is not UNSET), None)
        if kind is not None:
            check = self._make_check(kind, getattr(health, kind), keys("health", kind), load_check)
        if not isinstance(health.log, UnsetType):
            try:
                log = LogCheck(health.log)
            except ValueError as error:
                self._add_problem(keys("health", "log"), str(error), r"escape literal characters: `\(`, `\[`, `\.`")
        if len(self.problems) > count or (check is None and log is None):
            return None
        durations: dict[str, float] = {}
        for name in DURATIONS:
            value = getattr(health, name)
            if value is not UNSET:
                durations[name] = parse_duration(value)
        if 0 in durations.values():
            # `process_types` has already reported this.
            return None
        made = Health(check=check, log=log, **durations)  # type: ignore[arg-type]
        return made if isinstance(health.retries, UnsetType) else replace(made, retries=health.retries)

    def _make_check(self, kind: str, value: Any, keys: Keys, load_check: LoadCheck) -> Check | None:
        if kind == "exec":
            try:
                return ExecCheck(value if isinstance(value, str) else tuple(value))
            except ValueError as error:
                self._add_problem(keys, f"`{format_keys(keys)}`: {error}", 'for example `exec = "pg_isready -q"`')
                return None
        text = self._substitute(value, keys)
        if text is None:
            return None
        try:
            if kind == "http":
                return self._make_http_check(text)
            if kind == "tcp":
                return TCPCheck(text.removeprefix("tcp://"))
            return load_check(text)
        except (ValueError, ProcreaperError) as error:
            if isinstance(error, ProcreaperError):
                message, hint = error.message, error.hint
            else:
                message, hint = str(error), None
            # The environment may hold secrets, so the message shows the text as written, without the values.
            message = message.replace(text, value)
            self._add_problem(keys, f"`{format_keys(keys)}`: {message}", hint or _suggest_check(kind, value))
            return None

    def _make_http_check(self, url: str) -> HTTPCheck | None:
        health, keys = self._layers.health, self._layers.keys
        status, ca = health.status, health.ca
        codes = () if isinstance(status, UnsetType) else (status,) if isinstance(status, int) else tuple(status)
        check = HTTPCheck(url, codes)
        if not url.lower().startswith("https:"):
            for name in ("verify", "ca"):
                if getattr(health, name) is not UNSET:
                    place = keys("health", name)
                    self._add_problem(
                        place, f"`{format_keys(place)}` is for `https` only", "remove it, or write `https://`"
                    )
            return check
        if health.verify is False:
            return replace(check, verify=False)
        if isinstance(ca, UnsetType):
            return check
        path = self._substitute(ca, keys("health", "ca"))
        return None if path is None else replace(check, ca=posixpath.join(self._directory, path))

    def _add_variables(self) -> None:
        for name, value in self._layers.env.items():
            keys = self._layers.keys("env", name)
            if name in OURS or name.startswith(PREFIX):
                message = f"`{format_keys(keys)}` cannot be set, because procreaper sets it for each process"
                self._add_problem(keys, message, _suggest_port(value, keys) if name == "PORT" else "remove it")
            elif not name or "=" in name:
                message = f"`{format_keys(keys)}`: {quote_text(name)} cannot be the name of a variable"
                self._add_problem(keys, message, "correct it")
            elif value is False:
                self.environment.pop(name, None)
            else:
                text = self._substitute(value, keys) if isinstance(value, str) else _format_number(value)
                # Set it even after a mistake, so that its users are not reported as well.
                self.environment[name] = text or ""

    def _substitute(self, text: str, keys: Keys) -> str | None:
        try:
            return substitute_variables(text, self.environment)
        except UnsetVariableError as error:
            if self._is_complete and not self._settings.is_broken((*keys[:-1], error.name)):
                hint = "set it in a .env file or in `env`; for a dollar sign write `$$`"
                if error.name in self._layers.env:
                    hint = f"write it after `{error.name}` in `env`, and do not set that one to `false`"
                self._add_problem(keys, f"`{format_keys(keys)}` uses `${error.name}`, which is not set", hint)
        except ValueError as error:
            self._add_problem(keys, f"`{format_keys(keys)}`: {error}", "for a dollar sign write `$$`")
        return None

    def _add_problem(self, keys: Keys, message: str, hint: str | None) -> None:
        self.problems.append(self._settings.problem(keys, message, hint))


def _suggest_port(value: object, keys: Keys) -> str:
    text = str(value)
    if keys[0] == "defaults" or not (text.isascii() and text.isdecimal() and 1 <= len(text.lstrip("0")) <= MOST_DIGITS):
        return "write `port = 3000` under `[process.NAME]` for the port of one type; `-p` sets that of the first type"
    return f"write `port = {int(text)}` in its place"


def _format_number(value: float) -> str:
    return "true" if value is True else str(value)


def _suggest_check(kind: str, text: str) -> str:
    if kind == "http" and text.startswith("/") and " " not in text:
        # Kubernetes and many proxies take a path.
        return f"write the whole URL: {quote_text(f'http://127.0.0.1:$PORT{text}')}"
    if kind == "http" and " " in text and "://" not in text.split(" ", 1)[0]:
        return f"write a command as `health = {{ exec = {quote_text(text)} }}`"
    if kind == "http" and "://" not in text:
        kinds = enumerate_words(["http://127.0.0.1:$PORT/healthz", f"tcp://{text if ':' in text else 'host:port'}"])
        return f"write a URL: {kinds}; a command is `{{ exec = ... }}`"
    examples = {"http": "http://127.0.0.1:$PORT/healthz", "tcp": "127.0.0.1:$PORT"}
    return f"for example {quote_text(examples[kind])}" if kind in examples else "correct the URL"
