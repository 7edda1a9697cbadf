"""WaveKV's member: a durable, replicated key-value engine that runs beside each replica of a service."""

__version__ = "0.1.0"
REDIS_VERSION = "7.4.0"
"""What Redis clients are told, everywhere: the version whose commands and words these are. It is the first from which
redis-py keeps a cache."""
