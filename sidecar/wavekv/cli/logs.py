"""How a member's log lines look: text for people, JSON for collectors, one line an event on stderr, times in UTC.

Set up once by the command, never at import; libraries and the engine only name their logger.

A message may hold what a stranger wrote: a path, a header, a key, a name. So this is the one place where characters
are escaped that could end a line, hide a part of it or turn its direction, and where it is cut; no caller has to think
of it.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

MESSAGE_CHARS_MAX: Final = 4096
"""Longest message of a line; what is longer is cut, and says so."""

_TREACHEROUS: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ud800-\\udfff]"
)
"""Controls, line ends, invisible characters, those that turn the direction, and halves of surrogate pairs."""


def one_line(text: str) -> str:
    """Return `text` as it may stand in a line of the log."""
    if len(text) > MESSAGE_CHARS_MAX:
        text = f"{text[:MESSAGE_CHARS_MAX]} … ({len(text)} characters)"
    return _TREACHEROUS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def set_up_logging(style: str, level: str, stream: TextIO | None = None) -> None:
    """Send records from `level` up to `stream` (stderr), as `text` or `json` lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class TextLines(logging.Formatter):
    """`TIME LEVEL LOGGER MESSAGE`, and a traceback below where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's
        """Return the record's time."""
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """Return the line, whatever the message holds."""
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's
        """Return the traceback, each line indented so that none of it can pass for a line of its own."""
        return "\n".join(f"    {one_line(line)}" for line in super().formatException(ei).splitlines())


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
