"""When local writes are taken, what the probes say, and how often peers that do not answer are asked."""

import asyncio
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fakes.cluster import LIMITS, MemoryMember
from tests.fakes.key_values import FakeClock, Operations
from tests.fakes.peers import DeadTransport
from tests.fakes.syncing import HeldSyncing
from wavekv.config import GossipSettings, PeerAddress
from wavekv.core.membership import Epoch
from wavekv.core.steps import Group
from wavekv.errors import DiskFull, Superseded, WaveKVError
from wavekv.runtime.admission import Admission
from wavekv.runtime.committer import Committer
from wavekv.runtime.epoch_file import EpochFile, Kept
from wavekv.runtime.gossip import ASKED_MAX, Gossip
from wavekv.runtime.link import Link
from wavekv.runtime.readiness import Readiness

NAMES = ("m0", "m1")
PEER = PeerAddress("m1", "http://m1")
WAIT_SECONDS = 3.0


class FlakyFile(EpochFile):
    """Has no room while `full`."""

    full = False

    def save(self, kept: Kept) -> None:
        if self.full:
            raise DiskFull("no room")
        super().save(kept)


class Bench:
    """A member whose peers never answer."""

    def __init__(
        self,
        folder: Path,
        epoch: Epoch,
        healed_epoch: int | None,
        peers: tuple[PeerAddress, ...],
        *,
        empty: bool = False,
    ) -> None:
        self.replica = MemoryMember(0, NAMES, epoch=epoch).replica
        self.membership = self.replica.membership
        self.membership.healed_epoch = healed_epoch
        self.file = FlakyFile(folder)
        self.admission = Admission(self.membership, self.file)
        self.clock = FakeClock()
        self.transport = DeadTransport()
        self.gossip = Gossip(
            self.replica,
            Committer(self.replica, HeldSyncing(), self.nothing),
            self.transport,
            clock=self.clock,
            observer=Operations(),
            settings=GossipSettings(),
            limits=LIMITS,
            rng=random.Random(1),
            on_round=self.nothing,
            keep_epoch=self.admission.keep,
            on_superseded=self.none,
        )
        self.gossip.connect(peers)
        self.readiness = Readiness(
            self.replica, self.admission, self.gossip, self.clock, wait_seconds=WAIT_SECONDS, empty=empty
        )

    def nothing(self, _event: Group | Link) -> None: ...

    def none(self) -> None: ...

    def heal(self) -> None:
        self.replica.end_healing()
        self.readiness.round_ended()

    def says(self) -> tuple[bool, str, str | None]:
        """Ready or not, the word the probe begins with, and the code a write is refused with."""
        phase = self.readiness.phase()
        try:
            self.replica.put("k", b"v", 100)
        except WaveKVError as error:
            return phase.ready, phase.reason.partition(":")[0], error.code
        return phase.ready, phase.reason.partition(":")[0], None


SERVING = (True, "serving", None)
JOINING = (False, "joining", "starting")
DRAINING = (False, "draining", "draining")
REMOVED = (False, "removed", "removed")
STOPPING = (False, "stopping", "stopping")


@asynccontextmanager
async def running(
    folder: Path,
    epoch: Epoch,
    healed_epoch: int | None = 1,
    peers: tuple[PeerAddress, ...] = (PEER,),
    *,
    empty: bool = False,
) -> AsyncIterator[Bench]:
    bench = Bench(folder, epoch.following(None), healed_epoch, peers, empty=empty)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    task = asyncio.get_running_loop().create_task(bench.readiness.run())
    try:
        await settled()
        yield bench
    finally:
        task.cancel()
        await bench.gossip.stop()


async def settled() -> None:
    """Let the loop's tasks, and the one thread that keeps the standing in turn, come to rest."""
    for _ in range(5):
        await asyncio.to_thread(int)
        for _ in range(10):
            await asyncio.sleep(0)


FOUNDED = Epoch(1, NAMES, admitted={"m0": 1, "m1": 1})


