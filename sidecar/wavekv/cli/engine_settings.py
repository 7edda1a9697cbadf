"""How much a member may hold, and when it folds its log: the flags of both, their bounds, and what they become.

`serve` takes them from flags or `WAVEKV_*`; `local` hands those it was given on to each of its members. Sizes are
bytes, or whole numbers of Ki, Mi or Gi as Kubernetes spells them; units of 1000 were turned down, because 1G and 1Gi
are taken for one another.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import click

from wavekv.config import (
    BYTES_LEAST,
    BYTES_MOST,
    COMPACT_AGE_SECONDS_MOST,
    COMPACT_LOG_BYTES_LEAST,
    COMPACT_LOG_BYTES_MOST,
    ENTRIES_MOST,
    CompactionSettings,
    Limits,
)
from wavekv.errors import UsageError

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,19})(Ki|Mi|Gi)?")
_COUNT = re.compile(r"[0-9]{1,19}")


class _Flag(NamedTuple):
    """One flag: the bounds of its value, an example that works, and what `--help` says."""

    least: int
    most: int
    example: str
    help: str
    is_size: bool = False

    @property
    def metavar(self) -> str:
        """What stands for the value in `--help`."""
        return "SIZE" if self.is_size else "N"


_DEFAULT = Limits()
_FLAGS = {
    "limit_entries": _Flag(
        1, ENTRIES_MOST, "1000000", "Entries held, deleted ones included until they are collected.  [default: 1000000]"
    ),
    "limit_bytes": _Flag(BYTES_LEAST, BYTES_MOST, "1Gi", "Key and value bytes held.  [default: 1Gi]", is_size=True),
    "limit_key_bytes": _Flag(
        1, _DEFAULT.wire_key_bytes_max, "512", "Longest key that clients may use, bytes.  [default: 1024]"
    ),
    "limit_value_bytes": _Flag(
        1,
        _DEFAULT.wire_value_bytes_max,
        "64Ki",
        "Longest value that clients may write.  [default: 1Mi]",
        is_size=True,
    ),
    "compact_log_bytes": _Flag(
        COMPACT_LOG_BYTES_LEAST,
        COMPACT_LOG_BYTES_MOST,
        "32Mi",
        "The log behind the last snapshot may be folded from this size on.  [default: 32Mi]",
        is_size=True,
    ),
    "compact_age": _Flag(
        1,
        COMPACT_AGE_SECONDS_MOST,
        "3600",
        "Seconds after which it is folded whatever its size, if it holds anything.  [default: 3600]",
    ),
}
_WHY = {
    "limit_key_bytes": "; other members, and nodes of the original system, refuse longer keys",
    "limit_value_bytes": "; other members, and nodes of the original system, refuse longer values",
}
"""What is added to a refusal whose reason is not obvious."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """These flags as they were given; None where they were not."""

    limit_entries: str | None = None
    limit_bytes: str | None = None
    limit_key_bytes: str | None = None
    limit_value_bytes: str | None = None
    compact_log_bytes: str | None = None
    compact_age: str | None = None


def engine_options(*, environment: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command these flags, with their variables where `environment`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, flag in reversed(_FLAGS.items()):
            envvar = f"WAVEKV_{name.upper()}" if environment else None
            command = click.option(spelled(name), envvar=envvar, metavar=flag.metavar, help=flag.help)(command)
        return command

    return decorate


def limits_from(flags: EngineFlags) -> Limits:
    """Return the limits that `flags` ask for, the defaults elsewhere.

    Raises:
        UsageError: a value that is no number or size, or outside its bounds.
    """
    asked = {
        "entries_max": _value(flags, "limit_entries"),
        "bytes_max": _value(flags, "limit_bytes"),
        "key_bytes_max": _value(flags, "limit_key_bytes"),
        "value_bytes_max": _value(flags, "limit_value_bytes"),
    }
    return replace(Limits(), **{name: value for name, value in asked.items() if value is not None})


def compaction_from(flags: EngineFlags) -> CompactionSettings:
    """Return when the log is folded, as `flags` ask for, the defaults elsewhere.

    Raises:
        UsageError: as for `limits_from`.
    """
    default = CompactionSettings()
    log_bytes, age_seconds = _value(flags, "compact_log_bytes"), _value(flags, "compact_age")
    return replace(
        default,
        log_bytes_min=default.log_bytes_min if log_bytes is None else log_bytes,
        age_ms_max=default.age_ms_max if age_seconds is None else age_seconds * 1000,
    )


def engine_arguments(flags: EngineFlags) -> list[str]:
    """Return the arguments that hand on what was given."""
    given = ((spelled(field.name), getattr(flags, field.name)) for field in fields(EngineFlags))
    return [part for name, text in given if text is not None for part in (name, text)]


def spelled(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def _value(flags: EngineFlags, name: str) -> int | None:
    text, flag = getattr(flags, name), _FLAGS[name]
    if text is None:
        return None
    value = _parsed(text, flag.is_size)
    if value is None:
        kind = "a size: bytes, or a whole number of Ki, Mi or Gi" if flag.is_size else "a whole number"
        raise UsageError(f"{spelled(name)} {text!r} is not {kind}; for example {spelled(name)} {flag.example}")
    if not flag.least <= value <= flag.most:
        least, most = (_shown(bound) if flag.is_size else str(bound) for bound in (flag.least, flag.most))
        why = _WHY.get(name, "") if value > flag.most else ""
        raise UsageError(
            f"{spelled(name)} {text} is outside {least}…{most}{why}; for example {spelled(name)} {flag.example}"
        )
    return value


def _parsed(text: str, is_size: bool) -> int | None:
    """Return the number that `text` spells, None if it spells none."""
    if not is_size:
        return int(text) if _COUNT.fullmatch(text) else None
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2] or ""] if match else None


def _shown(size_bytes: int) -> str:
    """Return a size in the largest unit that divides it."""
    unit = next(unit for unit in reversed(_UNITS) if size_bytes % _UNITS[unit] == 0)
    return f"{size_bytes // _UNITS[unit]}{unit}"
