from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from kubernetes_validate.utils import all_versions
from support.exported import NASTY, SHELL_TEXTS, app_of, app_with, full_app, told

from procreaper.core.checks import ExecCheck, Health, HealthCheck, HTTPCheck, LogCheck, TCPCheck
from procreaper.core.plan import StopPolicy, When
from procreaper.errors import ConfigError
from procreaper.export.exporter import App
from procreaper.export.kubernetes import render
from procreaper.export.kubernetes_probes import escaped

# The oldest whose schemas there are, and the newest.
VERSIONS = (all_versions()[0], all_versions()[-1])
IMAGE = "registry:5000/shop:1"


def documents_of(app: App) -> dict[str, Any]:
    """All documents by kind and name; each must be as Kubernetes wants it, without a key that it does not know."""
    found = {}
    for file in render(app).files:
        for document in yaml.safe_load_all(file.content):
            key = f"{document['kind']}/{document['metadata']['name']}"
            assert key not in found
            found[key] = document
    return found


def validate(documents: dict[str, Any]) -> None:
    for document in documents.values():
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


def pod_of(app: App, name: str = "Deployment/web") -> Any:
    return documents_of(app)[name]["spec"]["template"]["spec"]


def container_of(app: App, name: str = "Deployment/web") -> Any:
    (container,) = pod_of(app, name)["containers"]
    return container


def expanded(text: str) -> str:
    """What Kubernetes makes of a text: a dollar sign of two, and no variable, since none is set."""
    return re.sub(r"\$\$|\$\([^)]*\)", lambda match: "$" if match[0] == "$$" else "<not set>", text)


def test_a_plain_procfile(tmp_path: Path) -> None:
    documents = documents_of(app_of(tmp_path, env="GREETING=hello\n", image=IMAGE))
    validate(documents)
    assert list(documents) == ["ConfigMap/shop", "Service/web", "Deployment/web", "Deployment/worker"]
    assert documents["ConfigMap/shop"]["data"] == {"GREETING": "hello"}
    labels = {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"}
    assert documents["Service/web"]["spec"] == {
        "selector": labels,
        "ports": [{"name": "port-5000", "port": 5000, "targetPort": 5000}],
    }
    assert documents["Deployment/web"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {
                            "name": "web",
                            "image": IMAGE,
                            "command": ["/bin/sh", "-c", "exec gunicorn shop:app --bind 0.0.0.0:$PORT"],
                            "envFrom": [{"configMapRef": {"name": "shop"}}],
                            "env": [{"name": "PORT", "value": "5000"}],
                            "ports": [{"containerPort": 5000}],
                        }
                    ],
                    "enableServiceLinks": False,
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 5,
                },
            },
        },
    }
    assert render(app_of(tmp_path, image=IMAGE)).warnings == ()


def test_nobody_who_answers_at_no_port_of_his_own_is_there_twice(tmp_path: Path) -> None:
    documents = documents_of(full_app(tmp_path, image=IMAGE))
    strategies = {name: document.get("spec", {}).get("strategy") for name, document in documents.items()}
    recreated = {name for name, strategy in strategies.items() if strategy == {"type": "Recreate"}}
    assert recreated == {f"Deployment/{name}" for name in ("worker", "db", "queue", "css", "tunnel")}
    assert strategies["Deployment/web"] is strategies["Job/migrate"] is None


