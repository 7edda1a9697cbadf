"""Bytes: of the log (`bincode`, `records`) and of the wire (`envelope`)."""
