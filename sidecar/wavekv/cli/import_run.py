"""How an import writes: many connections at once, the records of one key in order, nothing twice after a kill.

- A key always goes to the same connection, and a connection has one request under way: so of two records with one key
  the later one wins, as in the file.
- At most `window_units` units are begun beyond the last saved statement. After a kill exactly these are in doubt; each
  is compared with the member first and put only if it differs. Of several doubtful records with one key only the last
  counts, because an earlier one would overwrite what is already right.
- An expiry is sent as the time that is left when its put is sent; one that is over is not sent at all. A doubtful
  record with a time to live is put again, since that counts from the put.
- A connection cut while a put was under way leaves that put in doubt; it is compared the same way.
- What the member refuses for the record's own fault is counted; what says "not now" is tried again for a bounded
  time; anything else ends the import, with what was done saved.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from threading import Thread
from zlib import crc32

from wavekv.cli.client import refusal
from wavekv.cli.errors import MemberUnreachable, RefusedByMember
from wavekv.cli.http_wire import Answer, Wire, WireCut
from wavekv.cli.import_ledger import ALREADY_THERE, EXPIRED, IMPORTED, SUPERSEDED, Ledger, Outcome
from wavekv.cli.import_reader import Record, Refusal, Skipped, Unit
from wavekv.cli.records import Parsed
from wavekv.cli.target import Target
from wavekv.errors import UsageError, WaveKVError

STORED = (200, 201, 204)
RECORDS_FAULT = (400, 409, 412, 413)
NOT_NOW = (429, 503)
EXPIRY_APART_MS_MAX = 1000
"""What a record's expiry and the member's may differ by and still be the same: the way of the put takes a while."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Bounds of an import."""

    connections: int = 16
    window_units: int = 4096
    """Units begun beyond the last saved statement; also what a resumed import compares first."""
    pending_bytes_max: int = 32 << 20
    """Value bytes read and not yet stored, and bytes of refused records not yet listed."""
    batch_units: int = 128
    """Units read in one go on the reading thread."""
    batch_bytes: int = 1 << 20
    """Value bytes that end a batch early."""
    retry_seconds_max: float = 30.0
    """How long one record is tried again while the member says "not now"."""
    pause_seconds_max: float = 2.0
    """Longest pause between two such tries; the first is 0.05 s and each next one twice as long."""
    cuts_max: int = 3
    """Connections cut under one record before the member counts as unreachable."""


class Import:
    """One run over the rest of an input, from the ledger's first unfinished unit."""

    def __init__(self, target: Target, ledger: Ledger, pace: Pace, doubtful: dict[str, int] | None) -> None:
        """Begin after what `ledger` has; `doubtful` (from `last_of_keys`) when an earlier run was cut short."""
        self._target = target
        self._ledger = ledger
        self._pace = pace
        self._last = doubtful or {}
        self._doubtful_end = ledger.done + pace.window_units if doubtful else 0
        self._begun = ledger.done
        self._pending_bytes = 0
        self._moved = asyncio.Event()

    async def run(self, units: Iterator[Unit]) -> None:
        """Store all of `units`; the statement is saved however this ends.

        Raises:
            MemberUnreachable: nobody answers.
            RefusedByMember: the member refuses for good, or "not now" for too long.
            UsageError: the input cannot be read.
        """
        queues = [asyncio.Queue[tuple[int, Record] | None]() for _ in range(self._pace.connections)]
        try:
            async with asyncio.TaskGroup() as group:
                for queue in queues:
                    group.create_task(self._work(queue))
                async for batch in _batches(units, self._pace):
                    await self._dispatch(batch, queues)
                for queue in queues:
                    queue.put_nowait(None)
        except ExceptionGroup as errors:
            # Connections fail together; the first to say why speaks for all.
            raise errors.exceptions[0] from errors
        finally:
            self._ledger.save()

    async def _dispatch(self, batch: list[Unit], queues: list[asyncio.Queue[tuple[int, Record] | None]]) -> None:
        for unit in batch:
            while self._crowded():
                self._moved.clear()
                await self._moved.wait()
            number = self._begun
            self._begun += 1
            if isinstance(unit, Skipped):
                self._finish(number, unit.why)
            elif isinstance(unit, Refusal):
                self._finish(number, unit)
            elif number < self._doubtful_end and self._last.get(unit.key, number) > number:
                self._finish(number, SUPERSEDED)
            else:
                self._pending_bytes += len(unit.value)
                queues[crc32(unit.key.encode()) % len(queues)].put_nowait((number, unit))

    def _crowded(self) -> bool:
        if self._begun - self._ledger.saved >= self._pace.window_units:
            if self._ledger.done == self._begun:
                self._ledger.save()
                return False
            return True
        return self._pending_bytes + self._ledger.held_bytes > self._pace.pending_bytes_max

    def _finish(self, number: int, outcome: Outcome) -> None:
        self._ledger.finish(number, outcome, asyncio.get_running_loop().time())
        self._moved.set()

    async def _work(self, queue: asyncio.Queue[tuple[int, Record] | None]) -> None:
        lane = _Lane(self._target)
        try:
            while (item := await queue.get()) is not None:
                number, record = item
                outcome = await self._store(lane, record, number < self._doubtful_end)
                self._pending_bytes -= len(record.value)
                self._finish(number, outcome)
        finally:
            lane.close()

    async def _store(self, lane: "_Lane", record: Record, resumed: bool) -> Outcome:
        """Return what became of `record`, after as many tries as the pace allows."""
        now = asyncio.get_running_loop().time
        doubtful, cuts, pause, give_up = resumed, 0, 0.05, 0.0
        while True:
            try:
                wire = await lane.wire()
                left_ms = _left_ms(record)
                if left_ms == 0:
                    return EXPIRED
                if doubtful:
                    answer = await wire.get(record.key)
                else:
                    ttl = record.ttl if left_ms is None else f"{left_ms // 1000}.{left_ms % 1000:03}"
                    answer = await wire.put(record.key, record.value, ttl)
            except WireCut as cut:
                doubtful, cuts = True, cuts + 1
                if cuts > self._pace.cuts_max:
                    raise MemberUnreachable(f"the member at {self._target} cut {cuts} connections in a row") from cut
                continue
            if doubtful and answer.status in (200, 404):
                if answer.status == 200 and _holds(answer, record):
                    return ALREADY_THERE if resumed else IMPORTED
                doubtful = False
            elif answer.status in STORED:
                return IMPORTED
            elif answer.status in NOT_NOW:
                give_up = give_up or now() + self._pace.retry_seconds_max
                if now() + pause > give_up:
                    raise refusal(answer.status, answer.body)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._pace.pause_seconds_max)
            else:
                return _fault(record, answer)


