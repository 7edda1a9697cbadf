"""An export that the operator asks a running member for: begun, looked at, taken away again.

It is written below the data directory, for whoever can read the volume: admin routes carry no data.
"""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any, Final, NamedTuple

from wavekv.errors import WaveKVError
from wavekv.runtime.compactor import Compactor

log = logging.getLogger(__name__)

FOLDER: Final = "exports"


class ExportStatus(NamedTuple):
    """How the newest export stands: `path` once it is whole, `error` if it failed, neither while it runs."""

    running: bool = False
    path: str | None = None
    counts: dict[str, Any] | None = None
    error: str | None = None


class Exporter:
    """Writes one export at a time into `DATA_DIR/exports/crate`, in place of the one before."""

    def __init__(self, data_dir: Path, compactor: Compactor) -> None:
        self._out = data_dir / FOLDER / "crate"
        self._compactor = compactor
        self._task: asyncio.Task[None] | None = None
        self.status = ExportStatus()

    def begin(self) -> ExportStatus:
        """Begin an export unless one runs; return how it stands."""
        if not self.status.running:
            self.status = ExportStatus(running=True)
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self.status

    async def _run(self) -> None:
        try:
            await asyncio.to_thread(shutil.rmtree, self._out, ignore_errors=True)
            counts = dict(await self._compactor.export_crate(self._out))
        except (WaveKVError, OSError) as error:
            detail = error.detail if isinstance(error, WaveKVError) else str(error)
            log.error("the export failed: %s", detail)
            self.status = ExportStatus(error=detail)
        else:
            log.info("exported %d entries to %s", counts["entries"], self._out)
            self.status = ExportStatus(path=str(self._out), counts=counts)

    async def remove(self) -> ExportStatus:
        """Take a finished export away, and give its room back."""
        if not self.status.running:
            await asyncio.to_thread(shutil.rmtree, self._out, ignore_errors=True)
            self.status = ExportStatus()
        return self.status

    async def stop(self) -> None:
        """End an export that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
