"""The program as a whole: real children, real sessions, real signals."""
