"""Ports that somebody else uses: told before that which is to use them starts.

Rules: asks only about those that are used for sure, by the command or by the health check. Whoever holds one answers
the checks of a process that is about to fail, so that it would seem to be healthy for a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from procreaper.errors import Problem, ProcreaperError
from procreaper.lookup import is_taken
from procreaper.plan import Plan, Process

# To try a thousand of them would take too long.
MOST_PORTS = 100
HINT = "end what uses it, or choose another base port with `-p`"
RUNS_ALREADY = "the app runs already: `procreaper ps` shows it, `procreaper quit` ends it"


def find_taken(plan: Plan, directory: str) -> Iterator[Problem]:
    """A warning for each port of a process that starts, if it is in use. `directory` is the root, as it was given."""
    hint = None
    starting = [process for process in plan.processes if plan.names is None or process.name in plan.names]
    for process in starting[:MOST_PORTS]:
        port = _port(process)
        if port and is_taken(port):
            hint = hint or _hint(directory)
            yield Problem(f"port {port}, the PORT of `{process.name}`, is in use", hint=hint, level="warning")


def _port(process: Process) -> int:
    """The PORT that it will use; 0 where that is not known, or where it may be itself who uses it."""
    port = int((process.env or {}).get("PORT", "0"))
    if process.detached or not port:
        return 0
    text = process.command if isinstance(process.command, str) else ""
    return port if re.search(r"\$\{?PORT\b", text) or _checks(process, port) else 0


def _checks(process: Process, port: int) -> bool:
    if process.health is None:
        return False
    # Not at the top: with all that it takes it costs a tenth of the time until the first child.
    from procreaper.checks import HTTPCheck, TCPCheck

    check = process.health.check
    if isinstance(check, HTTPCheck):
        return re.search(rf"^https?://(127\.0\.0\.1|localhost|\[::1\]):{port}(/|$)", check.url) is not None
    return isinstance(check, TCPCheck) and check.endpoint in (("127.0.0.1", port), ("localhost", port), ("::1", port))


def _hint(directory: str) -> str:
    from procreaper.cli.control import Place, find_apps

    try:
        for app in find_apps(Place.of(directory, None)):
            app.close()
    except ProcreaperError:
        return HINT
    return RUNS_ALREADY
