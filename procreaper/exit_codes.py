"""The exit statuses of the command, but for those that a child or a signal gives it."""

from __future__ import annotations

# What was asked for did not come about.
FAILED = 1
# The command line makes no sense.
USAGE_ERROR = 2
# A bug of ours; EX_SOFTWARE of sysexits.h.
INTERNAL_ERROR = 70
# What the shell says of a command that cannot be run, and of one that is not found.
NOT_EXECUTABLE = 126
NOT_FOUND = 127
# What the shell says of what SIGINT has ended (128 + 2), and of what had nobody left who reads (128 + 13, SIGPIPE).
INTERRUPTED = 130
READER_GONE = 141
