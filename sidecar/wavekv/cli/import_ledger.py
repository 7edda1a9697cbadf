"""What became of each unit of an import, and up to which unit all are finished.

Units finish in any order; counts, rejects and the saved statement move only over the part without gaps, so that they
always speak of the same first N units. At most the import's window of outcomes waits behind a gap (G9).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wavekv.cli.import_reader import Refusal
from wavekv.cli.import_state import Progress
from wavekv.errors import UsageError

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
        self._ahead[number] = outcome
        progress = self._progress
        while (ended := self._ahead.pop(progress.done, None)) is not None:
            name = REFUSED + ended.code if isinstance(ended, Refusal) else ended
            if isinstance(ended, Refusal):
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
    """The refused records: each as a JSON line in a file when there is one, the first few to `show`."""

    def __init__(self, path: Path | None, kept_bytes: int, show: Callable[[Refusal], None], shown_max: int = 5) -> None:
        self._file = None if path is None else _opened(path, kept_bytes)
        self._show = show
        self._left = shown_max

    def write(self, refusal: Refusal) -> None:
        """Note one refusal."""
        if self._left:
            self._left -= 1
            self._show(refusal)
        if self._file is not None:
            self._file.write(json.dumps(refusal._asdict(), ensure_ascii=False).encode() + b"\n")

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


def _opened(path: Path, kept_bytes: int) -> BinaryIO:
    """Open the rejects file; what an interrupted import wrote behind its last saved statement is cut off."""
    try:
        file = path.open("r+b" if kept_bytes and path.exists() else "wb")
        file.truncate(kept_bytes)
        file.seek(0, 2)
    except OSError as error:
        raise UsageError(f"--rejects {path}: {error.strerror}") from error
    return file
