"""The messages between an app and its clients, and what they mean."""
