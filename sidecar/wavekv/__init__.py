"""WaveKV's member: a durable, replicated key-value engine that runs beside each replica of a service."""

__version__ = "0.1.0"
