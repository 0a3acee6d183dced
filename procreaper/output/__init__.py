"""Where notices go: the hub, and the sinks behind it (so far: the terminal)."""
