"""The mark: an environment variable by which a process is known to belong to an app, even after it left its group.

Rules: pure. Every process that procreaper starts inherits a mark. A mark is a path: the id of the app, then the name
and the number of the run, as in `3f9c2ab14d07/web.1/1/`. Where procreaper runs under another procreaper, the path of
the outer one comes first.
"""

MARK_VARIABLE = "PROCREAPER_APP"
# The mark of every guard, of whichever procreaper: a guard ends by itself.
GUARD_MARK = "guard"
# The first part of the mark of every detached process, of whichever procreaper.
DETACHED_MARK = "detached/"


def find_variable(environment: bytes, name: str) -> bytes:
    """Return the value of a variable in ``/proc/PID/environ``; empty if it is missing or was overwritten."""
    start = name.encode() + b"="
    return next((entry[len(start) :] for entry in environment.split(b"\0") if entry.startswith(start)), b"")
