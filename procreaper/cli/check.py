"""`check`: look at everything, start nothing."""

from __future__ import annotations

import os
import sys

from procreaper.cli.problems import report
from procreaper.config import Options, read_project


def check(options: Options) -> int:
    """Print every problem, and honcho's line where there is no error. Raises ConfigError where there is one."""
    project = read_project(options, os.environ)
    report(project.problems)
    names = ", ".join(entry.name for entry in project.procfile.entries)
    print(f"Valid procfile detected ({names})", file=sys.stderr)
    return 0
