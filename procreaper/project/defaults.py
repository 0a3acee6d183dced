"""Merges the settings of a process type with those of `[defaults]`.

Rules: pure. It knows the layer of each value, so that a problem is reported at the right line. A plain value or a list
of the process replaces that of `[defaults]`. Tables (`env`, `stop`, `backoff`, `health`, `watch`, `log`, `hooks`) are
merged key by key; a plain value counts as the table that it abbreviates.
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
# The keys that select a health check. If a process sets one of them, it inherits none of them from `[defaults]`.
CHECKS = ("http", "tcp", "exec", "check", "log", "status", "verify", "ca")


class Layers(NamedTuple):
    """The settings of the process type `name`, and those of `[defaults]` below them."""

    name: str
    own: ProcessSettings
    defaults: ProcessSettings

    def get(self, field: str) -> Any:
        """Return the value of a field; UNSET if neither layer has one."""
        value = getattr(self.own, field)
        return getattr(self.defaults, field) if value is UNSET else value

    def is_own(self, field: str) -> bool:
        """Return whether the process itself has this field."""
        return getattr(self.own, field) is not UNSET

    def keys(self, field: str, *inner: str | int) -> Keys:
        """Return the path of a field, or of a key in its table, in the layer that it comes from."""
        own, default = getattr(self.own, field), getattr(self.defaults, field)
        inherited = own is UNSET
        if inner and own is not UNSET and default is not UNSET and _is_table(default):
            inherited = _is_table(own) and not _has(own, inner[0]) and _has(default, inner[0])
        base: Keys = ("defaults",) if inherited else ("process", self.name)
        return (*base, field, *inner) if isinstance(default if inherited else own, TABLES) else (*base, field)

    @property
    def env(self) -> dict[str, str | int | float | bool]:
        """The variables of both layers."""
        layers = (self.defaults.env, self.own.env)
        return {name: value for layer in layers if not isinstance(layer, UnsetType) for name, value in layer.items()}

    @property
    def stop(self) -> StopSettings:
        """How to stop the process. Its own `command` replaces an inherited `signal`, and vice versa."""
        own, default = _as_tables(self, "stop", lambda signal: StopSettings(signal=signal), StopSettings)
        if own.command is not UNSET or own.signal is not UNSET:
            default = _without(default, ("command", "signal"))
        return _merge(own, default)

    @property
    def backoff(self) -> BackoffSettings:
        """The wait before a restart."""
        return _merge(*_as_tables(self, "backoff", lambda initial: BackoffSettings(initial=initial), BackoffSettings))

    @property
    def health(self) -> HealthSettings:
        """The health check, if there is one. A oneshot does not inherit one."""
        own, default = _as_tables(self, "health", expand_health, HealthSettings)
        if any(getattr(own, check) is not UNSET for check in CHECKS):
            default = _without(default, CHECKS)
        return own if self.get("oneshot") is True else _merge(own, default)

    @property
    def log(self) -> LogSettings:
        """The log file."""
        return _merge(*_as_tables(self, "log", lambda file: LogSettings(file=file), LogSettings))

    @property
    def hooks(self) -> HooksSettings:
        """The commands to run at certain events."""
        return _merge(*_as_tables(self, "hooks", lambda _: HooksSettings(), HooksSettings))

    @property
    def watch(self) -> WatchSettings:
        """The files to watch."""
        return _merge(*_as_tables(self, "watch", lambda paths: WatchSettings(paths=paths), WatchSettings))


def expand_health(url: str) -> HealthSettings:
    """Return the table that a URL abbreviates. An unknown scheme selects a check of an installed package."""
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


def _as_tables(
    layers: Layers, field: str, from_plain: Callable[[Any], Table], empty: Callable[[], Table]
) -> tuple[Table, Table]:
    def table(value: Any) -> Table:
        if value is UNSET:
            return empty()
        return value if isinstance(value, Struct) else from_plain(value)  # type: ignore[return-value]

    return table(getattr(layers.own, field)), table(getattr(layers.defaults, field))


def _merge(own: Table, default: Table) -> Table:
    values = {}
    for field in own.__struct_fields__:
        value = getattr(own, field)
        values[field] = getattr(default, field) if value is UNSET else value
    return type(own)(**values)


def _without(table: Table, fields: tuple[str, ...]) -> Table:
    kept = {field: getattr(table, field) for field in table.__struct_fields__ if field not in fields}
    return type(table)(**kept)
