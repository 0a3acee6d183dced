"""The control socket: its directory, the server with the requests, and the client."""
