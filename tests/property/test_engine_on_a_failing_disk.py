"""Whatever happens to process and disk, the engine comes back with all it acknowledged and with nothing by halves.

A member over `PagedDisk` against a dict: writes, batches, conditions, expiry, compactions; stops, kills, power losses
at any call, a full disk, a read-only one, failed syncs, a rotten snapshot. What the disk alone loses is told, and what
is left is true. `WAVEKV_ENGINE_EXAMPLES` sets how many lives it leads.
"""

import errno
import os
import random
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.fakes.disk import PowerCut
from tests.fakes.paged_disk import PagedDisk, any_of
from tests.fakes.paged_member import PagedMember
from wavekv.core.condition import Condition
from wavekv.core.packed import unpack
from wavekv.core.replica import Staged
from wavekv.core.types import Dot, Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import DirectoryUnusable, DiskFailed, DiskFull, KeyNotFound, PreconditionFailed
from wavekv.snapshot.files import snapshots
from wavekv.wal.segment import segment_name

Content = tuple[bytes, int | None]
Change = dict[str, Content | None]
"""What one request does, all or nothing: None removes."""

KEYS = st.sampled_from(("a", "b", "c", "dd", "ée"))
VALUES = st.one_of(
    st.binary(max_size=8),
    st.builds(lambda size, byte: bytes([byte]) * size, st.integers(200, 1600), st.integers(0, 255)),
)
LIVES = st.none() | st.integers(1, 50)
PUTS = st.builds(lambda key, value, lives: (key, value, lives), KEYS, VALUES, LIVES)
DELETES = KEYS.map(lambda key: (key, None, None))
BATCHES = st.lists(PUTS | DELETES, min_size=2, max_size=4)
REQUESTS = st.one_of(PUTS, PUTS, DELETES, BATCHES)
GROUPS = st.lists(st.lists(REQUESTS, min_size=1, max_size=3), min_size=1, max_size=5)
Trouble = tuple[str, int]
"""What strikes, and in which call from now."""
NO_TROUBLE = st.just(("none", 0))
TROUBLES: st.SearchStrategy[Trouble] = st.one_of(
    NO_TROUBLE,
    st.tuples(st.sampled_from(("power", "power", "EROFS")), st.integers(1, 30)),
    st.tuples(st.sampled_from(("EIO", "ENOSPC")), st.just(1)),
)
ENDS = ("power", "kill", "stop")
WORKER_TROUBLES = st.tuples(st.sampled_from(("worker", "power", "EROFS")), st.integers(1, 80))
EXAMPLES = int(os.environ.get("WAVEKV_ENGINE_EXAMPLES", "100"))
STEPS = 30
RESERVE_BYTES = 4096
START_BYTES = 512


