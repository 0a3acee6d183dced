"""Find the time in which procreaper did not run: it was stopped, frozen, or had no processor.

Rules: pure. A limit counts the time in which procreaper ran, so that Ctrl-Z and `fg`, or `docker pause` and `unpause`,
end no process.

Theory of operation. The monotonic clock runs on while a signal stops procreaper, and while its cgroup is frozen; it
stands still only while the computer is suspended. Nothing reports the end of a freeze. So procreaper wakes up every
`STRIDE` seconds as long as a limit runs, and a wake-up that comes late shows the pause. Only the time after the
expected moment is lost: on a slow machine, limits take longer, but they end.
"""

# Seconds between two wake-ups. After a pause, up to this much of it counts: a twentieth of the shortest usual limit.
STRIDE = 0.25
# Seconds. A wake-up may be this late on a busy machine, where the children are slow for the same reason.
TOLERANCE = 1.0


def lost(expected: float, now: float) -> float:
    """Return the seconds in which procreaper did not run, where it was to go on at `expected`; else 0.

    >>> lost(5.0, 65.0)
    60.0
    >>> lost(5.0, 5.5)
    0.0
    """
    late = now - expected
    return late if late > TOLERANCE else 0.0
