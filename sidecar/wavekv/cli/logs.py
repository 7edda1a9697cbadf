"""How a member's log lines look: text for people, JSON for collectors, one line an event on stderr, times in UTC.

Set up once by the command, never at import; libraries and the engine only name their logger.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO


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


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
