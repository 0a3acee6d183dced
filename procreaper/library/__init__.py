"""The library: `Reaper`, `BlockingReaper`, `Process`.

In: processes of an embedding program. Out: their states, as values and events.
"""
