"""The variables of an app in Kubernetes: a ConfigMap, Secrets, and the containers themselves.

Rules: variables that all workloads share are written once, in the ConfigMap; all others are in the containers. A
variable that looks like a secret is in no manifest to apply: a template has its name, without its value.
"""

from __future__ import annotations

import re
from collections import Counter

from procreaper.errors import Problem
from procreaper.export.containers import Workload, environment_of, labels
from procreaper.export.exporter import App
from procreaper.export.kubernetes_probes import escaped
from procreaper.export.secrets import looks_secret
from procreaper.export.warnings import Warnings
from procreaper.export.yaml import Value

# The names that can be both a variable and a key of a ConfigMap or a Secret.
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class EnvironmentSources:
    """The sources of each workload's variables; variables that all workloads share are written once."""

    def __init__(self, app: App, workloads: tuple[Workload, ...], warnings: Warnings) -> None:
        self._app = labels([app.name])[0]
        self._own = {workload.name: self._variables(workload, warnings) for workload in workloads}
        count = Counter(item for variables in self._own.values() for item in variables.items())
        self._shared = dict(item for item, number in count.items() if number == len(workloads))
        documents = [("ConfigMap", self._app, _plain(self._shared)), ("Secret", self._app, _secret(self._shared))]
        documents += [("Secret", f"{self._app}-{name}", _secret(self.own(name))) for name in self._own]
        self.documents: list[Value] = []
        self.templates: list[Value] = []
        for kind, name, variables in documents:
            metadata: Value = {"name": name, "labels": {"app.kubernetes.io/part-of": self._app}}
            if kind == "ConfigMap" and variables:
                self.documents.append({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": variables})
            elif variables:
                empty = dict.fromkeys(variables, "")
                self.templates.append({"apiVersion": "v1", "kind": kind, "metadata": metadata, "stringData": empty})

    def _variables(self, workload: Workload, warnings: Warnings) -> dict[str, str]:
        found = {}
        for name, value in environment_of(workload.first).items():
            if not _VARIABLE.fullmatch(name):
                message = f"`{name}` is left out: for Kubernetes this is not the name of a variable"
                warnings.add_problem(Problem(message, hint="rename it", level="warning"))
                continue
            found[name] = value
            if looks_secret(name, value):
                message = f"the value of `{name}` is not written down, as it looks like a secret"
                hint = "fill in `secret.yaml.example`, and apply it under another name"
                warnings.add_problem(Problem(message, hint=hint, level="warning"))
        return found

    def own(self, name: str) -> dict[str, str]:
        """Return the variables that are set in the workload itself."""
        return {key: value for key, value in self._own[name].items() if key not in self._shared}

    def of_container(self, name: str) -> dict[str, Value]:
        """Return the keys of a container that set its environment."""
        sources: list[Value] = []
        if _plain(self._shared):
            sources.append({"configMapRef": {"name": self._app}})
        if _secret(self._shared):
            sources.append({"secretRef": {"name": self._app}})
        if _secret(self.own(name)):
            sources.append({"secretRef": {"name": f"{self._app}-{name}"}})
        own = _plain(self.own(name))
        found: dict[str, Value] = {"envFrom": sources} if sources else {}
        if own:
            found["env"] = [{"name": key, "value": escaped(value)} for key, value in own.items()]
        return found


def _plain(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not looks_secret(name, value)}


def _secret(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if looks_secret(name, value)}
