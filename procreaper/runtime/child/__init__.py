"""One run of a process: its spawn, its output, its terminal, its signals and its end."""
