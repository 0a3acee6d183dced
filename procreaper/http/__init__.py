"""Status, events, logs and metrics over HTTP: read-only, for browsers, scripts and Prometheus."""
