"""Expiry, batches, the ephemeral store and explain, on real members that are killed and started again (G1, G3)."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually, free_ports
from tests.integration.sse import Watcher

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members that the tests of this file share, under keys of their own; each leaves all of them running."""
    with Cluster(3, tmp_path_factory.mktemp("three")) as cluster:
        yield cluster.start()


def batch(member: MemberProcess, operations: list[dict[str, object]]) -> Answer:
    return member.request("POST", "/v1/batch", json.dumps({"operations": operations}).encode(), JSON)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_value_with_a_time_to_live_is_told_and_gone_on_all_members_at_once(three: Cluster) -> None:
    answer = three[0].request("PUT", "/v1/kv/k?ttl=2.5", b"v")
    expires_at = int(answer.headers["Wavekv-Expires-At"])
    three.wait_everywhere("k", b"v", deadline=2)
    for member in three.members:
        told = member.request("HEAD", "/v1/kv/k").headers
        assert int(told["Wavekv-Expires-At"]) == expires_at
        assert 0 < float(told["Wavekv-Ttl"]) <= 2.5
        with redis.Redis(port=member.resp, socket_timeout=5) as client:
            assert 0 < client.pttl("k") <= 2500
            assert client.pexpiretime("k") == expires_at
    time.sleep(max(0, expires_at - now_ms()) / 1000)
    statuses = [member.request("GET", "/v1/kv/k").status for member in three.members]
    assert statuses == [404, 404, 404]
    for member in three.members:
        with redis.Redis(port=member.resp, socket_timeout=5) as client:
            assert client.ttl("k") == -2
        eventually(lambda told=member: told.status()["store"]["live"] == 0, 5, "the expired value is not counted")
    three[0].kill()
    three[0].start().wait_ready()
    assert three[0].get("k") is None
    assert three[1].request("PUT", "/v1/kv/k", b"anew").status == 201
    three.wait_everywhere("k", b"anew")


def test_a_watch_hears_what_other_members_write_and_what_expires(three: Cluster) -> None:
    with Watcher(three[1].http, "?prefix=p/") as watcher:
        watcher.until_synced()
        three[0].request("PUT", "/v1/kv/p%2Fk?ttl=0.7", b"v")
        three[2].put("other", b"")
        three[2].put("p%2Fl", b"")
        seen = watcher.until(lambda event: event.kind == "expire")
        assert [(event.kind, event.data["key"]) for event in seen[-1:]] == [("expire", "p/k")]
        assert {event.data["key"] for event in seen} == {"p/k", "p/l"}
        assert all(event.id is not None for event in seen)
        assert time.time_ns() // 1_000_000 >= seen[-1].data["expires_at"]
        token = watcher.token
    with Watcher(three[1].http, f"?prefix=p/&since={token}") as watcher:
        told = [(event.kind, event.data.get("key")) for event in watcher.until_synced()]
        assert told in ([("synced", None)], [("expire", "p/k"), ("synced", None)])
    with Watcher(three[0].http, f"?since={token}") as other:
        assert other.status == 410
    with Watcher(three[1].http, f"?since={token}", path="/v1/ephemeral/watch") as other:
        assert other.status == 410


SECRET = b"never-to-be-seen-on-a-disk"


