"""Questions to the operating system: processes, groups, start times, and the CPU time and memory that they use.

In come pids, groups and sessions; out go plain values. Nothing here signals a process or knows of runs, except `marks`,
which names the environment variable that all descendants of a run inherit.
"""
