"""Terminals: the one that we run in, and the pseudoterminals of processes.

`pty` opens a pseudoterminal for a child. `modes` follows which modes a program sets by its output. `window` reads the
size of our terminal, and `raw` passes it to a process that a client is attached to.
"""