async def test_a_plain_restart_serves_after_its_first_round(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        assert bench.says() == JOINING
        bench.readiness.round_ended()
        await settled()
        assert bench.says() == SERVING


async def test_a_plain_restart_serves_after_a_bounded_wait_though_nobody_answers(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        for seconds, says in ((WAIT_SECONDS - 0.1, JOINING), (WAIT_SECONDS, SERVING)):
            bench.clock.seconds = seconds
            bench.readiness.standing_changed()
            await settled()
            assert bench.says() == says


async def test_an_empty_volume_that_is_being_filled_waits_for_more_and_no_longer(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED, empty=True) as bench:
        bench.gossip._fetched_from = bench.gossip.links[PEER.name]
        for turn in range(1, 4):
            bench.clock.seconds = turn * WAIT_SECONDS
            bench.readiness.standing_changed()
            await settled()
            assert bench.says() == JOINING
        bench.gossip._fetched_from = None
        bench.readiness.standing_changed()
        await settled()
        assert bench.says() == JOINING, "there may be another peer to go on with"
        bench.clock.seconds += WAIT_SECONDS
        bench.readiness.standing_changed()
        await settled()
        assert bench.says() == SERVING


async def test_a_plain_restart_serves_after_the_wait_though_it_lags_far_behind(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.gossip._fetched_from = bench.gossip.links[PEER.name]
        bench.clock.seconds = WAIT_SECONDS
        bench.readiness.standing_changed()
        await settled()
        assert bench.says() == SERVING


async def test_without_peers_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    async with running(tmp_path, Epoch(1, ("m0",)), peers=()) as bench:
        assert bench.says() == SERVING


async def test_a_volume_that_must_heal_waits_for_that_without_bound_and_keeps_that_it_did(tmp_path: Path) -> None:
    async with running(tmp_path, Epoch(4, NAMES, admitted={"m0": 4, "m1": 1})) as bench:
        bench.clock.seconds = 1e6
        bench.readiness.round_ended()
        await settled()
        assert bench.says() == JOINING, "a round that did not heal is not enough"
        bench.heal()
        await settled()
        assert bench.says() == SERVING
        kept = bench.file.load()
        assert kept is not None
        assert kept.healed_epoch == 4


async def test_a_healed_volume_is_not_ready_before_that_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, Epoch(4, NAMES, admitted={"m0": 4, "m1": 1})) as bench:
        bench.file.full = True
        bench.heal()
        await settled()
        assert bench.says() == JOINING
        bench.file.full = False
        bench.readiness.round_ended()
        await settled()
        assert bench.says() == SERVING


async def test_a_member_is_removed_and_admitted_again_in_one_process(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.heal()
        await settled()
        assert bench.says() == SERVING
        bench.membership.learn(Epoch(2, ("m1",)))
        bench.readiness.standing_changed()
        assert bench.says() == REMOVED
        bench.membership.learn(Epoch(3, NAMES))
        bench.replica.heed_admission()
        bench.readiness.standing_changed()
        assert bench.says() == JOINING
        await settled()
        assert bench.says() == JOINING
        bench.heal()
        await settled()
        assert bench.says() == SERVING


async def test_a_drain_is_refused_at_once_and_its_end_serves_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.readiness.round_ended()
        await settled()
        bench.admission.drain()
        bench.readiness.standing_changed()
        assert bench.says() == DRAINING
        bench.admission.cancel_drain()
        bench.readiness.standing_changed()
        assert bench.says() == SERVING
        bench.readiness.stop()
        assert bench.says() == STOPPING


async def test_a_superseded_process_serves_no_more_whatever_its_standing_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.readiness.round_ended()
        await settled()
        bench.readiness.supersede(Superseded("a newer process serves"))
        assert bench.says() == (False, "superseded", "superseded")
        assert bench.readiness.phase().started
        bench.admission.drain()
        bench.readiness.standing_changed()
        assert bench.says() == (False, "superseded", "superseded")
        bench.readiness.stop()
        assert bench.says() == STOPPING


async def test_a_healing_member_asks_peers_that_failed_without_their_pause_and_others_keep_it(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.transport.asked.clear()
        for healing, asked in ((True, 1), (False, 0)):
            bench.replica.healing = healing
            bench.transport.asked.clear()
            bench.gossip.ask({"m1"})
            await settled()
            assert len(bench.transport.asked) == asked
        bench.gossip.forgive()
        bench.gossip.ask({"m2"})
        bench.gossip.ask({"m1"})
        await settled()
        assert bench.transport.asked == [PEER.url]


async def test_many_peers_are_asked_a_bounded_number_at_a_time(tmp_path: Path) -> None:
    names = tuple(f"m{index}" for index in range(ASKED_MAX + 10))
    peers = tuple(PeerAddress(name, f"http://{name}") for name in names[1:])
    bench = Bench(tmp_path, Epoch(1, names).following(None), 1, peers)
    bench.gossip.ask(names)
    bench.gossip.ask(names)
    assert sum(link.busy for link in bench.gossip.links.values()) == ASKED_MAX
    await settled()
    await bench.gossip.stop()
