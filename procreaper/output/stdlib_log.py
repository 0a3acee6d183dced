"""The events of supervision, for the `procreaper` logger of the standard library.

Rules: output of the children is not logged. Handlers, levels and formats belong to the application. Each record has the
fields of the Go library reaper's log as attributes: `process_name`, and if they apply `pid`, `backoff`, `retries`,
`exit_code`, `signal`, `reason`.
"""

from __future__ import annotations

import logging
import signal

from procreaper.core.events import Message, Notice, Output
from procreaper.output.json_lines import SYSTEM, fields

LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}

# Without it, an application that has not configured `logging` gets warnings on standard error.
logging.getLogger("procreaper").addHandler(logging.NullHandler())


class Log:
    """A sink that logs every notice that is not output."""

    def __init__(self, name: str = "procreaper") -> None:
        self._logger = logging.getLogger(name)

    def accept(self, notice: Notice) -> bool:
        """Log the notice. An exception of a handler is the business of the handler, by the rules of `logging`."""
        if isinstance(notice, Output):
            return True
        for level, message, name, more in fields(notice, lambda number: signal.Signals(number).name):
            text = message if isinstance(notice, Message) or name == SYSTEM else f"{name}: {message}"
            if more:
                text += " (" + ", ".join(f"{key}={value}" for key, value in more.items()) + ")"
            self._logger.log(LEVELS[level], "%s", text, extra={"process_name": name, **more})
        return True
