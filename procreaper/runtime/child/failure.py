"""Why a spawn has failed, in the words of the shell and of people.

Rules: knows the errors of the system, and nothing of how a child is started.
"""

from __future__ import annotations

import errno

from procreaper.core.events import SpawnFailed
from procreaper.errors import reason_of

# The exit codes of a shell for the errors for which another try cannot help.
PERMANENT = {errno.ENOENT: 127, errno.ENOTDIR: 127, errno.EACCES: 126, errno.ENOEXEC: 126, errno.E2BIG: 126}
CANNOT_RUN = 126


def spawn_failed(name: str, run: int, error: OSError | ValueError) -> SpawnFailed:
    """Return the event for this error."""
    code = PERMANENT.get(error.errno or 0) if isinstance(error, OSError) else CANNOT_RUN
    return SpawnFailed(
        name, run, error=_explain(error), code=CANNOT_RUN if code is None else code, permanent=code is not None
    )


def _explain(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.E2BIG:
            return "its command or its environment is longer than the system allows"
        return f"{reason_of(error)}: {error.filename}" if error.filename else reason_of(error)
    if "null byte" in str(error):
        return "its command or its environment contains a NUL byte"
    return str(error)
