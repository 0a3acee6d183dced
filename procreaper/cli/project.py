"""The project that a command is about, with the world around it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procreaper.config import Configuration, Options, Project, configure, examine

if TYPE_CHECKING:
    from procreaper.checks import HealthCheck


def configured(options: Options, *, terminal: bool) -> Configuration:
    """What `start` needs. Raises ConfigError with every problem found."""
    return configure(options, os.environ, load_check, terminal=terminal)


def examined(options: Options) -> tuple[Project, Configuration]:
    """The project and what `start` would do; every problem is among the warnings."""
    return examine(options, os.environ, load_check)


def load_check(url: str) -> HealthCheck:
    """The health check of an installed package. Raises ValueError where there is none for the scheme of this URL."""
    from procreaper.health.plugins import load

    return load(url)
