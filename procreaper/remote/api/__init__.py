"""The messages between an app and its clients: their types, their encoding, and the queue of notices."""
