"""Bounds of what the Redis plane keeps for its clients beside reading and answering: part of `config.Limits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RedisLimits:
    """What one connection, or all of them, may make the member hold (G9)."""

    resp_pattern_bytes_max: int = 1024
    """Longest pattern of SCAN and KEYS; with the longest key it takes a millisecond to match."""
    resp_replies_bytes_max: int = 8 << 20
    """Bytes of the values of one MGET, and of all replies of one transaction."""
    resp_queued_max: int = 1000
    """Commands of one transaction, since all of them are stored as one batch."""
    resp_queued_bytes_max: int = 16 << 20
    """Their bytes; taken from `resp_held_bytes_max`."""
    resp_queued_arguments_max: int = 8192
    """Their arguments, names of commands among them: all may have to be decided in one turn of the loop, which takes
    a microsecond or two for each."""
    resp_watched_max: int = 1024
    """Keys that one Redis connection may WATCH."""
    resp_subscriptions_max: int = 1024
    """Channels and patterns that one Redis connection may subscribe to."""
    resp_patterns_max: int = 256
    """Different patterns that all Redis connections together may subscribe to; each change is compared with all."""
    resp_prefixes_max: int = 64
    """Prefixes of CLIENT TRACKING that one connection may name."""
    resp_tracked_bytes_max: int = 16 << 20
    """Keys remembered because clients with a cache read them, of `resp_held_bytes_max`: about 50 000. Over it the one
    read longest ago is told as changed."""
    resp_push_bytes_max: int = 4 << 20
    """Bytes of events and invalidations that wait for one Redis client to take them; over it the client is cut."""
    resp_linger_bytes_max: int = 256 << 20
    """Bytes read and thrown away behind an error that ends a connection, so that the client reads the error."""
    resp_linger_ms_max: int = 10_000
    """Longest time for that."""
