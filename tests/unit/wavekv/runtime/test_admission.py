"""A member's standing: what a start makes of directory, document and flags, and what is durable when."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavekv.config import PeerAddress
from wavekv.core.membership import EPOCH_JUMP_MAX, EPOCH_MAX, Epoch, Overridden
from wavekv.errors import (
    DiskFailed,
    DiskFull,
    EpochConflict,
    ForeignCluster,
    StaleEpoch,
    StaticPeers,
    WaveKVError,
)
from wavekv.runtime.admission import Admission, open_admission
from wavekv.runtime.epoch_file import EpochDocument, EpochFile, Kept, parse_document
from wavekv.runtime.mounted_epoch import MountedEpoch

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
BOTH = ("a", "b")
URL = "https://{name}:7072"


def document(number: int, members: tuple[str, ...] = BOTH, bootstrap: bool = False, **admitted: int) -> EpochDocument:
    epoch = Epoch(number, members, bootstrap, dict.fromkeys(members, 1) | admitted)
    return EpochDocument(epoch, CLUSTER, URL)


def opened(folder: Path, given: EpochDocument | None, **facts: Any) -> Admission:
    settings = {"founds": False, "damaged": False, "peers": ()} | facts
    peers = settings.pop("peers")
    return open_admission("a", CLUSTER, EpochFile(folder), given, peers, **settings)


def kept(folder: Path) -> Kept:
    found = EpochFile(folder).load()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "facts", "healed_epoch"),
    [
        (document(1, bootstrap=True), {}, 1),
        (document(2), {}, None),
        (document(2), {"founds": True}, 1),
        (document(2, ("a",)), {}, 1),
        (document(2, ("b",)), {}, None),
        (document(1, bootstrap=True), {"damaged": True}, 0),
    ],
)
def test_a_new_directory_keeps_at_once_whether_it_has_to_heal(
    tmp_path: Path, given: EpochDocument, facts: dict[str, bool], healed_epoch: int | None
) -> None:
    standing = opened(tmp_path, given, **facts)
    assert kept(tmp_path) == Kept(given.epoch, URL, healed_epoch)
    assert standing.membership.must_heal() == (healed_epoch != 1 and standing.membership.included())


def test_the_newer_of_directory_and_document_is_in_force_and_brings_its_addresses(tmp_path: Path) -> None:
    opened(tmp_path, document(3))
    older = opened(tmp_path, replace(document(2, ("a", "c")), peer_url="https://{name}.old:1"))
    assert older.addresses() == (PeerAddress("a", "https://a:7072"), PeerAddress("b", "https://b:7072"))
    newer = opened(tmp_path, replace(document(4, ("a", "c")), peer_url="https://{name}.new:1"))
    assert newer.addresses()[1] == PeerAddress("c", "https://c.new:1")
    assert opened(tmp_path, None).membership.members() == ("a", "c")


def test_damage_is_remembered_until_the_volume_has_healed(tmp_path: Path) -> None:
    opened(tmp_path, document(1, bootstrap=True))
    opened(tmp_path, document(2), damaged=True)
    assert opened(tmp_path, document(2)).membership.must_heal()


async def test_a_drain_mark_is_kept_and_a_newer_admission_voids_it(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(1, bootstrap=True))
    standing.drain()
    await standing.keep()
    assert opened(tmp_path, document(2)).draining
    assert not opened(tmp_path, document(4, a=4)).draining
    assert kept(tmp_path).draining is None


async def test_a_cancelled_drain_is_kept_too(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(1, bootstrap=True))
    standing.drain()
    await standing.keep()
    standing.cancel_drain()
    await standing.keep()
    assert not opened(tmp_path, document(2)).draining


async def test_a_pushed_document_holds_at_once_and_is_kept(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(1, bootstrap=True))
    assert standing.take(document(2, ("a",)))
    assert standing.membership.others() == ()
    await standing.keep()
    assert kept(tmp_path).epoch == document(2, ("a",)).epoch
    assert not standing.take(document(2, ("a",)))


def test_a_document_of_another_cluster_or_with_other_addresses_is_refused(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(2))
    with pytest.raises(ForeignCluster):
        standing.take(replace(document(3), cluster_id="00000000-0000-4000-8000-00000000dead"))
    with pytest.raises(EpochConflict, match="peer_url"):
        standing.take(replace(document(2), peer_url="https://{name}.elsewhere:1"))


def test_flags_say_where_peers_are_before_the_document_does(tmp_path: Path) -> None:
    flags = (PeerAddress("b", "http://127.0.0.1:1"),)
    assert opened(tmp_path, document(2), peers=flags).addresses() == flags


def test_a_member_with_static_peers_keeps_nothing_and_cannot_drain(tmp_path: Path) -> None:
    standing = opened(tmp_path, None, peers=(PeerAddress("b", "http://127.0.0.1:1"),))
    assert standing.membership.others() == ("b",)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StaticPeers):
        standing.drain()


class FullFile(EpochFile):
    """Has no room until it is told."""

    full = True

    def save(self, kept: Kept) -> None:
        if self.full:
            raise DiskFull("no room")
        super().save(kept)


async def test_what_could_not_be_kept_is_kept_by_the_next_attempt(tmp_path: Path) -> None:
    file = FullFile(tmp_path)
    standing = Admission(opened(tmp_path, document(1, bootstrap=True)).membership, file, peer_url=URL)
    standing.drain()
    with pytest.raises(DiskFull):
        await standing.keep()
    file.full = False
    await standing.keep()
    assert kept(tmp_path).draining == 1


# ---- overrides, signatures, mounted documents ----------------------------------------------------------------------


def signed_document(number: int, members: tuple[str, ...] = BOTH, **more: Any) -> EpochDocument:
    raw = {"cluster_id": CLUSTER, "epoch": number, "members": list(members), "admitted": dict.fromkeys(members, 1),
           "bootstrap": False, "peer_url": URL, "signature": "c2lnbmVk", **more}  # fmt: skip
    return parse_document(raw, "a test")


def test_a_signed_document_is_kept_whole_and_handed_on_after_a_restart(tmp_path: Path) -> None:
    given = signed_document(3, note="a later version's field")
    opened(tmp_path, given)
    found = opened(tmp_path, None).membership.epoch
    assert found is not None
    assert found.signed == given.epoch.signed
    assert json.loads(found.signed or b"")["note"] == "a later version's field"


def test_a_mounted_document_far_ahead_is_not_taken_at_a_start(tmp_path: Path) -> None:
    opened(tmp_path, document(3))
    for number, taken in ((4 + EPOCH_JUMP_MAX, 3), (3 + EPOCH_JUMP_MAX, 3 + EPOCH_JUMP_MAX)):
        standing = opened(tmp_path, document(number))
        assert standing.membership.epoch == document(taken).epoch


async def test_an_override_is_durable_ends_a_drain_and_lets_the_volume_heal(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(EPOCH_MAX), founds=True)
    standing.drain()
    await standing.keep()
    assert standing.override(document(5), 77)
    await standing.keep()
    assert not standing.draining
    again = opened(tmp_path, document(4))
    assert again.membership.overridden == Overridden(5, EPOCH_MAX, 77)
    assert (again.membership.epoch, again.membership.must_heal()) == (document(5).epoch, True)
    assert not again.override(document(5), 78), "what holds is not overridden again"


async def test_an_override_that_was_not_needed_is_none(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(3), founds=True)
    assert not standing.override(document(4), 77)
    assert (standing.membership.overridden, standing.membership.must_heal()) == (None, False)


async def test_an_epoch_that_a_member_handed_on_brings_its_addresses_and_may_be_pushed_again(tmp_path: Path) -> None:
    standing = opened(tmp_path, document(3))
    elsewhere = replace(document(4), peer_url="https://{name}.new:7072")
    standing.membership.learn(elsewhere.signed_epoch(b"{}"))
    assert standing.addresses()[1] == PeerAddress("b", "https://b.new:7072")
    await standing.keep()
    assert kept(tmp_path).peer_url == "https://{name}.new:7072"
    assert not standing.take(elsewhere)


class Taker:
    """Takes documents, or refuses them."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refusal: WaveKVError | None = None
        self.failed: list[DiskFailed] = []

    async def take(self, given: EpochDocument) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(given.epoch.number)


