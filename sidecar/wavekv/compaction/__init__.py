"""Compaction: the last snapshot and the segments since become the next snapshot, in a process of its own."""
