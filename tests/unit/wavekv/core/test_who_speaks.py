"""Who may pass for whom in the core's eyes: node ids that others claim, and claims of a newer process (R8)."""

from base64 import b64decode
from dataclasses import replace

import pytest

from tests.fakes.cluster import MemoryMember, answer_to, cluster, sync
from wavekv.core import exchange
from wavekv.core.membership import Epoch
from wavekv.errors import IdentityMismatch, StaleProcess

NOW = 10_000


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def test_under_an_operator_a_claimed_node_id_shuts_nobody_out_but_who_claims_the_own_one() -> None:
    names = ("m0", "m1", "m2")
    a, b, c = (MemoryMember(index, names, epoch=Epoch(1, names)) for index in range(3))
    hostile = replace(begin(c, a).request(NOW), sender_id=b.replica.identity.node_id)
    exchange.receive_request(a.replica, hostile, NOW)
    sync(b, a)
    assert a.replica.reports.of("m1") is not None
    own = replace(hostile, sender_id=a.replica.identity.node_id)
    with pytest.raises(IdentityMismatch):
        exchange.receive_request(a.replica, own, NOW)


def test_who_is_refused_as_an_older_process_is_shown_what_the_newer_one_signed() -> None:
    a, b = cluster(2)
    older = begin(a, b).request(NOW)
    a.restart()
    assert not answer_to(b, begin(a, b).request(NOW), NOW).rival, "nobody needs a claim yet"
    with pytest.raises(StaleProcess) as refused:
        exchange.receive_request(b.replica, older, NOW)
    assert refused.value.claim == ""
    sync(a, b)
    assert a.replica.reports.claim_wanted, "the newer process is asked for one"
    a.replica.reports.own_claim = b"signed"
    sync(a, b)
    with pytest.raises(StaleProcess) as refused:
        exchange.receive_request(b.replica, older, NOW)
    assert b64decode(refused.value.claim) == b"signed"
    assert refused.value.problem()["claim"] == refused.value.claim
    assert not answer_to(b, begin(a, b).request(NOW), NOW).rival
