"""What became of each unit of an import, and up to which unit all are finished.

Units finish in any order; counts, rejects and the saved statement move only over the part without gaps, so that they
always speak of the same first N units. At most the import's window of outcomes waits behind a gap (G9), and
what refused records hold meanwhile is counted in `held_bytes`.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wavekv.cli.import_reader import Refusal
from wavekv.cli.import_state import Progress
from wavekv.cli.records import Parsed, expiry, json_line
from wavekv.errors import UsageError
from wavekv.http_api.expiry import KEEP

IMPORTED = "imported"
ALREADY_THERE = "already_there"
SUPERSEDED = "superseded"
EXPIRED = "expired"
REFUSED = "refused."
"""Begins the counts of refusals; the code follows."""

Outcome = str | Refusal


class Ledger:
    """The finished units; `save` keeps the statement, every `save_units` units or `save_seconds`."""

    def __init__(
        self,
        progress: Progress,
        save: Callable[[Progress], None],
        rejects: "Rejects",
        save_units: int = 1000,
        save_seconds: float = 1.0,
    ) -> None:
        self._progress = progress
        self._save = save
        self._rejects = rejects
        self._save_units = save_units
        self._save_seconds = save_seconds
        self._ahead: dict[int, Outcome] = {}
        self._saved_at = 0.0
        self.saved = progress.done
        self.held_bytes = 0
        """Bytes of refused records that wait behind a gap."""

    @property
    def done(self) -> int:
        """Number of units finished without a gap."""
        return self._progress.done

    @property
    def counts(self) -> dict[str, int]:
        """How the finished units ended."""
        return self._progress.counts

    def finish(self, number: int, outcome: Outcome, now_seconds: float) -> None:
        """Note the end of unit `number`, and save when it is time to."""
        if isinstance(outcome, Refusal):
            outcome = outcome if self._rejects.kept else outcome._replace(record=None)
            self.held_bytes += outcome.size
        self._ahead[number] = outcome
        progress = self._progress
        while (ended := self._ahead.pop(progress.done, None)) is not None:
            name = REFUSED + ended.code if isinstance(ended, Refusal) else ended
            if isinstance(ended, Refusal):
                self.held_bytes -= ended.size
                self._rejects.write(ended)
            progress.counts[name] = progress.counts.get(name, 0) + 1
            progress.done += 1
        unsaved = progress.done - self.saved
        if unsaved >= self._save_units or (unsaved and now_seconds - self._saved_at >= self._save_seconds):
            self._saved_at = now_seconds
            self.save()

    def save(self) -> None:
        """Keep the statement now."""
        self._progress.rejects_bytes = self._rejects.flush()
        self._save(self._progress)
        self.saved = self._progress.done


class Rejects:
    """The refused records: each as a JSON line in a file when there is one, the first few to `show`.

    A line has the record itself, so that it can be mended and imported, and why it was refused as `rejected`, which an
    import passes over. What could not be understood stands in `record`, or `record_base64`, as it came.
    """

    def __init__(self, path: Path | None, kept_bytes: int, show: Callable[[Refusal], None], shown_max: int = 5) -> None:
        self._file = None if path is None else _opened(path, kept_bytes)
        self._show = show
        self._left = shown_max

    @property
    def kept(self) -> bool:
        """Tell whether the records are kept."""
        return self._file is not None

    def write(self, refusal: Refusal) -> None:
        """Note one refusal."""
        if self._left:
            self._left -= 1
            self._show(refusal)
        if self._file is not None:
            self._file.write(_reject_line(refusal).encode() + b"\n")

    def flush(self) -> int:
        """Hand the file to the system and return its length in bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _reject_line(refusal: Refusal) -> str:
    rejected = {"line": refusal.line, "code": refusal.code, "detail": refusal.detail}
    record = refusal.record
    if isinstance(record, Parsed) and _is_text(record.key):
        ttl = {} if record.ttl is None else {"ttl": record.ttl if record.ttl == KEEP else float(record.ttl)}
        return json_line(record.key, record.value, **expiry(record.expires_at), **ttl, rejected=rejected)
    raw = record.key.encode("utf-8", "surrogateescape") if isinstance(record, Parsed) else record
    if raw is None:
        return json.dumps({"record": None, "rejected": rejected})
    try:
        found = {"record": raw.decode()}
    except UnicodeDecodeError:
        found = {"record_base64": base64.b64encode(raw).decode()}
    return json.dumps({**found, "rejected": rejected})


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(path: Path, kept_bytes: int) -> BinaryIO:
    """Open the rejects file; what an interrupted import wrote behind its last saved statement is cut off."""
    try:
        file = path.open("r+b" if kept_bytes and path.exists() else "wb")
        file.truncate(kept_bytes)
        file.seek(0, 2)
    except OSError as error:
        raise UsageError(f"--rejects {path}: {error.strerror}") from error
    return file
