"""Epochs and admissions: which document is in force, and which volume has to heal first (R9)."""

from dataclasses import replace

import pytest

from tests.fakes.documents import FakeVerifier, document
from wavekv.core.membership import EPOCH_JUMP_MAX, EPOCH_MAX, Epoch, Membership, Overridden
from wavekv.core.messages import Envelope
from wavekv.errors import EpochConflict, EpochJump, IdentityMismatch, NotAMember, StaleEpoch, StaticPeers

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


# ---- what other members say ----------------------------------------------------------------------------------------


def governed(number: int = 3, healed_epoch: int | None = 1) -> tuple[Membership, FakeVerifier]:
    verifier = FakeVerifier()
    return Membership("m0", None, told(number), (), healed_epoch, verifier=verifier), verifier


def says(number: int, document: bytes | None, name: str = "m1") -> Envelope:
    return Envelope(sender_id=2, name=name, inc=1, epoch=number, members=("m1",), epoch_doc=document)


def test_an_epoch_is_learnt_from_another_member_with_the_operator_s_signature_alone() -> None:
    known, _ = governed()
    epoch = told(4, ("m0", "m1", "m2"), m2=4)
    for forged in (None, b"", b"{", document(epoch, signature="m1"), document(replace(epoch, number=5))):
        known.admit(says(4, forged))
        assert known.epoch == told(3)
    known.admit(says(4, document(epoch)))
    assert known.epoch == epoch
    assert known.epoch is not None
    assert known.epoch.signed == document(epoch), "it is handed on as it came"


def test_a_member_that_lets_itself_in_is_refused_and_one_that_the_document_lets_in_is_heard() -> None:
    known, _ = governed()
    joined = told(4, ("m0", "m1", "m2"), m2=4)
    with pytest.raises(NotAMember):
        known.admit(says(4, None, name="m2"))
    known.admit(says(4, document(joined), name="m2"))
    assert known.epoch == joined


@pytest.mark.parametrize(
    ("number", "asked"),
    [(3, False), (2, False), (4, True), (3 + EPOCH_JUMP_MAX, True), (4 + EPOCH_JUMP_MAX, False), (EPOCH_MAX, False)],
)
def test_a_document_is_read_only_if_its_number_follows(number: int, asked: bool) -> None:
    known, verifier = governed()
    known.admit(says(number, document(told(number))))
    assert verifier.asked == (["m1"] if asked else [])
    assert known.epoch == (told(number) if asked else told(3))


def test_the_operator_s_numbers_follow_too_unless_it_overrides() -> None:
    known, _ = governed()
    with pytest.raises(EpochJump, match="override"):
        known.take(told(4 + EPOCH_JUMP_MAX))
    assert known.override(told(4 + EPOCH_JUMP_MAX), 77)
    assert known.overridden == Overridden(4 + EPOCH_JUMP_MAX, 3, 77)
    assert not known.must_heal(), "numbers went on: what it healed for still counts"


def test_a_smaller_number_by_override_begins_anew_and_everybody_heals() -> None:
    known, verifier = governed(EPOCH_MAX)
    with pytest.raises(StaleEpoch):
        known.take(told(5))
    assert known.override(told(5), 77)
    assert known.epoch == told(5)
    assert (known.must_heal(), known.restarts) == (True, 1)
    known.admit(says(EPOCH_MAX, document(told(EPOCH_MAX))))
    assert known.epoch == told(5), "who was not told yet does not bring the old one back"
    known.healed()
    assert not known.must_heal()
    assert known.take(told(6, ("m0", "m1", "m2"), m2=6)), "the operator goes on from there"
    assert not known.override(told(6, ("m0", "m1", "m2"), m2=6), 78), "said again it changes nothing"
    assert known.restarts == 1
    assert verifier.asked == []


def test_after_an_override_old_documents_in_reach_are_not_learnt_either() -> None:
    known, _ = governed(10)
    known.override(told(5), 77)
    for number in (6, 10):
        known.admit(says(number, document(told(number))))
        assert known.epoch == told(5)
    known.admit(says(11, document(told(11))))
    assert known.epoch == told(11)


def test_a_document_that_was_signed_anew_is_the_one_handed_on() -> None:
    known, _ = governed()
    again = replace(told(3), signed=b"by the next authority")
    assert known.take(again)
    assert known.epoch is not None
    assert known.epoch.signed == b"by the next authority"
    assert not known.take(again)
    assert not known.take(told(3)), "one without a signature takes none away"
    assert known.epoch.signed == b"by the next authority"


# ---- configured peers ----------------------------------------------------------------------------------------------


def configured(*crates: str) -> Membership:
    return Membership("m0", None, None, ("m1", *crates), crates=crates)


def unnamed(node_id: int, crate: str | None = None) -> Envelope:
    return Envelope(sender_id=node_id, crate=crate)


@pytest.mark.parametrize(("name", "served"), [("m1", True), ("m0", True), ("m2", False), ("c0", False), ("", False)])
def test_with_static_peers_those_that_are_configured_are_served(name: str, served: bool) -> None:
    message = Envelope(sender_id=2, name=name, inc=1)
    if served:
        configured("c0").admit(message)
        return
    with pytest.raises(NotAMember, match="--peer"):
        configured("c0").admit(message)


def test_peers_that_are_looked_for_need_no_configuration() -> None:
    looking = Membership("m0", None, None, (), None, discovers=True)
    looking.admit(Envelope(sender_id=2, name="m7", inc=1))
    with pytest.raises(NotAMember):
        looking.admit(unnamed(7))


def test_a_sender_without_a_name_is_served_where_nodes_of_the_original_system_are_configured() -> None:
    with pytest.raises(NotAMember, match="--crate-peer"):
        configured().admit(unnamed(7))
    with pytest.raises(NotAMember):
        member(told(3)).admit(unnamed(7))
    known = configured("c0", "c1")
    for _ in range(2):
        known.admit(unnamed(7))
        known.admit(unnamed(8))
    with pytest.raises(NotAMember, match="more than"):
        known.admit(unnamed(9))
    assert known.has_crates


def test_a_node_id_is_bound_to_the_name_it_was_heard_under() -> None:
    known = configured("c0", "c1")
    known.admit(unnamed(7, "c0"))
    known.admit(unnamed(7))
    for node_id, name in ((8, "c0"), (7, "c1")):
        with pytest.raises(IdentityMismatch):
            known.admit(unnamed(node_id, name))
    known.admit(unnamed(8))
    known.admit(unnamed(8, "c1"))
    with pytest.raises(NotAMember):
        known.admit(unnamed(9))
