"""Sessions and durability over real processes: read your writes anywhere (G6), durable elsewhere (G2)."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually

SESSION = "Wavekv-Session"


def session_of(answer: Answer) -> str:
    assert answer.status in {200, 201}, answer
    return answer.headers[SESSION]


def ask(member: MemberProcess, method: str, path: str, session: str = "", body: bytes | None = None) -> Answer:
    headers = {SESSION: session} if session else {}
    if path.startswith(("/v1/batch", "/v1/multi-get")):
        headers["Content-Type"] = "application/json"
    return member.request(method, path, body, headers)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


# ---- sessions ------------------------------------------------------------------------------------------------------


def test_a_client_reads_what_it_wrote_on_whichever_member_it_asks_next(three: Cluster) -> None:
    for number in range(30):
        writer, reader = three[number % 3], three[(number + 1 + number // 3 % 2) % 3]
        assert writer is not reader
        value = b"%d" % number
        token = session_of(writer.put("k", value))
        answer = ask(reader, "GET", "/v1/kv/k", token)
        assert (answer.status, answer.body) == (200, value)
    token = session_of(three[0].delete("k"))
    assert ask(three[1], "GET", "/v1/kv/k", token).status == 404
    assert ask(three[2], "HEAD", "/v1/kv/k", token).status == 404


def test_every_kind_of_read_waits_and_tokens_of_several_members_join(three: Cluster) -> None:
    batch = {"operations": [{"op": "put", "key": f"b{number}", "value": "1"} for number in range(50)]}
    tokens = [
        session_of(ask(three[0], "POST", "/v1/batch", body=json.dumps(batch).encode())),
        session_of(three[1].put("c", b"2")),
    ]
    keys = [f"b{number}" for number in range(50)] + ["c"]
    session = ",".join(tokens)
    listed = ask(three[2], "GET", "/v1/kv?limit=100&keys_only=true", session).json()
    assert [entry["key"] for entry in listed["entries"]] == sorted(keys)
    token = session_of(ask(three[0], "PUT", "/v1/kv/d", session, b"3"))
    got = ask(three[1], "POST", "/v1/multi-get", f"{session},{token}", json.dumps({"keys": [*keys, "d"]}).encode())
    assert got.json()["missing"] == []
    token = session_of(three[2].put("d", b"4"))
    held = ask(three[0], "GET", "/v1/explain/d", token).json()["held"]
    assert (held["value_bytes"], held["origin"]) == (1, int(token.split(".")[0]))


def test_a_conditional_write_elsewhere_meets_what_the_session_wrote(three: Cluster) -> None:
    for number in range(10):
        token = session_of(three[0].put(f"k{number}", b"1"))
        headers = {SESSION: token, "If-None-Match": "*"}
        answer = three[1].request("PUT", f"/v1/kv/k{number}", b"2", headers)
        assert code(answer) == (412, "precondition_failed")
        assert three[2].request("DELETE", f"/v1/kv/k{number}", None, {SESSION: token}).status == 200


def test_a_session_that_nobody_wrote_ends_in_time_and_says_how_far_it_got(three: Cluster) -> None:
    token = session_of(three[0].put("k", b"1"))
    origin, seq = token.split(".")
    answer = ask(three[1], "GET", "/v1/kv/k?timeout=0.2", f"{origin}.{seq}-{int(seq) + 5}")
    assert code(answer) == (504, "coverage_timeout")
    assert (answer.json()["covered"], answer.json()["missing"]) == (token, f"{origin}.{int(seq) + 1}-{int(seq) + 5}")
    assert three[1].status()["waiting"] == {"sessions": 0, "spreads": 0}


def test_a_reader_that_leaves_waits_no_more(three: Cluster) -> None:
    with socket.create_connection(("127.0.0.1", three[0].http)) as client:
        client.sendall(b"GET /v1/kv/k?timeout=60 HTTP/1.1\r\nHost: localhost\r\nWavekv-Session: 77.1\r\n\r\n")
        eventually(lambda: three[0].status()["waiting"]["sessions"] == 1, 10, "the reader waits")
        assert "wavekv_waiting_sessions 1.0" in three[0].scrape()
    eventually(lambda: three[0].status()["waiting"]["sessions"] == 0, 10, "nobody waits")
    assert "failed unexpectedly" not in three[0].log


def test_sessions_outlive_the_writer_and_its_restart(three: Cluster) -> None:
    token = session_of(three[0].request("PUT", "/v1/kv/k?durability=2", b"1"))
    three[0].kill()
    for reader in (three[1], three[2]):
        assert ask(reader, "GET", "/v1/kv/k", token).body == b"1"
    three[0].start().wait_ready()
    assert ask(three[0], "GET", "/v1/kv/k", token).body == b"1"


# ---- durability ----------------------------------------------------------------------------------------------------


def test_a_write_on_all_members_is_read_from_each_at_once_and_survives_its_own(three: Cluster) -> None:
    for number in range(10):
        answer = three[0].request("PUT", f"/v1/kv/k{number}?durability=all", b"%d" % number)
        assert answer.status == 201
        assert [three[index].get(f"k{number}") for index in (1, 2)] == [b"%d" % number] * 2
    three[0].kill()
    three[1].kill()
    three[1].start().wait_ready()
    assert [three[1].get(f"k{number}") for number in range(10)] == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize("store", ["", "ephemeral/"])
def test_a_member_that_does_not_answer_is_not_counted_and_the_write_stays(three: Cluster, store: str) -> None:
    path = f"/v1/{store}kv/k"
    three[2].pause()
    try:
        assert three[0].request("PUT", f"{path}?durability=2", b"1").status == 201
        late = three[0].request("PUT", f"{path}?durability=all&timeout=0.5", b"2")
        assert code(late) == (504, "durability_timeout")
        assert late.json()["durable_on"] == ["m0", "m1"]
        assert {name.lower() for name in late.headers} >= {"etag"}
        assert ask(three[1], "GET", path, late.headers[SESSION]).body == b"2"
    finally:
        three[2].resume()
    assert ask(three[2], "GET", f"{path}?timeout=30", late.headers[SESSION]).body == b"2"
    assert three[0].request("DELETE", f"{path}?durability=all&timeout=30").status == 200
    assert three[2].request("GET", path).status == 404


def test_more_members_than_there_are_is_refused_and_nothing_is_stored(three: Cluster) -> None:
    assert code(three[0].request("PUT", "/v1/kv/k?durability=4", b"1")) == (400, "durability_impossible")
    assert three[0].get("k") is None


def test_a_redis_client_waits_with_wait(three: Cluster) -> None:
    redis = pytest.importorskip("redis")
    with redis.Redis(port=three[0].resp, single_connection_client=True) as client:
        for number in range(5):
            client.set("k", number)
            assert client.wait(2, 10_000) == 2
            assert [three[index].get("k") for index in (1, 2)] == [b"%d" % number] * 2
        three[2].pause()
        try:
            client.set("k", "x")
            assert client.wait(2, 300) == 1
        finally:
            three[2].resume()


# ---- the command line ----------------------------------------------------------------------------------------------


def wavekv(member: MemberProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "wavekv", *words, "--socket", str(member.socket)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_hands_sessions_on_over_the_unix_socket(three: Cluster) -> None:
    put = wavekv(three[0], "put", "k", "1", "--json", "--durability", "2")
    assert put.returncode == 0, put.stderr
    told = json.loads(put.stdout)
    assert wavekv(three[1], "get", "k", "--session", told["session"]).stdout == "1"
    deleted = json.loads(wavekv(three[1], "delete", "k", "--json", "--session", told["session"]).stdout)
    session = f"{told['session']},{deleted['session']}"
    assert wavekv(three[2], "list", "--session", session).stdout == ""
    explained = wavekv(three[2], "explain", "k", "--json", "--session", session)
    held = json.loads(explained.stdout)["held"]
    assert held is None or held["deleted"]  # collected by then, or not
    for words, exit_code, ends in (
        (("get", "k", "--session", "9.1", "--timeout", "0.1"), 1, "[coverage_timeout]"),
        (("get", "k", "--session", "x"), 1, "[invalid_session]"),
        (("put", "k", "1", "--durability", "9"), 1, "[durability_impossible]"),
    ):
        refused = wavekv(three[0], *words)
        assert (refused.returncode, refused.stderr.strip().endswith(ends)) == (exit_code, True), refused.stderr


# ---- told, not guessed ---------------------------------------------------------------------------------------------


def test_members_tell_how_long_each_peer_takes_and_how_its_clock_is(three: Cluster) -> None:
    def told() -> bool:
        return all(
            peer["propagation_seconds"] is not None and peer["clock_skew_ms"] is not None
            for member in three.members
            for peer in member.status()["peers"]
        )

    eventually(told, 20, "each member tells of each peer")
    scraped = three[0].scrape()
    for name in ("m1", "m2"):
        assert f'wavekv_peer_propagation_seconds_count{{peer="{name}"}}' in scraped
        assert f'wavekv_peer_clock_skew_seconds{{peer="{name}"}}' in scraped
    assert three[0].request("GET", "/v1/ephemeral/kv").json()["entries"] == []
    status = three[0].status()
    assert (status["ephemeral"]["live"], status["ephemeral"]["entries"]) == (0, 0)
    assert status["clock"]["ahead"] is False
    assert abs(status["clock"]["ahead_of_peers_ms"]) < 60_000
