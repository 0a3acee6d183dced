"""Health checks from other packages, found by the scheme of a URL.

Rules: this module knows only the group of their entry points and the `HealthCheck` protocol. A package offers a check
in its ``pyproject.toml``; the object that the entry point names is called with the whole URL:

    [project.entry-points."procreaper.health"]
    redis = "procreaper_redis:RedisCheck"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from procreaper.runtime.health.errors import describe_error

if TYPE_CHECKING:
    from procreaper.core.checks import HealthCheck

GROUP = "procreaper.health"


def load_check(url: str) -> HealthCheck:
    """Return the check for a URL such as ``redis://localhost:6379``.

    Raises ValueError if no package offers a check for its scheme, or if the offered check does not work.
    """
    from importlib.metadata import entry_points

    scheme = url.partition("://")[0].lower()
    offered = entry_points(group=GROUP)
    found = [entry for entry in offered if entry.name.lower() == scheme]
    if not found:
        schemes = ", ".join(f"{name}://" for name in sorted({"http", "https", "tcp", *offered.names}))
        raise ValueError(f"no installed package checks `{url}`; known are {schemes}")
    source = f"the health check `{found[0].name}` ({found[0].value})"
    try:
        make = found[0].load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{source} cannot be imported: {describe_error(error)}") from error
    try:
        check = make(url)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{source} does not accept `{url}`: {describe_error(error)}") from error
    if not _is_check(check):
        raise ValueError(f"{source} gives something without an async method `check`: {type(check).__name__}")
    return check


def _is_check(thing: object) -> TypeGuard[HealthCheck]:
    import inspect

    return inspect.iscoroutinefunction(getattr(thing, "check", None))