def _fault(record: Record, answer: Answer) -> Refusal:
    """Return the refusal of a record that is itself at fault.

    Raises:
        RefusedByMember: the fault is not the record's.
    """
    error: RefusedByMember = refusal(answer.status, answer.body)
    if answer.status not in RECORDS_FAULT:
        raise error
    kept = Parsed(record.key, record.value, record.expires_at, record.ttl)
    return Refusal(record.line, error.named, error.detail, kept)


def last_of_keys(window: Iterable[tuple[int, Unit]]) -> dict[str, int]:
    """Return for each key among the numbered units of `window` the number of its last record that is not expired."""
    return {unit.key: number for number, unit in window if isinstance(unit, Record) and _left_ms(unit) != 0}


def _left_ms(record: Record) -> int | None:
    """Return how long `record` has until the expiry it names, 0 when that is over; None where it names none."""
    return None if record.expires_at is None else max(0, record.expires_at - time.time_ns() // 1_000_000)


def _holds(answer: Answer, record: Record) -> bool:
    """Tell whether the member's value is what putting `record` would leave."""
    if answer.body != record.value or record.ttl is not None:
        return False
    if answer.expires_at is None or record.expires_at is None:
        return answer.expires_at == record.expires_at
    return abs(answer.expires_at - record.expires_at) <= EXPIRY_APART_MS_MAX


class _Lane:
    """A connection that is opened again when it ended."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire: Wire | None = None

    async def wire(self) -> Wire:
        if self._wire is None or self._wire.closed:
            self.close()
            self._wire = await Wire.connect(self._target)
        return self._wire

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()


async def _batches(units: Iterator[Unit], pace: Pace) -> AsyncIterator[list[Unit]]:
    """Yield the units as they are read on a thread of its own.

    The thread is a daemon: one that waits for input nobody types must not hold up the end of the process.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[list[Unit] | WaveKVError] = asyncio.Queue(2)

    def hand_over(item: list[Unit] | WaveKVError) -> None:
        asyncio.run_coroutine_threadsafe(ready.put(item), loop).result()

    def read() -> None:
        # Both errors mean that the import has ended and nobody waits for more.
        with suppress(CancelledError, RuntimeError):
            try:
                while batch := _batch(units, pace):
                    hand_over(batch)
                hand_over([])
            except OSError as error:
                hand_over(UsageError(f"the input cannot be read: {error.strerror}"))
            except WaveKVError as error:
                hand_over(error)

    Thread(target=read, name="import-reader", daemon=True).start()
    while item := await ready.get():
        if isinstance(item, WaveKVError):
            raise item
        yield item


def _batch(units: Iterator[Unit], pace: Pace) -> list[Unit]:
    batch: list[Unit] = []
    total_bytes = 0
    for unit in islice(units, pace.batch_units):
        batch.append(unit)
        total_bytes += len(unit.value) if isinstance(unit, Record) else unit.size if isinstance(unit, Refusal) else 0
        if total_bytes >= pace.batch_bytes:
            break
    return batch
