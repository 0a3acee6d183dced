"""The command line.

`main` reads the arguments, and calls one module of `commands/`. `app/` runs an app for `start`.
In: the arguments of one command line. Out: messages, or a running app; and an exit code.
"""
