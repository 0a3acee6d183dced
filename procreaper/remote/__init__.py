"""Other terminals and programs: the control socket, HTTP and metrics.

Inside: `api` (messages), `control` (the control socket), `http` and `metrics` (for Prometheus).
In: requests of clients. Out: replies, notices and output of a running app.
"""
