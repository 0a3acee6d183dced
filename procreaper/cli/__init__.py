"""The command line.

In: arguments. Out: a message or a running app, and an exit code.
"""
