"""The app that `start` runs.

`application` puts its parts together: signals, control socket, log files, background, and the source of its plans.
In: the options and the files. Out: a supervised app, and its exit status.
"""
