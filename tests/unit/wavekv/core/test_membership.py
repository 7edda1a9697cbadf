"""Epochs and admissions: which document is in force, and which volume has to heal first (R9)."""

import pytest

from wavekv.core.membership import Epoch, Membership
from wavekv.errors import EpochConflict, StaleEpoch, StaticPeers

BOTH = ("m0", "m1")


def member(epoch: Epoch | None, healed_epoch: int | None = None, peers: tuple[str, ...] = ()) -> Membership:
    return Membership("m0", None, epoch, peers, healed_epoch)


def told(number: int, members: tuple[str, ...] = BOTH, bootstrap: bool = False, **admitted: int) -> Epoch:
    return Epoch(number, members, bootstrap, dict.fromkeys(members, 1) | admitted)


def test_a_peer_s_epoch_keeps_known_admissions_and_admits_new_names_with_its_own_number() -> None:
    known = member(told(3, ("m0", "m2"), m0=2, m2=3))
    assert known.learn(Epoch(5, BOTH))
    assert known.epoch == Epoch(5, BOTH, False, {"m0": 2, "m1": 5}, inferred=True)


def test_a_member_left_out_and_named_again_counts_as_admitted_by_that_epoch() -> None:
    left = member(told(3), healed_epoch=1)
    left.learn(Epoch(4, ("m1",)))
    assert (left.included(), left.admission(), left.must_heal()) == (False, 0, False)
    assert not left.speaks_to("m1")
    left.learn(Epoch(6, BOTH))
    assert (left.included(), left.admission(), left.must_heal()) == (True, 6, True)
    left.healed()
    assert not left.must_heal()


@pytest.mark.parametrize(
    ("epoch", "healed_epoch", "must_heal"),
    [
        (told(1, bootstrap=True), None, False),
        (told(1, bootstrap=True), 0, True),
        (told(2), None, True),
        (told(2), 1, False),
        (told(5, m0=5), 4, True),
        (told(5, m0=5), 5, False),
        (told(5, m0=4), 5, False),
        (told(2, ("m0",)), None, False),
        (told(2, ("m1",)), None, False),
        (None, None, False),
        (None, 0, True),
    ],
)
def test_a_volume_heals_that_was_admitted_after_it_last_healed_unless_there_is_nobody_to_heal_from(
    epoch: Epoch | None, healed_epoch: int | None, must_heal: bool
) -> None:
    assert member(epoch, healed_epoch, peers=("m1",)).must_heal() is must_heal


def test_damage_voids_what_a_volume_had_healed_for() -> None:
    damaged = member(told(2), healed_epoch=1)
    damaged.distrust()
    assert damaged.must_heal()


def test_a_pushed_document_is_taken_when_it_is_newer_and_once() -> None:
    known = member(told(3))
    assert known.take(told(4, m0=4))
    assert not known.take(told(4, m0=4))
    assert not known.take(Epoch(4, BOTH)), "a document without admissions says nothing against the known ones"
    assert known.admission() == 4


@pytest.mark.parametrize(
    ("pushed", "error"),
    [
        (told(2), StaleEpoch),
        (told(3, ("m0",)), EpochConflict),
        (told(3, m1=3), EpochConflict),
        (told(3, bootstrap=True), EpochConflict),
    ],
)
def test_an_older_or_contradicting_document_is_refused(pushed: Epoch, error: type[Exception]) -> None:
    known = member(told(3))
    with pytest.raises(error):
        known.take(pushed)
    assert known.epoch == told(3)


def test_a_document_completes_what_was_concluded_from_a_peer_s_message() -> None:
    known = member(told(3), healed_epoch=1)
    known.learn(Epoch(6, BOTH))
    assert not known.must_heal(), "that it was removed in between was never heard"
    assert known.take(told(6, m0=5))
    assert known.must_heal()
    with pytest.raises(EpochConflict):
        known.take(told(6, m0=4))


def test_a_member_with_static_peers_takes_no_document() -> None:
    with pytest.raises(StaticPeers, match="--membership"):
        member(None, peers=("m1",)).take(told(1))


def test_members_that_are_looked_for_are_never_known_to_be_all_of_them_but_an_epoch_s_are() -> None:
    looking = Membership("m0", None, None, (), None, discovers=True)
    assert (looking.complete, looking.others(), looking.has_others()) == (False, (), True), "nobody looked yet"
    looking.discovered(["m1", "10.0.0.3:7072"])
    assert (looking.complete, looking.others(), looking.has_others()) == (False, ("m1", "10.0.0.3:7072"), True)
    looking.discovered(["m0"])
    assert (looking.complete, looking.others(), looking.has_others()) == (False, (), False)
    governed = Membership("m0", None, told(3), (), None, discovers=True)
    governed.discovered(["m7"])
    assert (governed.complete, governed.others()) == (True, ("m1",))
    assert member(None, peers=("m1",)).complete


def test_a_damaged_volume_heals_first_while_it_is_not_known_that_nobody_is_there() -> None:
    looking = Membership("m0", None, None, (), 0, discovers=True)
    assert looking.must_heal()
    looking.discovered([])
    assert not looking.must_heal()
