"""compose: one `compose.yaml`, with a service for each process type.

Rules: a setting becomes the matching key of the Compose Specification, with our defaults where compose has others.
Texts are escaped for compose's interpolation. Values that look like secrets are left out: compose takes them from its
own environment, or from the `.env` beside the file. The file belongs into the application root, because compose builds
the image there if none is given.

A process is not PID 1 of its container (`init`), because PID 1 ignores SIGTERM unless it handles it, and a shell does
not. As with `start`, the signal goes to the whole group, by a variable of this init (tini).
"""

from __future__ import annotations

import shlex
from signal import SIGTERM
from urllib.parse import urlsplit

from procreaper.core.checks import ExecCheck, HTTPCheck, TCPCheck
from procreaper.core.plan import Condition, Dependency, StopPolicy, Watch, When
from procreaper.errors import Problem
from procreaper.export.compose_watch import Rule, rules_of
from procreaper.export.containers import (
    SHELL,
    Workload,
    argv_of,
    by_member,
    checks_neighbour,
    directory_of,
    environment_of,
    labels,
    warn_about_credentials,
    warn_about_localhost,
    workloads_of,
)
from procreaper.export.exporter import MARK, App, Exported, File, Rendered
from procreaper.export.secrets import looks_secret
from procreaper.export.warnings import Warnings
from procreaper.export.yaml import Value, dump

CONDITIONS = {
    Condition.STARTED: "service_started",
    Condition.HEALTHY: "service_healthy",
    Condition.COMPLETED: "service_completed_successfully",
}
HEADING = f"# For `docker compose up`, in the application root; {MARK}\n"


def render(app: App) -> Rendered:
    """Return the file for this app."""
    warnings = Warnings(app, "compose")
    workloads = workloads_of(app)
    services = _Services(app, workloads, warnings)
    document: dict[str, Value] = {
        "name": labels([app.name])[0],
        "services": {workload.name: services.service(workload) for workload in workloads},
    }
    warnings.add_options({"log": "`docker compose logs` has what the services write"})
    warn_about_localhost(warnings, workloads)
    warn_about_credentials(warnings, workloads)
    return Rendered((File("compose.yaml", HEADING + dump(document)),), warnings.problems)


def escaped(text: str) -> str:
    """Escape a text for compose's interpolation."""
    return text.replace("$", "$$")


def duration(seconds: float) -> str:
    """Return a duration as compose writes it, at least one millisecond.

    >>> duration(90), duration(0.5)
    ('90s', '500ms')
    """
    milliseconds = max(1, round(seconds * 1000)) if seconds else 0
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


