"""An app that a test controls from a second terminal."""

from __future__ import annotations

import json
from typing import Any

from support.driver import PYTHON, Program, Project

# Ends as soon as it is told, and says so.
STAYS = f"{PYTHON} -c \"import signal; print('ready', flush=True); signal.pause()\""


def processes(project: Project) -> dict[str, dict[str, Any]]:
    result = project.run("ps", "--json")
    assert result.code == 0, result
    return {process["name"]: process for process in json.loads(result.out)}


def pids(found: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {name: process["pid"] for name, process in found.items()}


def app(project: Project, settings: str = "", **commands: str) -> Program:
    """A running app, each process of which that starts by itself has printed `ready`."""
    project.procfile(**(commands or {"db": STAYS, "web": STAYS}))
    project.write(".reaper.toml", '[defaults]\nstop_all = "never"\n' + settings)
    return project.begin("start")