def test_everything_that_there_is_to_say(tmp_path: Path) -> None:
    app = full_app(tmp_path, image=IMAGE)
    documents = documents_of(app)
    validate(documents)
    assert {name for name in documents if name.startswith(("Job", "Service"))} == {
        *("Job/migrate", "Service/web", "Service/queue")
    }
    web = documents["Deployment/web"]["spec"]
    assert web["replicas"] == 3
    assert documents["Deployment/css"]["spec"]["replicas"] == 0
    assert container_of(app, "Deployment/css")["tty"] is True
    (container,) = web["template"]["spec"]["containers"]
    asked = {
        "path": "/healthz?full=1",
        "port": 5000,
        "httpHeaders": [{"name": "Host", "value": "127.0.0.1:5000"}],
    }
    steady = {"httpGet": asked, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    assert container["startupProbe"] == {**steady, "periodSeconds": 1, "failureThreshold": 60}
    assert container["readinessProbe"] == container["livenessProbe"] == steady
    assert [wait["name"] for wait in web["template"]["spec"]["initContainers"]] == ["wait-for-queue"]
    assert pod_of(app, "Deployment/worker")["initContainers"][0]["command"] == [
        *("/bin/sh", "-c", "until nc -z -w 2 web 5000; do sleep 1; done")
    ]
    job = documents["Job/migrate"]["spec"]
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert container_of(app, "Deployment/db")["lifecycle"]["preStop"]["exec"]["command"] == [
        *("/bin/sh", "-c", "kill -s INT 1; exec sleep 30")
    ]
    assert pod_of(app, "Deployment/db")["terminationGracePeriodSeconds"] == 30
    worker = container_of(app, "Deployment/worker")["command"]
    assert worker == [
        *("/bin/sh", "-c", 'cd "$0" && exec "$@"', "./jobs"),
        *("env", "-u", "DEBUG", "/bin/sh", "-c", "exec celery -A shop worker"),
    ]


def test_everything_that_cannot_be_said_is_told_with_its_place(tmp_path: Path) -> None:
    text = told(render(full_app(tmp_path, image=IMAGE, user="me", log="/var/log")))
    expected = {
        "db": ("health.log", "log", "restart"),
        "queue": ("stop_all",),
        "web": ("health.status", "watch", "restart", "depends_on"),
        "worker": ("max_retries", "backoff", "success_codes", "hooks.on_fail"),
        "css": ("watch", "restart"),
        "migrate": ("depends_on",),
        "tunnel": ("log", "restart"),
    }
    for name, keys in expected.items():
        for key in keys:
            place = rf"^\.reaper\.toml:\d+: warning: `{key}` of `{name}`"
            assert re.search(place, text, re.MULTILINE), place
    assert "`QUEUE` says `localhost:6379`" in text
    assert "a pod cannot wait for the Job of `migrate`" in text
    assert "a pod can wait for a port only, and nothing tells of one of `db`" in text
    assert "Kubernetes restarts no process because `db.1` is restarted" in text
    assert "--user is left out" in text
    assert "--log is left out" in text


def test_without_an_image_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Kubernetes runs images, and none is named\n  hint: .*--image"):
        render(app_of(tmp_path))


def test_secrets_are_in_a_template_only_and_without_their_values(tmp_path: Path) -> None:
    rendered = render(full_app(tmp_path, image=IMAGE))
    manifest, template = rendered.files
    assert [file.path for file in rendered.files] == ["kubernetes.yaml", "secret.yaml.example"]
    assert "hunter" not in manifest.content + template.content
    assert yaml.safe_load(template.content)["stringData"] == {"SECRET_KEY": "", "DATABASE_URL": ""}
    assert {"secretRef": {"name": "shop"}} in container_of(full_app(tmp_path, image=IMAGE))["envFrom"]
    assert told(rendered).count("the value of `SECRET_KEY` is not written down, as it looks like a secret") == 1


def test_what_only_one_process_has_is_not_given_to_others(tmp_path: Path) -> None:
    settings = (
        '[process.web]\nenv = { API_TOKEN = "a", A = "1", B = "x" }\n[process.worker]\nenv = { A = "2", B = "x" }\n'
    )
    app = app_of(tmp_path, settings=settings, image=IMAGE)
    documents = documents_of(app)
    validate(documents)
    assert documents["ConfigMap/shop"]["data"] == {"B": "x"}
    assert documents["Secret/shop-web"]["stringData"] == {"API_TOKEN": ""}
    assert container_of(app)["envFrom"][1:] == [{"secretRef": {"name": "shop-web"}}]
    assert container_of(app)["env"] == [{"name": "A", "value": "1"}, {"name": "PORT", "value": "5000"}]
    worker = container_of(app, "Deployment/worker")
    assert worker["env"] == [{"name": "A", "value": "2"}, {"name": "PORT", "value": "5100"}]
    assert "secretRef" not in str(worker)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_arrive_as_they_are(text: str) -> None:
    app = app_with((f"a{text}", text), {"VALUE": text}, cwd=f"/srv/other/{text}x")
    (web,) = app.processes
    worker = web._replace(process=web.process._replace(name="worker.1"), environment={"VALUE": "other"})
    app = app._replace(processes=(web, worker))
    container = container_of(app)
    assert list(map(expanded, container["command"])) == [f"a{text}", text]
    assert expanded(container["env"][0]["value"]) == text
    assert container["workingDir"] == f"/srv/other/{text}x"
    # In a ConfigMap nothing is expanded.
    assert documents_of(app._replace(processes=(web,)))["ConfigMap/shop"]["data"]["VALUE"] == text


@settings(deadline=None)
@given(SHELL_TEXTS)
def test_expansion_gives_every_text_back(text: str) -> None:
    assert expanded(escaped(text)) == text


def test_what_cannot_be_the_name_of_a_variable_is_left_out() -> None:
    app = app_with("run", {"a b": "1", "a.b": "2", "1a": "3"})
    assert documents_of(app)["ConfigMap/shop"]["data"] == {"a.b": "2", "PORT": "5000"}
    assert "`a b` is left out" in told(render(app))


def probes_of(check: HealthCheck | None, log: LogCheck | None = None, **fields: Any) -> dict[str, Any]:
    container = container_of(app_with("run", health=Health(check=check, log=log, **fields)))
    return {key: value for key, value in container.items() if key.endswith("Probe")}


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (TCPCheck("127.0.0.1:5000"), {"tcpSocket": {"port": 5000}}),
        (TCPCheck("db.internal:5000"), {"tcpSocket": {"host": "db.internal", "port": 5000}}),
        (ExecCheck(("test", "$(A)")), {"exec": {"command": ["test", "$$(A)"]}}),
        (
            HTTPCheck("https://localhost/"),
            {
                "httpGet": {
                    "path": "/",
                    "port": 443,
                    "scheme": "HTTPS",
                    "httpHeaders": [{"name": "Host", "value": "localhost"}],
                }
            },
        ),
        (HTTPCheck("http://shop.internal:80"), {"httpGet": {"path": "/", "port": 80, "host": "shop.internal"}}),
    ],
)
def test_probes(check: HealthCheck, expected: dict[str, Any]) -> None:
    for probe in probes_of(check).values():
        assert expected.items() <= probe.items()


