"""The metrics for Prometheus: their names, labels and values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.loops import in_loop
from support.survivors import Survivors

import procreaper as pr
from procreaper.core.checks import Health, LogCheck, TCPCheck
from procreaper.core.events import Checked, Exit, Output, RestartReason, RunEnded, State, Transition
from procreaper.core.plan import Process
from procreaper.core.status import Status
from procreaper.remote.metrics.collector import Collector
from procreaper.remote.metrics.counts import Counts

WEB = Process("web.1", "run")
CHECKED = Process("web.2", "run", health=Health(check=TCPCheck(":80")))
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes take in /proc")


def status(process: Process, state: State = State.RUNNING, **fields: object) -> Status:
    values = dict.fromkeys(Status._fields) | {"name": process.name, "state": state, "up": state is State.RUNNING}
    return Status(**values | fields)  # type: ignore[arg-type]


class App:
    """Processes with their status at one moment, and their counts."""

    def __init__(self, *seen: tuple[Process, Status]) -> None:
        self.seen = list(seen)
        self.counts = Counts()
        self.registry = CollectorRegistry()
        self.registry.register(Collector(lambda: self.seen, self.counts))

    def value(self, metric: str, process: str = "web.1", **labels: str) -> float | None:
        kind = process.partition(".")[0]
        return self.registry.get_sample_value(f"procreaper_{metric}", {"process": process, "type": kind, **labels})


def test_exactly_one_state_is_set() -> None:
    app = App((WEB, status(WEB, State.FAILED)), (CHECKED, status(CHECKED)))
    assert {state: app.value("process_state", state=state) for state in State} == {
        **dict.fromkeys(State, 0),
        State.FAILED: 1,
    }
    assert app.value("process_state", "web.2", state="running") == 1
    assert (app.value("process_up"), app.value("process_up", "web.2")) == (0, 1)


def test_counts_are_in_the_metrics() -> None:
    app = App((WEB, status(WEB)))
    for notice in (
        Output(0.0, "web.1", b"hello\n"),
        RunEnded(0.0, "web.1", 7, Exit(signal=9), ""),
        Transition(0.0, "web.1", State.RUNNING, State.RESTARTING, "", restart=RestartReason.EXIT),
    ):
        app.counts.accept(notice)
    assert app.value("output_bytes_total") == 6
    assert app.value("process_last_exit_code") == 137
    assert {reason: app.value("process_restarts_total", reason=reason) for reason in RestartReason} == {
        **dict.fromkeys(RestartReason, 0),
        RestartReason.EXIT: 1,
    }


def test_only_processes_with_a_check_have_a_histogram() -> None:
    waits = Process("web.3", "run", health=Health(log=LogCheck("ready")))
    app = App((WEB, status(WEB)), (CHECKED, status(CHECKED)), (waits, status(waits)))
    for error, duration in ((None, 0.02), ("no answer", 0.02), (None, 60.0)):
        app.counts.accept(Checked(0.0, "web.2", error, duration))
    name = "health_check_duration_seconds"
    buckets = {bound: app.value(f"{name}_bucket", "web.2", le=bound) for bound in ("0.01", "0.025", "10.0", "+Inf")}
    assert buckets == {"0.01": 0, "0.025": 2, "10.0": 2, "+Inf": 3}
    assert (app.value(f"{name}_count", "web.2"), app.value(f"{name}_sum", "web.2")) == (3, 60.04)
    assert app.value("health_check_failures_total", "web.2") == 1
    for other in ("web.1", "web.3"):
        assert app.value(f"{name}_count", other) is None
        assert app.value("health_check_failures_total", other) is None


@linux_only
def test_running_process_has_cpu_time_and_memory() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    app = App((WEB, status(WEB, pid=os.getpid(), started_at=began)), (CHECKED, status(CHECKED)))
    assert app.value("process_start_time_seconds") == began.timestamp()
    assert (app.value("process_cpu_seconds_total") or 0) > 0
    assert (app.value("process_resident_memory_bytes") or 0) > 1_000_000
    for name in ("start_time_seconds", "cpu_seconds_total", "resident_memory_bytes", "last_exit_code"):
        assert app.value(f"process_{name}", "web.2") is None


def test_removed_process_has_no_metrics() -> None:
    app = App((WEB, status(WEB)))
    assert app.value("process_up") == 1
    app.seen.clear()
    assert app.value("process_up") is None
    assert b"web.1" not in generate_latest(app.registry)


def test_versions_are_in_the_metrics() -> None:
    labels = {"version": pr.__version__, "python": sys.version.split()[0]}
    assert App().registry.get_sample_value("procreaper_build_info", labels) == 1


def test_metrics_are_valid_openmetrics() -> None:
    from prometheus_client.openmetrics.exposition import generate_latest as generate

    app = App((CHECKED, status(CHECKED, pid=os.getpid())))
    families = {family.name for family in text_string_to_metric_families(generate(app.registry).decode())}
    assert "procreaper_process_restarts" in families
    assert len(families) == 11


def test_registry_detects_duplicate_metrics_without_collecting() -> None:
    def never() -> list[tuple[Process, Status]]:
        raise AssertionError("was asked")

    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(never, Counts()))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Collector(never, Counts()))


# The library.


@in_loop
async def test_collector_works_in_a_registry_of_the_application(survivors: Survivors) -> None:
    reaper = pr.Reaper([pr.Process("web", ["sh", "-c", "echo hello; exec sleep 600"])])
    registry = CollectorRegistry()
    registry.register(reaper.collector())
    assert reaper.collector() is reaper.collector()
    labels = {"process": "web", "type": "web"}
    assert registry.get_sample_value("procreaper_process_up", labels) is None
    async with reaper:
        await reaper.ready()
        await reaper.restart("web")
        restarts = registry.get_sample_value("procreaper_process_restarts_total", {**labels, "reason": "manual"})
        assert restarts == reaper.status()[0].restarts == 1
        assert registry.get_sample_value("procreaper_process_up", labels) == 1
    assert registry.get_sample_value("procreaper_process_up", labels) == 0


def test_blocking_reaper_can_be_collected_in_any_thread(survivors: Survivors) -> None:
    registry = CollectorRegistry()
    labels = {"process": "web", "type": "web"}
    with pr.Reaper([pr.Process("web", ["sleep", "600"])]) as reaper:
        registry.register(reaper.collector())
        reaper.ready()
        assert registry.get_sample_value("procreaper_process_up", labels) == 1
    assert reaper.collector() is not None
    assert registry.get_sample_value("procreaper_process_up", labels) == 0


def test_missing_package_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "procreaper.remote.metrics.collector")
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(pr.UsageError) as caught:
        pr.Reaper().collector()
    assert "`prometheus-client`" in caught.value.message
    assert caught.value.hint == "pip install 'procreaper[http]'"


# The page about metrics.

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_metrics_page_lists_every_metric_with_its_kind() -> None:
    told = {}
    for family in Collector(list, Counts()).describe():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        told[family.name + suffix] = "gauge" if family.type == "info" else family.type
    assert dict(re.findall(r"^\| `(procreaper_\w+)` \| (\w+) \|", PAGE, re.M)) == told


def test_metrics_page_lists_every_restart_reason() -> None:
    [line] = [line for line in PAGE.splitlines() if line.startswith("| `procreaper_process_restarts_total`")]
    assert re.findall(r"`(\w+)`", line)[2:] == list(RestartReason)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_configuration_of_the_metrics_page_is_valid(tmp_path: Path) -> None:
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", PAGE, re.M | re.S):
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rules found" in checked.stdout
