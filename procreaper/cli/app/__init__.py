"""The app that `start` runs: its parts put together, its signals, its control socket."""
