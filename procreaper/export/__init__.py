"""Export: turn a project into the files of an init system or a scheduler."""
