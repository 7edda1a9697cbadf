"""Clocks that disagree: a member far ahead of its peers takes no writes; entries from the future are named."""

import time
from pathlib import Path

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually, fetch
from wavekv.core.codec.envelope import pack
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry

PEER = {"sender_id": 77, "sender_uuid": bytes(15) + b"\1", "name": "m1", "inc": 1}


def now_ms() -> int:
    return int(time.time() * 1000)


def speak(member: MemberProcess, clock_ms: int, plane: str = "sync2", entries: tuple[Entry, ...] = ()) -> Answer:
    """Let the peer say something at its clock."""
    message = Envelope(**PEER, now_ms=clock_ms, entries=entries, push_only=True)  # type: ignore[arg-type]
    headers = {"Content-Type": "application/x-msgpack-gz"}
    return fetch(member.peer, "POST", f"/wavekv/{plane}/persistent", pack(message), headers)


def test_a_member_far_ahead_of_its_peers_refuses_writes_until_they_agree(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as cluster:  # m1 is played by the test
        member = cluster[0].start().wait_ready(30)

        def refused(ahead_ms: int) -> bool:
            assert speak(member, now_ms() - ahead_ms).status == 200
            answer = member.request("PUT", "/v1/kv/k", b"v")
            return answer.status == 503 and answer.json()["code"] == "clock_ahead"

        assert not refused(140_000)
        eventually(lambda: refused(200_000), 10, "writes are refused")
        status = member.status()
        assert status["clock"]["ahead"] is True
        assert 190_000 < status["clock"]["ahead_of_peers_ms"] < 260_000
        assert (status["ready"], status["phase"]) == (True, "serving")
        assert fetch(member.metrics, "GET", "/readyz").status == 200
        assert "wavekv_clock_ahead 1.0" in member.scrape()
        assert member.request("GET", "/v1/kv/k").status == 200
        eventually(lambda: not refused(0), 10, "writes are taken again")
        assert member.status()["clock"]["ahead"] is False


def test_an_entry_from_the_future_is_refused_counted_and_named(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as cluster:
        member = cluster[0].start().wait_ready(30)
        ahead = Entry("tomorrow", b"v", now_ms() + 400_000, 77, 1)
        near = Entry("soon", b"v", now_ms() + 200_000, 77, 2)
        assert speak(member, now_ms(), "push", (ahead, near)).status == 200
        assert (member.get("tomorrow"), member.get("soon")) == (None, b"v")
        last = member.status()["last_refused"]
        assert (last["code"], last["key"], last["sender"]) == ("future_timestamp", "tomorrow", "m1")
        assert 'wavekv_refused_entries_total{code="future_timestamp"} 1.0' in member.scrape()
        assert "of m1, key 'tomorrow', stamped" in member.log