def on_disk(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    return [path.name for path in files if SECRET in path.read_bytes()]


def test_the_ephemeral_store_lives_on_its_members_and_never_on_a_disk(three: Cluster) -> None:
    def value(member: MemberProcess) -> bytes | None:
        answer = member.request("GET", "/v1/ephemeral/kv/e")
        return answer.body if answer.status == 200 else None

    assert three[0].request("PUT", "/v1/ephemeral/kv/e", SECRET).status == 201
    for member in three.members:
        eventually(lambda told=member: value(told) == SECRET, 10, f"{member.name} has it")
        assert member.get("e") is None, "the two stores have nothing in common"
    three[0].kill()
    three[0].start().wait_ready()
    eventually(lambda: value(three[0]) == SECRET, 10, "the restarted member has it from the others")
    assert three[0].request("PUT", "/v1/ephemeral/kv/e", SECRET + b"2").status == 200
    for member in three.members:
        eventually(lambda told=member: value(told) == SECRET + b"2", 10, f"{member.name} has the new one")
    assert three[1].terminate() == 0
    assert on_disk(three[0].data_dir.parent) == []
    three[0].kill()
    three[2].kill()
    three.start()
    assert [value(member) for member in three.members] == [None, None, None]
    assert on_disk(three[0].data_dir.parent) == []


def test_a_time_to_live_is_refused_while_a_node_of_the_original_system_is_a_member(one: MemberProcess) -> None:
    assert one.request("PUT", "/v1/kv/before?ttl=100", b"v").status == 201
    one.terminate()
    (nowhere,) = free_ports(1)
    one.extra_args = ("--crate-peer", f"c0=http://127.0.0.1:{nowhere}")
    one.start().wait_ready()
    refused = [
        one.request("PUT", "/v1/kv/k?ttl=5", b"v"),
        one.request("PUT", "/v1/kv/before?ttl=keep", b"v"),
        batch(one, [{"op": "put", "key": "a", "value": "1"}, {"op": "put", "key": "b", "value": "1", "ttl": 5}]),
    ]
    assert [(answer.status, answer.json()["code"]) for answer in refused] == [(409, "crate_peers")] * 3
    with (
        redis.Redis(port=one.resp, socket_timeout=5) as client,
        pytest.raises(redis.ResponseError, match="crate_peers"),
    ):
        client.set("k", "v", ex=5)
    assert [one.get(key) for key in ("k", "a", "b")] == [None, None, None]
    assert one.put("k", b"for ever").status == 201


class Batches:
    """A client that writes every key anew in one batch after the other, until the member dies."""

    def __init__(self, member: MemberProcess, first: int) -> None:
        self.member = member
        self.sent = self.acknowledged = first
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            number = self.sent + 1
            operations: list[dict[str, object]] = [
                {"op": "put", "key": f"k{place:03}", "value": str(number)} for place in range(1000)
            ]
            self.sent = number
            try:
                status = batch(self.member, operations).status
            except (OSError, EOFError, ValueError):
                return
            except Exception as error:
                if type(error).__module__ == "http.client":
                    return
                raise
            assert status == 200
            self.acknowledged = number


def test_a_batch_of_a_thousand_operations_is_all_or_nothing_over_sigkill(one: MemberProcess) -> None:
    reached = 0
    for delay in (0.15, 0.4, 0.27):
        client = Batches(one, reached)
        client.thread.start()
        eventually(lambda running=client, low=reached: running.acknowledged > low, 10, "a batch is acknowledged")
        time.sleep(delay)
        one.kill()
        client.thread.join(10)
        one.start().wait_ready()
        found = one.request("GET", "/v1/kv?limit=1000").json()["entries"]
        values = Counter(entry["value"] for entry in found)
        assert len(found) == 1000
        assert len(values) == 1, "parts of two batches"
        with redis.Redis(port=one.resp, socket_timeout=5) as keys:
            reached = int(keys.get("k000"))
        assert client.acknowledged <= reached <= client.sent
    assert reached > 4, "the load was real"


def test_of_many_clients_whose_batches_create_one_key_one_does_and_the_others_store_nothing(one: MemberProcess) -> None:
    statuses: Counter[int] = Counter()

    def create(client: int) -> None:
        for step in range(10):
            operations: list[dict[str, object]] = [
                {"op": "put", "key": f"by-{step}-{client}", "value": "1"},
                {"op": "put", "key": f"one-{step}", "value": str(client), "if_none_match": "*"},
            ]
            answer = batch(one, operations)
            statuses[answer.status] += 1
            if answer.status == 412:
                assert answer.json()["operation"] == 1

    threads = [threading.Thread(target=create, args=(client,)) for client in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {200: 10, 412: 50}
    keys = [entry["key"] for entry in one.request("GET", "/v1/kv?limit=1000&keys_only=true").json()["entries"]]
    assert sorted(keys) == sorted(
        [f"one-{step}" for step in range(10)]
        + [f"by-{step}-{(one.get(f'one-{step}') or b'').decode()}" for step in range(10)]
    )


def test_explain_shows_the_loser_of_two_writes_made_apart(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as two:
        two.start()
        two[1].kill()
        lost = two[0].put("k", b"loser").headers["ETag"].strip('"')
        two[0].pause()
        two[1].start().wait_ready()
        won = two[1].put("k", b"winner").headers["ETag"].strip('"')
        two[0].resume()
        two.wait_everywhere("k", b"winner")
        told = [member.request("GET", "/v1/explain/k").json() for member in two.members]
        losses = [loss for explained in told for loss in explained["losers"]]
        assert {(loss["etag"], loss["lost_to"], loss["value_bytes"]) for loss in losses} == {(lost, won, 5)}
        assert [explained["held"]["etag"] for explained in told] == [won, won]

        def covered() -> bool:
            answers = [member.request("GET", "/v1/explain/k").json()["covered_by"] for member in two.members]
            return answers == [{"m1": True}, {"m0": True}]

        eventually(covered, 10, "each says that the other covers the winner")
        assert sum(member.status()["store"]["lost_writes"] for member in two.members) == len(losses)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_50_megabytes_is_refused_and_the_client_that_sends_all_of_it_reads_why(
    one: MemberProcess, chunked: bool
) -> None:
    one.wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", one.http, timeout=30)
    pieces = (bytes(1 << 20) for _ in range(50))
    headers = {} if chunked else {"Content-Length": str(50 << 20)}
    connection.request("PUT", "/v1/kv/large", pieces, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (413, "value_too_large")
    connection.close()
