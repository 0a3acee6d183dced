"""The library: `Reaper`, `BlockingReaper` and `Process`.

Inside: `reaper` (asyncio), `blocking` (a reaper in a thread) and `process` (the settings of a process).
In: the processes of a Python program. Out: their states, notices, output and metrics.
"""
