"""The engine without I/O: deterministic, no clock, no randomness, no files, no logging.

Time arrives as an integer argument `now_ms`, randomness through the `Rng` protocol. The same code runs in production
and in simulation. `replica` is the entry: `step` stages, `ready` hands out what must be persisted, `advance` shows it.
"""
