"""The command line: parser, and one module per group of commands."""
