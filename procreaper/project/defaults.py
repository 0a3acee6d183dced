"""One process type's settings over those of `[defaults]`.

Rules: pure; knows which layer a value comes from, so that a problem is placed where it was written. A plain value or a
list of the process replaces that of `[defaults]`; tables (`env`, `stop`, `backoff`, `health`, `watch`, `log`, `hooks`)
are merged key by key, a plain value counting as the table that it is short for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from msgspec import UNSET, Struct, UnsetType

from procreaper.project.schema import (
    BackoffSettings,
    HealthSettings,
    HooksSettings,
    LogSettings,
    ProcessSettings,
    StopSettings,
    WatchSettings,
)
from procreaper.project.toml import Keys

Table = TypeVar("Table", bound=Struct)

TABLES = (dict, list, Struct)
# What tells whether a process is healthy; the process's own replace all of those in `[defaults]`.
CHECKS = ("http", "tcp", "exec", "check", "log", "status", "verify", "ca")


class Layers(NamedTuple):
    """The settings of the process type `name`, and under them those of `[defaults]`."""

    name: str
    own: ProcessSettings
    defaults: ProcessSettings

    def get(self, field: str) -> Any:
        """The value of a field, UNSET where nobody gave one."""
        value = getattr(self.own, field)
        return getattr(self.defaults, field) if value is UNSET else value

    def is_own(self, field: str) -> bool:
        """Whether the process itself gives this field."""
        return getattr(self.own, field) is not UNSET

    def keys(self, field: str, *inner: str | int) -> Keys:
        """Where a field, or a key of its table, was written."""
        own, default = getattr(self.own, field), getattr(self.defaults, field)
        inherited = own is UNSET
        if inner and own is not UNSET and default is not UNSET and _is_table(default):
            inherited = _is_table(own) and not _has(own, inner[0]) and _has(default, inner[0])
        base: Keys = ("defaults",) if inherited else ("process", self.name)
        return (*base, field, *inner) if isinstance(default if inherited else own, TABLES) else (*base, field)

    @property
    def env(self) -> dict[str, str | int | float | bool]:
        """The variables of both."""
        layers = (self.defaults.env, self.own.env)
        return {name: value for layer in layers if not isinstance(layer, UnsetType) for name, value in layer.items()}

    @property
    def stop(self) -> StopSettings:
        """How it is asked to end; a `command` of its own replaces an inherited `signal`, and the other way round."""
        own, default = _tables(self, "stop", lambda signal: StopSettings(signal=signal), StopSettings)
        if own.command is not UNSET or own.signal is not UNSET:
            default = _without(default, ("command", "signal"))
        return _merged(own, default)

    @property
    def backoff(self) -> BackoffSettings:
        """The wait before a retry."""
        return _merged(*_tables(self, "backoff", lambda initial: BackoffSettings(initial=initial), BackoffSettings))

    @property
    def health(self) -> HealthSettings:
        """What is checked, if anything; empty for a oneshot that has it from `[defaults]` only."""
        own, default = _tables(self, "health", as_health, HealthSettings)
        if any(getattr(own, check) is not UNSET for check in CHECKS):
            default = _without(default, CHECKS)
        return own if self.get("oneshot") is True else _merged(own, default)

    @property
    def log(self) -> LogSettings:
        """The file that the output goes to."""
        return _merged(*_tables(self, "log", lambda file: LogSettings(file=file), LogSettings))

    @property
    def hooks(self) -> HooksSettings:
        """The commands that are run when something happens to it."""
        return _merged(*_tables(self, "hooks", lambda _: HooksSettings(), HooksSettings))

    @property
    def watch(self) -> WatchSettings:
        """What is watched for changes."""
        return _merged(*_tables(self, "watch", lambda paths: WatchSettings(paths=paths), WatchSettings))


def as_health(url: str) -> HealthSettings:
    """The table that a URL is short for; a scheme that is not ours names a check of an installed package."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url)
    if scheme is None or scheme[0].lower() in ("http://", "https://"):
        return HealthSettings(http=url)
    if scheme[0].lower() == "tcp://":
        return HealthSettings(tcp=url[len(scheme[0]) :].removesuffix("/"))
    return HealthSettings(check=url)


def _is_table(value: object) -> bool:
    return isinstance(value, dict | Struct)


def _has(table: object, key: str | int) -> bool:
    if isinstance(table, dict):
        return key in table
    return getattr(table, str(key), UNSET) is not UNSET


def _tables(
    layers: Layers, field: str, from_plain: Callable[[Any], Table], empty: Callable[[], Table]
) -> tuple[Table, Table]:
    def table(value: Any) -> Table:
        if value is UNSET:
            return empty()
        return value if isinstance(value, Struct) else from_plain(value)  # type: ignore[return-value]

    return table(getattr(layers.own, field)), table(getattr(layers.defaults, field))


def _merged(own: Table, default: Table) -> Table:
    values = {}
    for field in own.__struct_fields__:
        value = getattr(own, field)
        values[field] = getattr(default, field) if value is UNSET else value
    return type(own)(**values)


def _without(table: Table, fields: tuple[str, ...]) -> Table:
    kept = {field: getattr(table, field) for field in table.__struct_fields__ if field not in fields}
    return type(table)(**kept)