class EngineOnAFailingDisk(RuleBasedStateMachine):
    """`state` is what was acknowledged or read; `doubtful` are the requests of one group that nobody was told of."""

    @initialize(seed=st.integers(0, 2**32 - 1), page_bytes=st.sampled_from((512, 4096)))
    def begin(self, seed: int, page_bytes: int) -> None:
        self.reserve = mock.patch.multiple("wavekv.wal.reserve", RESERVE_BYTES=RESERVE_BYTES, START_BYTES=START_BYTES)
        self.reserve.start()
        self.rng = random.Random(seed)
        self.root = Path(tempfile.mkdtemp())
        self.disk = PagedDisk(self.root, self.rng, page_bytes)
        self.now_ms = 1_000
        self.state: dict[str, Content] = {}
        self.doubtful: list[Change] = []
        self.issued: dict[Dot, Entry] = {}
        self.durable_dots: set[Dot] = set()
        self.may_lose = False
        """The newest snapshot is broken, and what it was made from is gone."""
        self.set_aside = False
        """A process ended its start, or its search for room, with room for the next start set aside."""
        self.start()

    def teardown(self) -> None:
        if hasattr(self, "member"):
            self.disk.kill()
            if self.member is not None:
                self.member.directory.close()
            self.reserve.stop()
            shutil.rmtree(self.root)

    # ---- requests ----------------------------------------------------------------------------------------------

    @rule(groups=GROUPS, trouble=TROUBLES)
    def write(self, groups: list, trouble: Trouble) -> None:
        """Groups of requests, answered only once they are durable; what is in store for the disk may strike any."""
        self.expect(trouble)
        for requests in groups:
            self.commit([change for request in requests if (change := self.stage(request))])

    @rule(key=KEYS, value=VALUES, meets=st.booleans())
    def write_on_condition(self, key: str, value: bytes, meets: bool) -> None:
        """Compare and set, with the right entity or with one that never was."""
        held = self.member.store.get(key, self.now_ms)
        etag = held.etag if held is not None and meets else "1.1.1"
        try:
            staged = self.member.replica.put(key, value, self.now_ms, Condition(match=(etag,)))
        except (PreconditionFailed, DiskFull):
            return
        assert held is not None
        assert meets
        self.commit([self.change_of([staged])])

    def stage(self, request: object) -> Change | None:
        """Stage a request; return what it changes, None for nothing."""
        replica = self.member.replica
        try:
            if isinstance(request, list):
                writes = [self.as_write(*one) for one in request]
                staged = [one for one in replica.batch(writes, self.now_ms).writes if one is not None]
            elif request[1] is None:
                staged = [replica.delete(request[0], self.now_ms)]
            else:
                put = self.as_write(*request)
                staged = [replica.put(put.key, put.value, self.now_ms, expires_at=put.expires_at)]
        except (KeyNotFound, DiskFull):
            return None
        return self.change_of(staged) or None

    def as_write(self, key: str, value: bytes | None, lives: int | None) -> Put | Delete:
        return Delete(key) if value is None else Put(key, value, None if lives is None else self.now_ms + lives)

    def change_of(self, staged: list[Staged]) -> Change:
        entries = [one.entry for one in staged]
        return {e.key: None if e.value is None else (e.value, e.expires_at) for e in entries}

    def commit(self, changes: list[Change]) -> None:
        """Commit what is staged and note what its clients may believe."""
        self.doubtful = changes
        try:
            self.member.commit()
        except DiskFull:
            event("a write on a full disk")
            self.doubtful = []
            return
        except DiskFailed as failed:
            event(f"a group failed on a {'read-only' if self.disk.read_only else 'failing'} disk")
            told = failed.detail
            assert not self.disk.read_only or "mount it writable" in told
            self.issue()
            self.fallen()
            return
        except PowerCut:
            event("the power went in a commit")
            self.issue()
            self.powerless()
            return
        for change in changes:
            apply(self.state, change)
        self.doubtful = []
        self.durable_dots.update(self.issue())
        self.check()

    def issue(self) -> list[Dot]:
        """No (origin, seq) is given out twice by processes whose writes may be on disk."""
        stored = list(self.member.group.stored()) if self.member.group is not None else []
        for entry in stored:
            assert entry.dot not in self.issued, entry
            self.issued[entry.dot] = entry
        return [entry.dot for entry in stored]

    # ---- what happens to it ------------------------------------------------------------------------------------

    def expect(self, trouble: Trouble) -> None:
        """Arm what will happen to the disk a few calls from now."""
        kind, number = trouble
        if kind == "power":
            self.disk.cut_in = number
        elif kind == "EROFS":
            self.disk.read_only_in = number
        elif kind in {"EIO", "ENOSPC"}:
            self.disk.failing_syncs, self.disk.failing_code = 1, getattr(errno, kind)

    @rule(milliseconds=st.integers(1, 60))
    def time_goes_by(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    @rule(groups=GROUPS, trouble=TROUBLES | WORKER_TROUBLES)
    def compact(self, groups: list, trouble: Trouble) -> None:
        """Compact what is written first; the worker alone may be killed in place of a call."""
        self.write(groups, ("none", 0))
        self.expect(trouble)
        member = self.member
        try:
            good = member.compact(trouble[1] if trouble[0] == "worker" else None)
        except PowerCut:
            event("the power went in a compaction")
            self.powerless()
            return
        event(f"a compaction that went {'well' if good else 'wrong'}")
        if member.failed:
            self.fallen()
        self.check()

    @rule(kind=st.sampled_from(ENDS), trouble=TROUBLES)
    def restart(self, kind: str, trouble: Trouble) -> None:
        """End the process, and perhaps have trouble while the next one starts."""
        if kind == "power":
            self.powerless(trouble)
        elif kind == "kill":
            self.fallen(trouble)
        else:
            self.stop(trouble)

    @rule(room=st.none() | st.integers(0, 4000))
    def fill_the_disk(self, room: int | None) -> None:
        """Leave little room on the volume, or all of it; the member looks for some, as it does every second."""
        self.disk.room = room
        try:
            found = self.member.find_room()
        except DiskFailed:
            self.fallen()
        except PowerCut:
            self.powerless()
        else:
            event(f"looked for room and found {'some' if found else 'none'}")
            self.set_aside = self.set_aside or found
            assert found or room is not None or self.disk.failing_code == errno.ENOSPC

    @precondition(lambda self: snapshots(self.root))
    @rule(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), then=st.sampled_from((*ENDS, "go on")))
    def the_newest_snapshot_rots(self, place: float, bit: int, then: str) -> None:
        """One bit of it; its magic and version, whose change is refused by name, aside.

        A compaction removes what a broken base would fall back to, once it has found the base whole; one that did not
        end well may therefore leave a snapshot that is the only copy of what it holds.
        """
        older, (number, path) = [(0, None), *snapshots(self.root)][-2:]
        size = path.stat().st_size
        self.disk.flip(path, 8 + int(place * (size - 8)), bit)
        made_from = [segment_name(segment) for segment in range(older[0] + 1, number + 1)]
        if not all((self.root / name).exists() for name in made_from):
            event("the only copy of a snapshot rots")
            self.may_lose = True
        if then in ENDS:
            self.restart(then, ("none", 0))

    # ---- the checks --------------------------------------------------------------------------------------------

    def fallen(self, trouble: Trouble = ("none", 0)) -> None:
        """The process ends; pages that a failed sync left clean may be dropped before the next one reads them."""
        self.member.end()
        if self.rng.random() < 0.5:
            self.disk.forget_clean()
        self.start(trouble)

    def powerless(self, trouble: Trouble = ("none", 0)) -> None:
        self.lose()
        self.member.directory.close()
        self.start(trouble)

    def stop(self, trouble: Trouble) -> None:
        self.expect(trouble)
        try:
            self.member.stop()
        except PowerCut:
            self.lose()
        except DiskFailed:
            self.disk.kill()
        self.start(trouble)

    def lose(self) -> None:
        self.disk.power_loss(any_of(self.rng))
        self.disk.failing_syncs = 0

    def start(self, trouble: Trouble = ("none", 0)) -> None:
        """Start until it succeeds, and find what has to be there; then once more, after an end of any kind."""
        self.member = None
        self.expect(trouble)
        assert self.reserved >= (START_BYTES if self.set_aside else 0), "what a start needs is kept"
        self.member = self.started()
        self.check_recovered()
        if self.rng.random() < 0.5:
            found = facts(self.member)
            self.member.end()
            if self.rng.random() < 0.7:
                self.lose()
            self.member = None
            self.member = self.started()
            assert facts(self.member) == found, "what was read is taken back"
            assert self.member.recovery.damage is None
            self.check()
        self.set_aside = self.reserved > 0

    @property
    def reserved(self) -> int:
        """Bytes that `RESERVE` holds."""
        path = self.root / "RESERVE"
        return path.stat().st_size if path.exists() else 0

    def started(self) -> PagedMember:
        while True:
            # Full twice over: what was set aside is written, and its sync says full once more.
            reserved = self.reserved > 0 and (self.disk.room is None or not self.disk.failing_syncs)
            try:
                return PagedMember(self.disk, self.rng)
            except PowerCut:
                self.lose()
            except DiskFailed:
                self.disk.kill()
                if self.rng.random() < 0.5:
                    self.disk.forget_clean()
            except DirectoryUnusable as refused:
                event("a start on a read-only disk")
                told = refused.detail
                assert self.disk.read_only
                assert "mount it writable" in told
                self.disk.kill()
                self.disk.read_only = False
                if self.rng.random() < 0.5:
                    self.lose()
            except DiskFull:
                # What is left of a log that lost something is copied, which takes room of its own.
                assert self.may_lose or not reserved, "a start on a full disk has the reserve"
                self.disk.kill()
                self.disk.room = None

    def check_recovered(self) -> None:
        """All that was acknowledged or read, and a beginning of what was in flight, each request whole."""
        found = values(self.member)
        event(f"damage: {self.member.recovery.damage}")
        if self.member.recovery.damage == "corruption":
            self.note_loss(found)
            return
        self.may_lose = False  # what rotted may have rotted back
        possible = dict(self.state)
        acceptable = [dict(possible)]
        for change in self.doubtful:
            apply(possible, change)
            acceptable.append(dict(possible))
        assert found in acceptable, (found, acceptable)
        if self.doubtful:
            event(f"{acceptable.index(found)} of {len(self.doubtful)} requests in doubt were on disk")
        event(f"began from a snapshot: {self.member.recovery.snapshot > 0}")
        assert self.member.recovery.damage in (None, "torn_tail", "snapshot")
        self.state, self.doubtful = found, []
        self.check()

    def note_loss(self, found: dict[str, Content]) -> None:
        """What is gone was lost by the disk, and told; what is left is as it was written."""
        assert self.may_lose
        assert self.member.recovery.cause
        self.state, self.doubtful, self.may_lose = found, [], False
        self.durable_dots.clear()
        self.check()

    def check(self) -> None:
        store = self.member.store
        assert values(self.member) == self.state
        for key, (value, expires_at) in self.state.items():
            read = store.get(key, self.now_ms)
            assert (read.value if read else None) == (value if expires_at is None or expires_at > self.now_ms else None)
        for dot in self.durable_dots:
            assert store.context.covers(*dot), dot
        for entry in store.entries.values():
            assert self.issued[entry.dot] == entry
            self.durable_dots.add(entry.dot)


def apply(state: dict[str, Content], change: Change) -> None:
    for key, content in change.items():
        if content is None:
            state.pop(key, None)
        else:
            state[key] = content


def values(member: PagedMember) -> dict[str, Content]:
    entries = (unpack(key, packed) for key, packed in member.store.packed.items())
    return {entry.key: (entry.value, entry.expires_at) for entry in entries if entry.value is not None}


def facts(member: PagedMember) -> dict[str, object]:
    store = member.store
    standing = (store.context, store.floor, store.next_seq, store.process, store.position)
    return {"packed": dict(store.packed), "standing": standing, "sequence": member.recovery.next_sequence}


TestEngineOnAFailingDisk = EngineOnAFailingDisk.TestCase
TestEngineOnAFailingDisk.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
