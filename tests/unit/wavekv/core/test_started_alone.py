"""A process that finds itself alone has nobody to heal from; what comes of it once there are others (R7, R9)."""

from dataclasses import replace

from tests.fakes.cluster import MemoryMember, collect, sync, wire
from wavekv.core import exchange
from wavekv.core.membership import Epoch

NOW = 10_000


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def test_a_volume_that_started_alone_is_compared_before_it_adopts_what_others_know_beyond_it() -> None:
    names = ("m0", "m1")
    a, b = (MemoryMember(index, names, epoch=Epoch(1, names)) for index in range(2))
    for member in (a, b):
        member.replica.end_healing()
        member.commit()
    b.put("x", b"1", 100)
    sync(a, b)
    place = len(a.log)
    b.delete("x", 200)
    for requester, responder in ((a, b), (b, a), (a, b), (b, a)):
        sync(requester, responder)
    assert collect(a, NOW)
    assert collect(b, NOW)
    a.epoch = Epoch(2, ("m0",))
    a.restart(keep=place)
    assert not a.replica.healing, "there is nobody to heal from"
    assert a.value("x") == b"1"
    both = Epoch(3, names)
    for member in (a, b):
        member.replica.membership.learn(both)
        member.replica.heed_admission()
    request = replace(begin(b, a).request(NOW), since=0)
    exchange.receive_request(a.replica, wire(request), NOW)
    a.commit()
    assert a.replica.healing
    assert not a.store.context.covers(2, 2), "the delete is not covered while the value shows"
    sync(a, b)
    assert a.value("x") is None
    assert a.store.context.covers(2, 2)
    assert not a.replica.healing


def test_a_volume_that_started_alone_and_knows_all_goes_on() -> None:
    names = ("m0", "m1")
    a = MemoryMember(0, names, epoch=Epoch(1, ("m0",)))
    a.put("x", b"1", 100)
    a.restart()
    b = MemoryMember(1, names, epoch=Epoch(2, names))
    a.replica.membership.learn(Epoch(2, names))
    sync(b, a)
    sync(a, b)
    assert not a.replica.healing
    assert not b.replica.healing


def test_a_member_that_an_epoch_leaves_alone_has_healed() -> None:
    member = MemoryMember(0, ("m0", "m1"), epoch=Epoch(1, ("m0", "m1")))
    assert member.replica.healing
    member.replica.membership.learn(Epoch(2, ("m0",)))
    member.replica.heed_admission()
    member.commit()
    assert member.replica.trusted
