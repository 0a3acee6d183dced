"""The second terminal: a socket for each running app, and what is said over it."""
