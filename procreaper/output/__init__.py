"""Where notices go: the hub, and the sinks behind it."""
