"""One module for each command, or for a group of them that do the same."""
