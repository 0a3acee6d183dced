"""A system without `/proc`: nothing is left of the groups, though nothing tells who is in them."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from support.driver import Project

from .watching import kill

UNSHARE = shutil.which("unshare") or ""
WITHOUT = (UNSHARE, "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
# The parent ends when it is asked to, or when its terminal hangs up; its child does not.
STUBBORN_CHILD = "sh -c 'trap \"\" TERM HUP; echo ready; while :; do sleep 600; done' & exec sleep 600"
SETTINGS = """
[process.web]
health = { exec = "sleep 600 & exit 0", interval = "1h" }
hooks = { on_ready = "sh -c 'echo hooked; exec env -i sleep 600'" }
"""


@pytest.fixture
def without_proc(project: Project) -> Project:
    if not UNSHARE or subprocess.run((*WITHOUT, "true"), check=False, capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    project.procfile(web=STUBBORN_CHILD)
    project.write(".reaper.toml", SETTINGS)
    return project


@pytest.mark.parametrize("terminal", [False, True])
def test_a_group_ends_whose_leader_has_ended(without_proc: Project, terminal: bool) -> None:
    program = without_proc.begin("start", "-t", "0.1", wrapper=WITHOUT, terminal=terminal)
    program.wait_for("ready")
    result = program.stop()
    assert result.code == 128 + signal.SIGTERM
    assert "sending SIGKILL to web.1" in result.out
    # The fixture finds what is left.


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_of_a_group_survives(without_proc: Project, terminal: bool) -> None:
    program = without_proc.begin("start", wrapper=WITHOUT, terminal=terminal)
    program.wait_for("ready")
    program.wait_for("hooked")
    kill(program)
