"""Kubernetes: a manifest with a Deployment for each process type, a Job for a oneshot, Services and variables.

Rules: every name is a DNS label, and every text is escaped for Kubernetes' own expansion. An init container waits for a
dependency, if it has a port. A Service leads only to ready containers, so an open port also means healthy.

Kubernetes always stops a container by SIGTERM. So `preStop` sends another signal, or runs a command, before it, and
then waits for the rest of the time; the container ends at once when its process does.
"""

from __future__ import annotations

from math import ceil
from signal import SIGTERM

from procreaper.core.plan import Condition, Dependency, StopPolicy, When
from procreaper.errors import ConfigError, Problem
from procreaper.export.containers import (
    SHELL,
    Workload,
    argv_of,
    by_member,
    directory_of,
    labels,
    warn_about_credentials,
    warn_about_localhost,
    workloads_of,
)
from procreaper.export.exporter import MARK, App, Exported, File, Rendered
from procreaper.export.kubernetes_env import EnvironmentSources
from procreaper.export.kubernetes_probes import escaped, probes_of
from procreaper.export.warnings import Warnings
from procreaper.export.yaml import Value, dump_all

WAITING_IMAGE = "busybox:1.37"
# By default, a Job gives up after six failures; this means without limit.
NO_LIMIT = 2**31 - 1
HEADING = f"# For `kubectl apply -f kubernetes.yaml`, best in a namespace of its own; {MARK}\n"
TEMPLATE = f"""\
# What looks like a secret; {MARK}
# Fill it in, save it under another name, keep that out of version control, and apply it.
"""


def render(app: App) -> Rendered:
    """Return the manifests for this app. Raises ConfigError if no image is given."""
    if app.image is None:
        message = "Kubernetes runs images, and none is named"
        raise ConfigError([Problem(message, hint="build one, and name it with `--image REGISTRY/NAME:TAG`")])
    warnings = Warnings(app, "Kubernetes")
    workloads = workloads_of(app)
    environment = EnvironmentSources(app, workloads, warnings)
    manifests = _Manifests(app, app.image, workloads, environment, warnings)
    documents = [*environment.documents, *manifests.services()]
    documents += [manifests.workload(workload) for workload in workloads]
    warn_about_localhost(warnings, workloads)
    warn_about_credentials(warnings, workloads)
    warnings.add_options(
        {
            "log": "`kubectl logs` has what the containers write",
            "user": "the image decides about the user; `securityContext` has numbers only",
        }
    )
    files = [File("kubernetes.yaml", HEADING + dump_all(documents))]
    if environment.templates:
        # Another suffix, so that `kubectl apply -f` of the directory skips it.
        files.append(File("secret.yaml.example", TEMPLATE + dump_all(environment.templates)))
    return Rendered(tuple(files), warnings.problems)


