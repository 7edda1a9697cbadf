"""Follows the `--membership` file while the member runs: a mounted document that changes is taken like a pushed one.

So a member whose operator cannot reach it, or that has none, still learns who belongs (G10). A mounted copy is often
older than what was pushed; that says nothing and is not complained of. It can override nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from wavekv.errors import DiskFailed, NotWritten, StaleEpoch, WaveKVError
from wavekv.runtime.epoch_file import EpochDocument, read_document

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
"""How often the file is looked at; a mounted one changes within a minute anyway."""

Stamp = tuple[int, int, int] | None


class MountedEpoch:
    """The file, and the version of it that was taken last."""

    def __init__(
        self,
        path: Path,
        take: Callable[[EpochDocument], Awaitable[object]],
        on_disk_failed: Callable[[DiskFailed], None],
    ) -> None:
        """Follow `path`, of which the present version has been taken; hand others to `take`."""
        self._path = path
        self._take = take
        self._on_disk_failed = on_disk_failed
        self._seen = _stamp(path)

    async def run(self) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take the file's document if it changed; what cannot be taken is told once."""
        stamp = await asyncio.to_thread(_stamp, self._path)
        if stamp == self._seen:
            return
        before, self._seen = self._seen, stamp
        try:
            document = await asyncio.to_thread(read_document, self._path)
            await self._take(document)
        except StaleEpoch:
            return
        except NotWritten:  # once more as long as it takes
            self._seen = before
        except DiskFailed as error:
            self._on_disk_failed(error)
        except WaveKVError as error:
            log.warning("the changed --membership file is not taken: %s", error.detail)


def _stamp(path: Path) -> Stamp:
    """Return what tells one version of the file from another, None where it is missing; links are followed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