def test_what_kubernetes_does_not_verify_needs_no_authority() -> None:
    check = HTTPCheck("https://localhost/", ca="/srv/ca.pem")
    probes = probes_of(check)
    assert (
        probes == probes_of(HTTPCheck("https://localhost/")) == probes_of(HTTPCheck("https://localhost/", verify=False))
    )
    assert "Kubernetes does not verify the certificate" in told(render(app_with("run", health=Health(check=check))))


def test_the_times_of_probes_are_whole_seconds() -> None:
    probes = probes_of(TCPCheck(":1"), interval=0.2, timeout=1.5, start_interval=2.5, start_timeout=10)
    assert probes["startupProbe"] == {
        "tcpSocket": {"port": 1},
        "periodSeconds": 3,
        "timeoutSeconds": 2,
        "failureThreshold": 4,
    }
    assert probes["livenessProbe"]["periodSeconds"] == 1


def test_what_is_not_checked_has_no_probe() -> None:
    assert probes_of(None, LogCheck("ready")) == {}
    assert probes_of(HTTPCheck("http://me:pw@localhost/")) == {}


def test_what_is_never_restarted_is_not_ended_for_its_health() -> None:
    app = app_with("run", health=Health(check=TCPCheck(":1")), restart=When.NEVER)
    app = app._replace(processes=(app.processes[0]._replace(said={"restart": 1}),), settings=".reaper.toml")
    assert "readinessProbe" in container_of(app)
    assert "livenessProbe" not in container_of(app)
    assert "`restart` of `web`: a Deployment restarts its containers whenever they end" in told(render(app))


@pytest.mark.parametrize(
    ("restart", "max_retries", "policy", "limit"),
    [
        (When.NEVER, None, "Never", 0),
        (When.ON_FAILURE, 3, "OnFailure", 3),
        (When.ON_FAILURE, None, "OnFailure", 2**31 - 1),
    ],
)
def test_jobs(restart: When, max_retries: int | None, policy: str, limit: int) -> None:
    app = app_with("run", oneshot=True, restart=restart, max_retries=max_retries)
    (first,) = app.processes
    first = first._replace(said={"restart": 1}, autostart=False)
    second = first._replace(process=first.process._replace(name="web.2"), port=5001)
    documents = documents_of(app._replace(processes=(first, second)))
    validate(documents)
    spec = documents["Job/web"]["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == policy
    assert {key: spec[key] for key in spec if key != "template"} == {
        "backoffLimit": limit,
        "completions": 2,
        "parallelism": 2,
        "suspend": True,
    }


def test_a_stop_command_takes_the_place_of_the_signal(tmp_path: Path) -> None:
    app = app_with("run", stop=StopPolicy(signal.SIGINT, 0.0, command="echo $A > stopped"))
    hook = container_of(app)["lifecycle"]["preStop"]["exec"]["command"]
    subprocess.run(hook, cwd=tmp_path, env={"A": "a", "PATH": "/bin:/usr/bin"}, check=True)
    assert (tmp_path / "stopped").read_text() == "a\n"
    assert pod_of(app)["terminationGracePeriodSeconds"] == 0


def test_a_shell_that_keeps_the_signal_to_itself_is_told_of() -> None:
    assert "the command of `web` is run by a shell" in told(render(app_with("run | tee log")))
    assert "by a shell" not in told(render(app_with("cd app && run")))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('depends_on = { db = "started" }', "a pod could wait only until `db` is healthy"),
        ('depends_on = { worker = "completed" }', "`worker` is a Deployment, which never completes"),
        ('depends_on = ["logged"]', "Kubernetes cannot check `logged`"),
    ],
)
def test_what_cannot_be_waited_for_is_told(tmp_path: Path, settings: str, expected: str) -> None:
    others = (
        '[process.db]\ncommand = "db"\nhealth = "tcp://:5432"\n'
        '[process.logged]\ncommand = "run $PORT"\nhealth = { log = "ready" }\n'
    )
    app = app_of(tmp_path, settings=f"{others}[process.web]\n{settings}\n", image=IMAGE)
    assert "initContainers" not in pod_of(app)
    assert f"`depends_on` of `web`: {expected}" in told(render(app))


def test_a_check_of_a_neighbour_is_left_out(tmp_path: Path) -> None:
    app = app_of(tmp_path, settings='[process.worker]\nhealth = "http://localhost:5000/"\n', image=IMAGE)
    assert "readinessProbe" not in container_of(app, "Deployment/worker")
    assert "Service/worker" not in documents_of(app)
    assert "`health` of `worker`: in a container nothing but the process itself" in told(render(app))
