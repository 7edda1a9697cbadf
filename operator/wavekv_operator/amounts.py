"""Reads and writes amounts of bytes in a custom resource: 1073741824, 1Gi, 512Mi, 1G; whole numbers alone.

They are Kubernetes quantities without fractions, exponents and the units below one, none of which suits a number of
bytes. The API server keeps what a person wrote, so equal amounts come in several spellings; they are compared as
numbers.
"""

import re

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
PATTERN = "^[0-9]{1,15}([KMG]i|[kMG])?$"
"""The same as a schema says it."""
_AMOUNT = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>[KMG]i|[kMG]|)")


def whole_amount(value: object) -> int | None:
    """Return the amount that `value` spells, None if it is not one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return int(match["number"]) * _UNITS[match["unit"]] if match else None


def shown(size_bytes: int) -> str:
    """Return a number of bytes as people write it: in the largest of Gi, Mi and Ki that divides it."""
    for unit in ("Gi", "Mi", "Ki"):
        if size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return str(size_bytes)
