"""Watching files: which files changed, and which processes each of them affects.

In come the `watch` settings of processes; out go `FilesChanged` events. `watcher` runs the thread, `tree` knows the
files, `matcher` decides by names alone which changes matter, and `patterns` and `gitignore` parse what it matches.
"""