async def test_a_mounted_document_that_changes_is_taken_once(tmp_path: Path) -> None:
    path, taker = tmp_path / "membership.json", Taker()
    path.write_text(json.dumps({"epoch": 1, "members": ["a"]}))
    mounted = MountedEpoch(path, taker.take, taker.failed.append)
    await mounted.look()
    assert taker.taken == []
    for number in (2, 3):
        path.with_suffix(".tmp").write_text(json.dumps({"epoch": number, "members": ["a"]}))
        path.with_suffix(".tmp").replace(path)
        await mounted.look()
        await mounted.look()
    assert taker.taken == [2, 3]


@pytest.mark.parametrize(
    ("refusal", "level", "again"),
    [
        (StaleEpoch("older"), None, False),
        (EpochConflict("another"), "WARNING", False),
        (DiskFull("full"), None, True),
        (DiskFailed("gone"), None, False),
    ],
)
async def test_a_mounted_document_that_cannot_be_taken_is_told_once_and_kept_for_later_where_there_was_no_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, refusal: WaveKVError, level: str | None, again: bool
) -> None:
    path, taker = tmp_path / "membership.json", Taker()
    mounted = MountedEpoch(path, taker.take, taker.failed.append)
    path.write_text(json.dumps({"epoch": 2, "members": ["a"]}))
    taker.refusal = refusal
    for _ in range(2):
        await mounted.look()
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert taker.failed == ([refusal] if isinstance(refusal, DiskFailed) else [])
    taker.refusal = None
    await mounted.look()
    assert taker.taken == ([2] if again else [])


async def test_a_mounted_document_that_is_none_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, taker = tmp_path / "membership.json", Taker()
    mounted = MountedEpoch(path, taker.take, taker.failed.append)
    path.write_text("{")
    for _ in range(2):
        await mounted.look()
    path.unlink()
    await mounted.look()
    assert len(caplog.records) == 2
    assert taker.taken == []
