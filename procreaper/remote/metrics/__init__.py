"""Metrics for Prometheus: what is counted, and the collector that reports it."""
