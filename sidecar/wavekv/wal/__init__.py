"""The write-ahead log: segments on disk (G1), how they are read back, and who may open their directory."""
