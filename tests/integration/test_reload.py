"""`reload` and `scale` carry out changes of files and numbers; all other processes keep running."""

from __future__ import annotations

import os
import re
import signal
import sys

from support.driver import CATCH, Project
from support.running import STAYS, app, pids, processes


def test_scale_adds_and_removes_instances_and_the_others_keep_running(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    before = processes(project)
    result = project.run("scale", "web=3")
    assert result.code == 0, result.err
    assert "+ web.2: new\n+ web.3: new\n" in result.out
    assert re.search(r"web\.3 is up \(pid \d+\)", result.out)
    program.wait_for("ready", count=4)
    during = processes(project)
    assert [during[name]["port"] for name in ("web.1", "web.2", "web.3")] == [5100, 5101, 5102]
    result = project.run("scale", "web=1")
    assert result.code == 0, result.err
    assert "web.3 removed" in result.out
    after = processes(project)
    assert pids(after) == pids(before)
    program.stop()


def test_scale_does_not_report_dependants_of_added_processes(project: Project) -> None:
    program = app(project, '[process.web]\ndepends_on = ["db"]\n')
    program.wait_for("ready", count=2)
    for count in (2, 1):
        result = project.run("scale", f"db={count}")
        assert (result.code, "web" in result.out) == (0, False), result.out
    program.stop()


def test_app_that_is_scaled_to_nothing_continues(project: Project) -> None:
    program = app(project, web=STAYS)
    program.wait_for("ready")
    assert project.run("scale", "web=0").code == 0
    assert processes(project) == {}
    assert project.run("scale", "web=1").code == 0
    program.wait_for("ready", count=2)
    program.stop()


def test_reload_restarts_only_the_edited_process_of_twenty(project: Project) -> None:
    commands = {f"p{number:02}": STAYS for number in range(20)}
    program = app(project, **commands)
    program.wait_for("ready", count=20)
    before = processes(project)
    project.procfile(**(commands | {"p07": f"true; exec {STAYS}"}))
    result = project.run("reload")
    assert result.code == 0, result.err
    assert result.out.startswith("~ p07.1: command; restarts\n19 unchanged\n")
    after = processes(project)
    changed = [name for name, process in after.items() if process["pid"] != before[name]["pid"]]
    assert changed == ["p07.1"]
    assert len(after) == 20
    program.stop()


def test_reload_adds_removes_and_keeps_processes(project: Project) -> None:
    program = app(project, web=STAYS, db=STAYS)
    program.wait_for("ready", count=2)
    before = processes(project)
    project.procfile(web=STAYS, cache=STAYS)
    project.write(".reaper.toml", '[process.web]\nrestart = "always"\nstop_all = "never"\n')
    result = project.run("reload")
    assert result.code == 0, result.err
    assert "+ cache.1: new" in result.out
    assert "- db.1: removed" in result.out
    assert "= web.1: restart; takes the new settings without a restart" in result.out
    after = processes(project)
    assert sorted(after) == ["cache.1", "web.1"]
    assert after["web.1"]["pid"] == before["web.1"]["pid"]
    os.kill(after["web.1"]["pid"], signal.SIGKILL)
    program.wait_for(r"web\.1: killed by SIGKILL; retry 1")
    program.stop()


def test_reload_with_an_error_changes_nothing(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    before = processes(project)
    project.write(".reaper.toml", '[process.web]\nrestart = "sometimes"\n')
    project.procfile(web="exec sleep 1000")
    result = project.run("reload")
    assert result.code == 1
    assert ".reaper.toml:2: error: `process.web.restart` must be" in result.err
    assert "nothing has been changed" in result.err
    assert pids(processes(project)) == pids(before)
    program.stop()


def test_reload_of_unchanged_files_says_so(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    result = project.run("reload")
    assert (result.code, result.out) == (0, "nothing has changed\n")
    program.stop()


def test_reload_with_an_unwritable_log_changes_nothing(project: Project) -> None:
    program = app(project, '[process.db]\nlog = "old.log"\n')
    program.wait_for("ready", count=2)
    before = processes(project)
    project.write("file", "")
    project.write(".reaper.toml", '[defaults]\nstop_all = "never"\nlog = "file/$PORT.log"\n')
    result = project.run("reload")
    assert result.code == 1
    assert result.err.count(".reaper.toml:3: error: `") == 2
    assert result.err.count(".log`, the log of `") == 2
    assert "2 errors, so nothing has been changed" in result.err
    assert processes(project)["web.1"]["log"] is None
    assert pids(processes(project)) == pids(before)
    program.stop()


def test_manually_stopped_process_stays_stopped_after_a_reload(project: Project) -> None:
    stubborn = "exec " + project.python("stubborn", CATCH) + " SIGTERM"
    commands = {"web": stubborn, "db": STAYS, "cache": STAYS}
    program = app(project, "[process.web]\nstop.timeout = 600\n", **commands)
    program.wait_for("ready", count=3)
    assert project.run("stop", "db").code == 0
    stopping = project.begin("stop", "web")
    program.wait_for("SIGTERM$")
    project.procfile(**{**commands, "web": f"A=1; {stubborn}", "db": f"A=1 {STAYS}"})
    result = project.run("reload")
    assert result.code == 0, result.err
    for name in ("web.1", "db.1"):
        assert f"~ {name}: command; is not running; its next start uses the new settings\n" in result.out
    os.kill(processes(project)["web.1"]["pid"], signal.SIGKILL)
    assert stopping.end().code == 0
    assert {name: found["state"] for name, found in processes(project).items()} == {
        "web.1": "stopped",
        "db.1": "stopped",
        "cache.1": "running",
    }
    program.stop()


def test_foreground_names_the_client_of_a_request(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    project.run("stop", "db")
    pid = r" \(pid \d+\)" if sys.platform == "linux" else ""
    for arguments, what in (
        (("up", "db"), "a start of `db`"),
        (("scale", "web=2"), "`web=2`"),
        (("reload",), "a reload of the files"),
    ):
        assert project.run(*arguments).code == 0
        program.wait_for(f"`procreaper {arguments[0]}`{pid} asks for {what}")
    assert program.out.index("asks for a start") < program.out.rindex("db.1 started")
    assert program.out.index("asks for `web=2`") < program.out.index("web.2 started")
    project.run("up", "db")
    project.run("scale", "ghost=1")
    result = program.stop()
    assert result.out.count(" asks for ") == 4, "what changes nothing is not announced"


def test_reload_does_not_suggest_f_for_a_missing_procfile(project: Project) -> None:
    program = app(project)
    program.wait_for("ready", count=2)
    project.write("Procfile.old", (project.path / "Procfile").read_bytes())
    (project.path / "Procfile").unlink()
    result = project.run("reload")
    assert result.code == 1
    assert "  hint: create it again; another file takes `procreaper quit` and a new start\n" in result.err
    assert " -f" not in result.err
    program.stop()
