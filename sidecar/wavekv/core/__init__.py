"""The engine without I/O: deterministic, no clock, no randomness, no files, no logging.

Time arrives as an integer argument `now_ms`, randomness through the `Rng` protocol. The same code runs in production
and in simulation. `replica` is the entry: its steps (`put`, `delete`, `merge`, `adopt` and others) stage operations,
`ready` hands out what has to be on disk next, `advance` shows what is on disk.
"""
