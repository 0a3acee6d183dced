"""The clients that are attached to the terminals of processes, and how they learn of the end of the run.

Rules: knows nothing about the clients. Posts an event when the first client attaches, and when the last one leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from procreaper.core.events import Event, TerminalClosed, TerminalOpened

if TYPE_CHECKING:
    import os

    from procreaper.runtime.child.console import Attachment, Console


class Attachments:
    """All attached clients. `post` takes the events about them."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._attached: dict[str, dict[Attachment, Callable[[str], None]]] = {}

    def attach(
        self,
        name: str,
        console: Console,
        show: Callable[[bytes], None],
        size: os.terminal_size,
        ended: Callable[[str], None],
    ) -> Attachment:
        """Attach a client. `show` gets all output from now on; `ended(reason)` is called when the run is over."""
        attachment = console.attach(show, size)
        self._attached.setdefault(name, {})[attachment] = ended
        self._post(TerminalOpened(name))
        return attachment

    def detach(self, name: str, attachment: Attachment) -> None:
        """Detach a client. Nothing happens if the run was over before."""
        if self._attached.get(name, {}).pop(attachment, None) is None:
            return
        attachment.leave()
        if not self._attached[name]:
            del self._attached[name]
            self._post(TerminalClosed(name))

    def end(self, name: str, reason: str) -> None:
        """Report the end of the run to all attached clients."""
        for attachment, ended in tuple(self._attached.get(name, {}).items()):
            self.detach(name, attachment)
            ended(reason)
