"""How the operator's log lines look: text for people, JSON for collectors, on stderr, times in UTC."""

import logging
import sys
import time

from pythonjsonlogger.json import JsonFormatter

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def set_up_logging(style: str, level: str) -> None:
    """Send records from `level` up to stderr, as `text` or `json` lines. kopf's own chatter starts at warnings."""
    formatter: logging.Formatter
    if style == "json":
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        formatter = JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=renamed, datefmt=_TIME
        )
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s", datefmt=_TIME)
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        logging.getLogger("kopf").setLevel(logging.WARNING)
