"""Publishes what happens: the hub, the sinks behind it, and the formats.

In: notices of `core.events`. Out: text and JSON on the terminal, log files, the kept history.
"""
