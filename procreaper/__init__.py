"""procreaper: a Procfile-compatible process manager that supervises, as a command and as a library."""

__version__ = "0.1.0"