class _Services:
    """Makes the service of each workload."""

    def __init__(self, app: App, workloads: tuple[Workload, ...], warnings: Warnings) -> None:
        self._app = app
        self._warnings = warnings
        self._workloads = by_member(workloads)
        self._checks = {workload.name: self._healthcheck(workload.first) for workload in workloads}
        # A port that is the `PORT` of a service belongs to that service.
        self._publishers = {
            port: workload.name for workload in workloads for port in workload.ports if port == workload.first.port
        }
        self._profiles: dict[str, dict[str, None]] = {workload.name: {} for workload in workloads}
        for workload in workloads:
            if not workload.first.autostart:
                self._enable(workload, workload.name)
        self._secrets: dict[str, set[str]] = {}
        for workload in workloads:
            for name, value in environment_of(workload.first).items():
                if looks_secret(name, value):
                    self._secrets.setdefault(name, set()).add(value)

    def service(self, workload: Workload) -> Value:
        """Return the service of one workload."""
        app, exported, process = self._app, workload.first, workload.process
        service: dict[str, Value] = {"build": "."} if app.image is None else {"image": escaped(app.image)}
        if profiles := self._profiles[workload.name]:
            service["profiles"] = list(profiles)
        service["command"] = [escaped(text) for text in argv_of(app, exported)]
        directory = directory_of(app, process)
        if directory is not None and directory.startswith("/"):
            service["working_dir"] = escaped(directory)
        if "user" in app.is_given:
            service["user"] = escaped(app.user)
        environment = self._environment(workload)
        service["init"] = True
        if not process.stop.only_main:
            environment["TINI_KILL_PROCESS_GROUP"] = "1"
        if environment:
            service["environment"] = environment
        if ports := self._ports(workload):
            service["ports"] = ports
        if process.pty:
            service["tty"] = True
        if (check := self._checks[workload.name]) is not None:
            service["healthcheck"] = check
        if needs := self._depends_on(workload):
            service["depends_on"] = needs
        service["restart"] = self._restart(exported)
        self._add_ending(service, process.stop, exported)
        if len(workload.members) > 1:
            service["deploy"] = {"replicas": len(workload.members)}
        if process.watch is not None and (rules := self._watch(process.watch, exported)):
            service["develop"] = {"watch": rules}
        self._warnings.left_out(exported, {"log": "`docker compose logs` has what it writes"})
        if exported.asks_for("backoff"):
            self._warnings.add(exported, "backoff", "how long compose waits before a restart is its own affair")
        self._warnings.add_common(exported)
        return service

    def _enable(self, workload: Workload, profile: str) -> None:
        """Add the profile to a service and to all services that it depends on, as compose requires."""
        waiting = [workload]
        while waiting:
            one = waiting.pop()
            if one.first.autostart or profile in self._profiles[one.name]:
                continue
            self._profiles[one.name][profile] = None
            waiting += [self._workloads[need.name] for need in one.process.depends_on if need.name in self._workloads]

    def _environment(self, workload: Workload) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name, value in environment_of(workload.first).items():
            if not looks_secret(name, value):
                found[name] = escaped(value)
                continue
            # In compose's own environment, a name can have only one value.
            source = name if len(self._secrets[name]) == 1 else f"{workload.name}_{name}".upper().replace("-", "_")
            found[name] = f"${{{source}:?set it in the environment or in .env}}"
            message = f"the value of `{name}` is not written down, as it looks like a secret"
            what = "it" if source == name else f"`{source}`"
            hint = f"set {what} where compose runs, or in the `.env` beside compose.yaml"
            self._warnings.add_problem(Problem(message, hint=hint, level="warning"))
        return found

    def _ports(self, workload: Workload) -> list[Value]:
        # A port that only a local health check uses is published on localhost only: a database is not public.
        found: list[Value] = []
        last = len(workload.members) - 1
        for port in workload.ports:
            if self._publishers.setdefault(port, workload.name) != workload.name:
                # Only one service can publish a port of the host.
                continue
            where = "" if workload.is_public and port == workload.first.port else "127.0.0.1:"
            found.append(f"{where}{port}-{port + last}:{port}" if last else f"{where}{port}:{port}")
        return found

    def _healthcheck(self, exported: Exported) -> Value:
        health = exported.process.health
        if health is None:
            return None
        if health.log is not None:
            hint = None if health.check is not None else "add a check, such as `http`, `tcp` or `exec`"
            self._warnings.add(exported, "health.log", "compose cannot look at what a service writes", hint)
        if checks_neighbour(self._app, exported):
            self._warnings.add_neighbour(exported)
            return None
        if health.check is None or (test := self._test(exported)) is None:
            return None
        if exported.restart is not When.NEVER:
            reason = "compose marks a service as unhealthy, and does not restart it for that"
            self._warnings.add(exported, "health", reason)
        return {
            "test": [escaped(text) for text in test],
            "interval": duration(health.interval),
            "timeout": duration(health.timeout),
            "retries": health.retries,
            "start_period": duration(health.start_timeout),
            "start_interval": duration(health.start_interval),
        }

    def _test(self, exported: Exported) -> list[str] | None:
        process = exported.process
        match process.health and process.health.check:
            case HTTPCheck(url=url) if urlsplit(url).username is not None:
                reason = "its URL has a password in it, which is not written down"
                self._warnings.add(exported, "health.http", reason, "use `exec` with a variable of the environment")
                return None
            case HTTPCheck(url=url, status=accepted, verify=verify, ca=ca):
                self._needs(exported, "health.http", "curl")
                if ca is not None:
                    reason = f"compose checks from within the container, with `--cacert {ca}`"
                    self._warnings.add(exported, "health.ca", reason, "see to it that the file is there in the image")
                statuses = "|".join(map(str, sorted(accepted))) or "2??"
                trust = "" if verify else "-k "
                trust = trust if ca is None else f"--cacert {shlex.quote(ca)} "
                ask = f"curl -s -o /dev/null {trust}--noproxy '*' -w '%{{http_code}}' {shlex.quote(url)}"
                return ["CMD-SHELL", f"case $({ask}) in {statuses}) ;; *) exit 1 ;; esac"]
            case TCPCheck(endpoint=(host, port)):
                self._needs(exported, "health.tcp", "nc")
                return ["CMD", "nc", "-z", host, str(port)]
            case ExecCheck() as check:
                return ["CMD", *argv_of(self._app, exported, check.argv)]
            case _:
                reason = "compose cannot carry out a check that comes from a package"
                self._warnings.add(exported, "health.check", reason, "use `exec` with a command that checks it")
                return None

    def _needs(self, exported: Exported, key: str, program: str) -> None:
        reason = f"compose checks from within the container, with `{program}`"
        self._warnings.add(exported, key, reason, f"see to it that `{program}` is in the image")

    def _depends_on(self, workload: Workload) -> dict[str, Value]:
        found: dict[str, Dependency] = {}
        for need in workload.process.depends_on:
            other = self._workloads.get(need.name)
            if other is None or other is workload:
                reason = "compose has them as copies of one service" if other else f"`{need.name}` is not exported"
                self._warnings.add(workload.first, "depends_on", reason)
                continue
            condition = need.condition
            if condition is Condition.HEALTHY and self._checks[other.name] is None:
                condition = Condition.STARTED
                reason = f"compose cannot check `{other.process.type}`, so it waits only until that has started"
                self._warnings.add(workload.first, "depends_on", reason)
            # Of several dependencies on copies of one service, the strictest counts.
            same = found.get(other.name, Dependency(other.name))
            condition = max(condition, same.condition, key=list(CONDITIONS).index)
            found[other.name] = Dependency(other.name, condition, need.restart or same.restart)
        return {
            name: {"condition": CONDITIONS[edge.condition], **({"restart": True} if edge.restart else {})}
            for name, edge in found.items()
        }

    def _restart(self, exported: Exported) -> str:
        retries = exported.process.max_retries
        if exported.restart is When.ON_FAILURE:
            return "on-failure" if retries is None else f"on-failure:{retries}"
        if exported.restart is When.ALWAYS and retries is not None:
            hint = 'write `restart = "on-failure"` where that will do'
            self._warnings.add(exported, "max_retries", "compose counts restarts only after failures", hint)
        return "always" if exported.restart is When.ALWAYS else "no"

    def _add_ending(self, service: dict[str, Value], stop: StopPolicy, exported: Exported) -> None:
        if stop.signal != SIGTERM:
            service["stop_signal"] = f"SIG{exported.stop_signal}"
        service["stop_grace_period"] = duration(stop.timeout)
        if stop.command is not None:
            argv = argv_of(self._app, exported, (SHELL, "-c", stop.command))
            service["pre_stop"] = [{"command": [escaped(text) for text in argv]}]
            reason = "compose sends the signal all the same, once the command has ended"
            self._warnings.add(exported, "stop.command", reason)

    def _watch(self, watch: Watch, exported: Exported) -> list[Value]:
        for name, is_said in {"run": watch.run is not None, "signal": watch.signal is not None}.items():
            if is_said:
                self._warnings.add(exported, f"watch.{name}", "compose builds the image again, and does nothing else")
        self._warnings.left_out(exported, {"watch.debounce": None, "watch.poll": None})
        if self._app.image is not None:
            reason = "compose restarts for changed files only what it builds itself"
            self._warnings.add(
                exported, "watch", reason, "leave out `--image`, so that the image is built from the files"
            )
            return []
        for written in watch.ignore:
            if written.startswith("!"):
                reason = f"compose has no exceptions, so `{written}` is left out"
                self._warnings.add(exported, "watch.ignore", reason)
        return [_watch_rule(rule) for rule in rules_of(watch)]


def _watch_rule(rule: Rule) -> Value:
    # Only the Dockerfile knows where the files are in the image, so single files cannot be synchronised.
    found: dict[str, Value] = {"path": escaped(rule.path), "action": "rebuild"}
    if rule.include is not None:
        found["include"] = [escaped(rule.include)]
    if rule.ignore:
        found["ignore"] = [escaped(pattern) for pattern in rule.ignore]
    return found
