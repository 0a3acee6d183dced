"""Without `/proc`, no process of a group survives, although procreaper cannot list the group."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from support.driver import Project

from .watching import kill

UNSHARE = shutil.which("unshare") or ""
WITHOUT = (UNSHARE, "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
# The parent ends on the stop signal or the hang-up of its terminal; its child ignores both.
STUBBORN_CHILD = "sh -c 'trap \"\" TERM HUP; echo ready; while :; do sleep 600; done' & exec sleep 600"
SETTINGS = """
[process.web]
health = { exec = "sleep 600 & exit 0", interval = "1h" }
hooks = { on_ready = "sh -c 'echo hooked; exec env -i sleep 600'" }
"""


@pytest.fixture
def without_proc(project: Project) -> Project:
    if not UNSHARE or subprocess.run((*WITHOUT, "true"), check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    project.procfile(web=STUBBORN_CHILD)
    project.write(".reaper.toml", SETTINGS)
    return project


@pytest.mark.parametrize("terminal", [False, True])
def test_group_ends_although_its_leader_has_ended(without_proc: Project, terminal: bool) -> None:
    program = without_proc.begin("start", "-t", "0.1", wrapper=WITHOUT, terminal=terminal)
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 128 + signal.SIGTERM
    assert "sending SIGKILL to web.1" in result.out
    # The fixture finds surviving processes.


@pytest.mark.parametrize("terminal", [False, True])
def test_no_process_of_a_group_survives_kill_9(without_proc: Project, terminal: bool) -> None:
    program = without_proc.begin("start", wrapper=WITHOUT, terminal=terminal)
    program.wait_for("ready")
    program.wait_for("hooked")
    kill(program)
