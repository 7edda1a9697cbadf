"""The one exception of this plane: an error in Redis' own words."""

SYNTAX = "ERR syntax error"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_QUEUED = "ERR Command not allowed inside a transaction"


class Refused(Exception):
    """A command that is answered by an error in Redis' own words."""
