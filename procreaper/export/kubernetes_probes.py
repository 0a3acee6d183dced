"""Kubernetes' probes: the health checks of a container, and their intervals.

Rules: the startup probe is our time until the first success. The readiness probe shows whether a process is *up*. The
liveness probe ends an unhealthy process; there is none if our policy would not restart it. Kubernetes counts in whole
seconds, so our times are rounded up.
"""

from __future__ import annotations

from math import ceil
from urllib.parse import unquote, urlsplit

from procreaper.core.checks import DEFAULT_PORTS, ExecCheck, HTTPCheck, TCPCheck
from procreaper.core.plan import When
from procreaper.export.containers import argv_of, checks_neighbour, is_local
from procreaper.export.exporter import App, Exported
from procreaper.export.warnings import Warnings
from procreaper.export.yaml import Value

# The statuses that a probe counts as a success.
LOWEST, HIGHEST = 200, 399


def probes_of(app: App, exported: Exported, warnings: Warnings) -> dict[str, Value]:
    """Return the probes of a container, by their keys; empty if nothing is checked, or if no probe can express it."""
    health = exported.process.health
    if health is None:
        return {}
    if health.log is not None:
        hint = None if health.check is not None else "add a check, such as `http`, `tcp` or `exec`"
        warnings.add(exported, "health.log", "Kubernetes cannot look at what a container writes", hint)
    if checks_neighbour(app, exported):
        warnings.add_neighbour(exported)
        return {}
    if health.check is None or (handler := _handler(app, exported, warnings)) is None:
        return {}
    timeout = seconds(health.timeout)
    often = seconds(health.start_interval)
    steady: dict[str, Value] = {
        **handler,
        "periodSeconds": seconds(health.interval),
        "timeoutSeconds": timeout,
        "failureThreshold": health.retries,
    }
    found: dict[str, Value] = {
        "startupProbe": {
            **handler,
            "periodSeconds": often,
            "timeoutSeconds": timeout,
            "failureThreshold": max(1, ceil(health.start_timeout / often)),
        },
        "readinessProbe": steady,
    }
    if exported.restart is not When.NEVER:
        found["livenessProbe"] = steady
    return found


def seconds(value: float) -> int:
    """Return a duration in whole seconds, rounded up, at least one."""
    return max(1, ceil(value))


def escaped(text: str) -> str:
    """Escape a text where Kubernetes replaces ``$(NAME)`` and ``$$``.

    It does so in commands, probes and the values of variables, but not in `preStop`.
    """
    return "".join(
        "$$" if character == "$" and text[position + 1 : position + 2] in ("$", "(") else character
        for position, character in enumerate(text)
    )


def _handler(app: App, exported: Exported, warnings: Warnings) -> dict[str, Value] | None:
    match exported.process.health and exported.process.health.check:
        case HTTPCheck(url=url) if urlsplit(url).username is not None:
            reason = "its URL has a password in it, which is not written down"
            warnings.add(exported, "health.http", reason, "use `exec` with a variable of the environment")
            return None
        case HTTPCheck(url=url, status=accepted, ca=ca):
            if ca is not None:
                warnings.add(exported, "health.ca", "Kubernetes does not verify the certificate")
            if accepted and set(accepted) != {*range(LOWEST, HIGHEST + 1)}:
                reason = f"Kubernetes takes every status from {LOWEST} to {HIGHEST}"
                warnings.add(exported, "health.status", reason, "use `exec` with a command that looks at the status")
            return {"httpGet": _get(url)}
        case TCPCheck(endpoint=(host, port)):
            return {"tcpSocket": {"port": port} if is_local(host) else {"host": host, "port": port}}
        case ExecCheck() as check:
            return {"exec": {"command": [escaped(text) for text in argv_of(app, exported, check.argv)]}}
        case _:
            reason = "Kubernetes cannot carry out a check that comes from a package"
            warnings.add(exported, "health.check", reason, "use `exec` with a command that checks it")
            return None


def _get(url: str) -> dict[str, Value]:
    parts = urlsplit(url)
    host, port = unquote(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]
    found: dict[str, Value] = {"path": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), "port": port}
    if parts.scheme == "https":
        found["scheme"] = "HTTPS"
    if is_local(host):
        # The probe connects to the address of the pod, but sends the host name of our health check.
        found["httpHeaders"] = [{"name": "Host", "value": parts.netloc.rpartition("@")[2]}]
    else:
        found["host"] = host
    return found
