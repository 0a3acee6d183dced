"""Other terminals and programs: the control socket, HTTP, metrics.

In: requests of clients. Out: answers, notices and output of a running app.
"""
