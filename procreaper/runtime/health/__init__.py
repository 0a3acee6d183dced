"""Health checks: one module for each kind, and the function that runs any of them.

In come a check, the process that it is about, and a function that runs commands; out goes None or the reason why the
process is not healthy. When a check is due, and what its result leads to, is decided in `core`.
"""
