"""Snapshots: all that the segments up to a number came to, in one checked file (format: docs/format.md)."""
