"""The control socket: server, client, and the directory in which apps are found."""
