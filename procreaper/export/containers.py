"""The common part of compose and Kubernetes.

Rules: pure. Each instance has its own container, and so all ports. Instances that differ only in `PORT` are copies of
one *workload*, all with the port of the first. All workloads get `PORT`. Other variables that differ between instances
are set only if the command uses them, and then each instance is a separate workload. `localhost` is the container
itself, so a process does not reach its neighbours there: a warning says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from procreaper.core.checks import DEFAULT_PORTS, HTTPCheck, TCPCheck
from procreaper.core.plan import Process
from procreaper.errors import Problem
from procreaper.export.exporter import App, Exported
from procreaper.export.secrets import has_credentials
from procreaper.export.warnings import Warnings
from procreaper.project.procfile import OURS

SHELL = "/bin/sh"
# A DNS label has at most 63 characters, and names that are made from a label are longer than it.
LONGEST_NAME = 50
_USES_PORT = re.compile(r"\$\{?PORT(?!\w)")
_USES_NAME = re.compile(r"\$\{?(?:PS|HONCHO_PROCESS_NAME)(?!\w)")
_LOCAL = re.compile(r"(?<![\w.-])(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?![\w.-])(?::(\d+))?")


class Workload(NamedTuple):
    """Copies of one process: `members` are all of them, and `first` has what they share.

    `name` is a DNS label, under which the other workloads reach it. `ports` are those on which it probably answers;
    `is_public` if its `PORT` is among them.
    """

    name: str
    first: Exported
    members: tuple[str, ...]
    ports: tuple[int, ...]
    is_public: bool

    @property
    def process(self) -> Process:
        """The process that the members run."""
        return self.first.process


def workloads_of(app: App) -> tuple[Workload, ...]:
    """Return all workloads, in the order of their first processes."""
    groups: dict[str, list[Exported]] = {}
    for exported in app.processes:
        groups.setdefault(exported.process.type, []).append(exported)
    found: list[tuple[str, list[Exported]]] = []
    for kind, instances in groups.items():
        if all(are_copies(instances[0], other) for other in instances[1:]):
            found.append((kind, instances))
        else:
            found += [(exported.process.name, [exported]) for exported in instances]
    names = labels([name for name, _ in found])
    return tuple(
        Workload(
            name,
            instances[0],
            tuple(exported.process.name for exported in instances),
            ports_of(app, instances[0]),
            uses_port(instances[0]),
        )
        for name, (_, instances) in zip(names, found, strict=True)
    )


def are_copies(first: Exported, other: Exported) -> bool:
    """Return whether two instances of a type differ only in their port and their names."""
    if _USES_NAME.search(_text(first.process)):
        return False
    return _without_port(first, first.port) == _without_port(other, first.port)


def _without_port(exported: Exported, port: int | None) -> tuple[object, ...]:
    """Return everything that the comparison uses, with its port replaced by `port`."""

    def moved(text: str) -> str:
        if exported.port is None or port is None:
            return text
        return re.sub(rf"(?<!\d){exported.port}(?!\d)", str(port), text)

    process = exported.process
    health = process.health
    check = None if health is None else health.check
    address = check.url if isinstance(check, HTTPCheck) else check.address if isinstance(check, TCPCheck) else None
    return (
        # A container has neither the log file nor `quiet`.
        process._replace(name="", health=None, log=None, quiet=False),
        moved(repr(health)) if address is None else (type(check), repr(health).replace(address, moved(address))),
        {name: moved(value) for name, value in exported.environment.items() if name not in OURS},
        exported.unset,
    )


def labels(names: Iterable[str]) -> list[str]:
    """Return each name as a DNS label (RFC 1035), all of them different.

    >>> labels(["web", "Web", "my_worker", "2nd"])
    ['web', 'web-2', 'my-worker', 'p-2nd']
    """
    found: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        plain = (plain if plain[:1].isalpha() else f"p-{plain}")[:LONGEST_NAME].strip("-")
        label, number = plain, 1
        while label in found:
            number += 1
            label = f"{plain}-{number}"
        found[label] = None
    return list(found)


def uses_port(exported: Exported) -> bool:
    """Return whether a process probably listens on its `PORT`: by its settings or command, or as `web` as at Heroku."""
    process = exported.process
    is_told = process.port is not None or process.type == "web" or _USES_PORT.search(_text(process)) is not None
    return exported.port is not None and is_told


def ports_of(app: App, exported: Exported) -> tuple[int, ...]:
    """Return the ports on which it probably answers: its `PORT`, and the port of its health check."""
    ports = [exported.port] if exported.port is not None and uses_port(exported) else []
    checked = None if checks_neighbour(app, exported) else checked_port(exported)
    return tuple(dict.fromkeys(ports if checked is None else (*ports, checked)))


def checked_port(exported: Exported) -> int | None:
    """Return the local port that its health check connects to, or None."""
    match exported.process.health and exported.process.health.check:
        case HTTPCheck(url=url):
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        case TCPCheck(endpoint=(host, port)):
            pass
        case _:
            return None
    return port if is_local(host) else None


def checks_neighbour(app: App, exported: Exported) -> bool:
    """Return whether its health check connects to the `PORT` of another process, which is in another container."""
    port = checked_port(exported)
    return port not in (None, exported.port) and port in {other.port for other in app.processes}


def is_local(host: str) -> bool:
    """Return whether a host is the local machine."""
    return host in ("", "localhost", "0.0.0.0", "::", "::1") or host.startswith("127.")


def environment_of(exported: Exported) -> dict[str, str]:
    """Return the variables to set in its container."""
    found = {name: value for name, value in exported.environment.items() if name not in OURS}
    if exported.port is not None:
        found["PORT"] = str(exported.port)
    if _USES_NAME.search(_text(exported.process)):
        found.update(dict.fromkeys(("PS", "HONCHO_PROCESS_NAME"), exported.process.name))
    return found


def directory_of(app: App, process: Process) -> str | None:
    """Return where it runs: a path below the application root, an absolute path outside it, or None for the root."""
    if process.cwd is None:
        return None
    root = posixpath.normpath(app.root)
    path = posixpath.normpath(posixpath.join(root, process.cwd))
    if path == root:
        return None
    return f"./{path.removeprefix(f'{root}/')}" if path.startswith(f"{root}/") else path


def argv_of(app: App, exported: Exported, argv: Sequence[str] | None = None) -> list[str]:
    """Return the command for the container: its own, or `argv`, in its directory and without the variables to unset.

    Only the image knows its application root, so the command changes to a directory below it with `cd`.
    """
    process = exported.process
    if argv is None:
        shell = app.shell if "shell" in app.is_given else SHELL
        argv = (shell, "-c", exported.exec_script) if isinstance(process.command, str) else process.command
    if exported.unset:
        argv = ("env", *(word for name in exported.unset for word in ("-u", name)), *argv)
    directory = directory_of(app, process)
    if directory is None or not directory.startswith("./"):
        return list(argv)
    return [SHELL, "-c", 'cd "$0" && exec "$@"', directory, *argv]


def warn_about_localhost(warnings: Warnings, workloads: Collection[Workload]) -> None:
    """Warn about `localhost`: from its own container, a process does not reach its neighbours there."""
    by_port = {port: workload for workload in workloads for port in workload.ports}
    for workload in workloads:
        for name, value in environment_of(workload.first).items():
            for match in _LOCAL.finditer(value):
                neighbour = by_port.get(int(match[1])) if match[1] else None
                if neighbour is workload:
                    continue
                hint = "name the service instead, or the host that it is on"
                if neighbour is not None:
                    hint = f"write `{neighbour.name}:{match[1]}` instead"
                message = f"`{name}` says `{match[0]}`, which in a container is that container itself"
                warnings.add_problem(Problem(message, hint=hint, level="warning"))
        in_command = _LOCAL.search(_text(workload.process))
        if in_command and workload.ports:
            message = (
                f"the command of `{workload.process.type}` says `{in_command[0]}`, where no other container reaches it"
            )
            warnings.add_problem(Problem(message, hint="to be reached, have it listen on 0.0.0.0", level="warning"))


def warn_about_credentials(warnings: Warnings, workloads: Iterable[Workload]) -> None:
    """Warn about each command with a password, because the export contains it."""
    for workload in workloads:
        if has_credentials(_text(workload.process)):
            message = f"the command of `{workload.process.type}` has a URL with a password in it, which is written down"
            hint = "put it into a variable of the environment"
            warnings.add_problem(Problem(message, hint=hint, level="warning"))


def by_member(workloads: Iterable[Workload]) -> Mapping[str, Workload]:
    """Map each process to its workload."""
    return {name: workload for workload in workloads for name in workload.members}


def _text(process: Process) -> str:
    return process.command if isinstance(process.command, str) else " ".join(process.command)
