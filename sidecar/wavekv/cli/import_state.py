"""What an import remembers on disk so that it can go on after any kind of end: the first N units of the input are done.

The statement holds for exactly one input, read in one way, into one member; each is recorded and compared. The file is
replaced as a whole, so a reader finds the old statement or the new one. Counts in it cover the same N units, so the
summary of a resumed import is that of the whole input. A log of finished records was turned down: it grows with the
input, and the bound on what is under way already limits what has to be looked at again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wavekv.cli.whole_file import whole_file
from wavekv.config import VOLUME_LIMITS
from wavekv.errors import UsageError
from wavekv.volume import parse_json, read_file

SUFFIX = ".wavekv-import"
BLOCK_BYTES = 64 << 10
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Job:
    """Which import a state belongs to: the input's identity, the member, and how the input is read."""

    size: int
    mtime_ns: int
    blocks: str
    """Hash of the input's first and last block."""
    target: str
    reading: Mapping[str, Any]


@dataclass(slots=True)
class Progress:
    """The first `done` units are finished, `counts` says how; `rejects_bytes` of the rejects file are theirs."""

    done: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    rejects_bytes: int = 0


def identify(source: BinaryIO, path: Path, target: str, reading: Mapping[str, Any]) -> Job:
    """Return the job of importing `path`, open as `source`; leaves the position at the start."""
    about = path.stat()
    source.seek(0)
    digest = hashlib.sha256(source.read(BLOCK_BYTES))
    source.seek(max(0, about.st_size - BLOCK_BYTES))
    digest.update(source.read(BLOCK_BYTES))
    source.seek(0)
    return Job(about.st_size, about.st_mtime_ns, digest.hexdigest(), target, reading)


class StateFile:
    """The state of one job at one path."""

    def __init__(self, path: Path, job: Job) -> None:
        self._path = path
        self._job: dict[str, Any] = json.loads(json.dumps(asdict(job)))  # as it is read back

    def exists(self) -> bool:
        """Tell whether an earlier import left its statement."""
        return self._path.exists()

    def load(self) -> Progress:
        """Return what is done; nothing when there is no file.

        Raises:
            UsageError: the file is of another job, or not one of ours.
        """
        try:
            content = parse_json(read_file(self._path, VOLUME_LIMITS.document_bytes_max, named=True))
            version, job, progress = content["version"], content["job"], Progress(**content["progress"])
        except FileNotFoundError:
            return Progress()
        except OSError as error:
            raise UsageError(f"the state file {self._path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._other("cannot be understood") from error
        if version != _VERSION or not isinstance(job, dict):
            raise self._other("is of another version")
        differing = [name for name, value in self._job.items() if job.get(name) != value]
        if "target" in differing:
            raise self._other(f"is of an import into {job.get('target')}")
        if "reading" in differing:
            raise self._other("is of an import with other options")
        if differing:
            raise self._other("is of another input, or the input has changed since")
        return progress

    def save(self, progress: Progress) -> None:
        """Replace the file. Blocks until it is on disk.

        Raises:
            DirectoryUnusable: it cannot be written.
        """
        content = {"version": _VERSION, "job": self._job, "progress": asdict(progress)}
        with whole_file(self._path) as output:
            output.write(json.dumps(content).encode())

    def remove(self) -> None:
        """Remove the file, if there."""
        self._path.unlink(missing_ok=True)

    def _other(self, what: str) -> UsageError:
        return UsageError(
            f"the state file {self._path} {what}; give --restart to begin anew, or --state FILE to keep both"
        )
