"""Changed files: the watcher, and the pure rules about patterns and ignore files."""
