"""Directories of the original system for tests: the golden ones, and what its 2.x version recovers from each."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from wavekv.core.types import Entry

VECTORS = Path(__file__).parents[1] / "vectors" / "dirs"
NODE_ID = 1
"""Of every golden directory."""


class Recovered(NamedTuple):
    entries: dict[str, Entry]
    acks: dict[int, int]
    next_seq: int


def told(name: str) -> Recovered:
    """Return what the 2.x crate recovers, by its own words; acknowledgements of nothing are left out."""
    dump = json.loads((VECTORS / name / "expected.json").read_text())["crate_2.1.0"]["dump"]
    entries = [entry_of(fields) for fields in dump["data"]]
    acks = {int(origin): ack for origin, ack in dump["acks"].items() if ack}
    return Recovered({entry.key: entry for entry in entries}, acks, dump["next_seq"])


def entry_of(fields: dict[str, Any]) -> Entry:
    value = None if fields["value"] is None else bytes.fromhex(fields["value"])
    return Entry(fields["key"], value, fields["ts"], fields["node"], fields["seq"])


def copy_of(name: str, target: Path) -> Path:
    """Copy a golden directory to `target`."""
    shutil.copytree(VECTORS / name / "data", target, ignore=shutil.ignore_patterns(".gitkeep"))
    return target


def content(path: Path) -> dict[str, bytes]:
    """Return every file under `path` but the lock, which tells only who had it last."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "LOCK")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}
