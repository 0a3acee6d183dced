"""Terminals: our own, and those that processes are given."""