class _Manifests:
    """Makes the documents of the workloads."""

    def __init__(
        self, app: App, image: str, workloads: tuple[Workload, ...], environment: EnvironmentSources, warnings: Warnings
    ) -> None:
        self._app = app
        self._image = image
        self._environment = environment
        self._warnings = warnings
        self._all = workloads
        self._workloads = by_member(workloads)
        self._probes = {workload.name: probes_of(app, workload.first, warnings) for workload in workloads}
        self._part_of = labels([app.name])[0]

    def services(self) -> list[Value]:
        """Return a Service for each workload that has a port."""
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": self._metadata(workload),
                "spec": {
                    "selector": self._labels(workload),
                    "ports": [{"name": f"port-{port}", "port": port, "targetPort": port} for port in workload.ports],
                },
            }
            for workload in self._all
            if workload.ports
        ]

    def workload(self, workload: Workload) -> Value:
        """Return the Job or the Deployment of a workload."""
        exported, count = workload.first, len(workload.members)
        pod = self._pod(workload)
        self._tell(exported)
        if exported.process.oneshot:
            retries = exported.process.max_retries
            limit = 0 if exported.restart is When.NEVER else NO_LIMIT if retries is None else retries
            job: dict[str, Value] = {"backoffLimit": limit}
            if count > 1:
                job.update(completions=count, parallelism=count)
            if not exported.autostart:
                job["suspend"] = True
            kind, version, spec = "Job", "batch/v1", job
        else:
            selector: Value = {"matchLabels": self._labels(workload)}
            kind, version = "Deployment", "apps/v1"
            spec = {"replicas": count if exported.autostart else 0, "selector": selector}
            if not workload.is_public:
                # As with `start`, the old process ends before the new one starts: two clocks would do everything twice.
                spec["strategy"] = {"type": "Recreate"}
        template: Value = {"metadata": {"labels": self._labels(workload)}, "spec": pod}
        metadata = self._metadata(workload)
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {**spec, "template": template}}

    def _labels(self, workload: Workload) -> dict[str, Value]:
        return {"app.kubernetes.io/name": workload.name, "app.kubernetes.io/part-of": self._part_of}

    def _metadata(self, workload: Workload) -> dict[str, Value]:
        return {"name": workload.name, "labels": self._labels(workload)}

    def _pod(self, workload: Workload) -> dict[str, Value]:
        process, exported = workload.process, workload.first
        container: dict[str, Value] = {
            "name": workload.name,
            "image": self._image,
            "command": [escaped(text) for text in argv_of(self._app, exported)],
        }
        directory = directory_of(self._app, process)
        if directory is not None and directory.startswith("/"):
            container["workingDir"] = directory
        container.update(self._environment.of_container(workload.name))
        if workload.ports:
            container["ports"] = [{"containerPort": port} for port in workload.ports]
        if process.pty:
            container["tty"] = True
        container.update(self._probes[workload.name])
        if (hook := self._before_stop(exported)) is not None:
            container["lifecycle"] = {"preStop": {"exec": {"command": hook}}}
        pod: dict[str, Value] = {}
        if waits := self._waits(workload):
            pod["initContainers"] = waits
        pod["containers"] = [container]
        # Otherwise a Service named `redis` would set REDIS_PORT to a URL.
        pod["enableServiceLinks"] = False
        if process.oneshot:
            pod["restartPolicy"] = "Never" if exported.restart is When.NEVER else "OnFailure"
        else:
            pod["restartPolicy"] = "Always"
        pod["terminationGracePeriodSeconds"] = ceil(process.stop.timeout)
        return pod

    def _before_stop(self, exported: Exported) -> list[Value] | None:
        stop: StopPolicy = exported.process.stop
        wait = str(ceil(stop.timeout))
        if stop.command is not None:
            script = [SHELL, "-c", f'{SHELL} -c "$0"; exec sleep "$1"', stop.command, wait]
            return [*argv_of(self._app, exported, script)]
        if stop.signal == SIGTERM:
            return None
        return [SHELL, "-c", f"kill -s {exported.stop_signal} 1; exec sleep {wait}"]

    def _waits(self, workload: Workload) -> list[Value]:
        found: dict[str, Value] = {}
        for need in workload.process.depends_on:
            other = self._workloads.get(need.name)
            reason, hint = self._why_not(workload, need, other)
            if reason is not None:
                self._warnings.add(workload.first, "depends_on", reason, hint)
            elif other is not None:
                script = f"until nc -z -w 2 {other.name} {other.ports[0]}; do sleep 1; done"
                command: Value = [SHELL, "-c", script]
                found[other.name] = {"name": f"wait-for-{other.name}", "image": WAITING_IMAGE, "command": command}
            if need.restart:
                reason = f"Kubernetes restarts no process because `{need.name}` is restarted"
                self._warnings.add(workload.first, "depends_on", reason)
        return list(found.values())

    def _why_not(self, workload: Workload, need: Dependency, other: Workload | None) -> tuple[str | None, str | None]:
        """Return why an init container cannot wait for a dependency, and the remedy; None if it can."""
        if other is None:
            return f"`{need.name}` is not exported", None
        if other is workload:
            return "Kubernetes has them as copies of one Deployment", None
        kind, name = other.process.type, other.name
        if other.process.oneshot:
            hint = f"apply the rest after `kubectl wait --for=condition=complete job/{name}`"
            return f"a pod cannot wait for the Job of `{kind}`", hint
        if need.condition is Condition.COMPLETED:
            return f"`{kind}` is a Deployment, which never completes", "make it a `oneshot`"
        if not other.ports:
            hint = f"have `{kind}` use `$PORT`, or check it with `http` or `tcp`"
            return f"a pod can wait for a port only, and nothing tells of one of `{kind}`", hint
        if need.condition is Condition.HEALTHY and not self._probes[name]:
            return f"Kubernetes cannot check `{kind}`", f"check `{kind}` with `http`, `tcp` or `exec`"
        if need.condition is Condition.STARTED and self._probes[name]:
            # If a process waits only for the start, the health of its dependency may depend on that process.
            return f"a pod could wait only until `{kind}` is healthy, not until it has started", None
        return None, None

    def _tell(self, exported: Exported) -> None:
        process, warnings = exported.process, self._warnings
        if not process.oneshot:
            if exported.restart is not When.ALWAYS:
                warnings.add(exported, "restart", "a Deployment restarts its containers whenever they end")
            if process.max_retries is not None:
                warnings.add(exported, "max_retries", "a Deployment never gives up")
        warnings.left_out(
            exported,
            {"log": "`kubectl logs` has what it writes", "watch": "deploy a new image"},
        )
        if exported.asks_for("backoff"):
            warnings.add(exported, "backoff", "how long Kubernetes waits before a restart is its own affair")
        warnings.add_common(exported)
        warnings.add_shell(exported)
