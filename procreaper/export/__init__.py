"""Export: from a project to the files of an init system, or of a scheduler."""
