"""Status, events, logs and metrics over HTTP, read-only."""
