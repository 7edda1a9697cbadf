"""The flags of `wavekv serve`: what they become, and which are refused together."""

import os
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.pki import Authority
from wavekv.__main__ import run
from wavekv.cli.serve import _without_system_authorities, serve
from wavekv.cli.serve_settings import ServeFlags, settings_from
from wavekv.config import Address, MemberSettings, PeerAddress, TlsFiles
from wavekv.errors import UsageError

DATA = Path("data")
TLS = {"tls_cert": Path("c"), "tls_key": Path("k"), "tls_ca": Path("a")}


def settings(**flags: Any) -> MemberSettings:
    return settings_from(ServeFlags(data_dir=DATA, **flags))


def refusal(**flags: Any) -> str:
    with pytest.raises(UsageError) as caught:
        settings(**flags)
    return caught.value.detail


def test_without_flags_all_is_as_documented() -> None:
    assert settings() == MemberSettings(data_dir=DATA)


def test_a_given_address_replaces_the_defaults() -> None:
    assert settings(listen=("127.0.0.1:1",)).listen == (Address("127.0.0.1", 1),)
    assert settings(resp_listen=("[::1]:2", "localhost:3")).resp_listen == (Address("::1", 2), Address("localhost", 3))
    assert settings(metrics_listen=":4").metrics_listen == Address("", 4)


def trusted_by_default() -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()
    return context.cert_store_stats()["x509_ca"]


@pytest.mark.parametrize("named", [True, False])
def test_while_the_engine_is_loaded_no_authority_is_read_and_afterwards_all_is_as_before(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if named:
        monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).file))
    before, environment = trusted_by_default(), dict(os.environ)
    assert before == 1 or not named
    with _without_system_authorities():
        assert trusted_by_default() == 0
    assert trusted_by_default() == before
    assert dict(os.environ) == environment


def test_none_switches_the_redis_plane_off() -> None:
    assert settings(resp_listen=("none",)).resp_listen == ()
    assert "drop" in refusal(resp_listen=("none", "127.0.0.1:1"))


@pytest.mark.parametrize("flag", ["listen", "resp_listen"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "example.org", ""])
def test_the_data_planes_listen_on_loopback_alone(flag: str, host: str) -> None:
    assert "loopback" in refusal(**{flag: (f"{host}:7070",)})


def test_insecure_peers_move_the_peer_plane_to_loopback() -> None:
    assert settings(insecure_peers=True).peer_listen == Address("127.0.0.1", 7072)
    assert settings(insecure_peers=True, peer_listen="[::1]:9").peer_listen == Address("::1", 9)
    assert "loopback" in refusal(insecure_peers=True, peer_listen="0.0.0.0:7072")


def test_tls_lets_the_peer_plane_listen_everywhere() -> None:
    secure = settings(**TLS, peer_listen="0.0.0.0:9")
    assert (secure.peer_listen, secure.tls) == (Address("0.0.0.0", 9), TlsFiles(Path("c"), Path("k"), Path("a")))
    assert settings(**TLS).peer_listen == Address("", 7072)


@pytest.mark.parametrize("missing", TLS)
def test_two_tls_files_of_three_are_refused_naming_the_third(missing: str) -> None:
    given = {name: path for name, path in TLS.items() if name != missing}
    assert "--" + missing.replace("_", "-") in refusal(**given)


@pytest.mark.parametrize("one", TLS)
def test_tls_and_insecure_peers_exclude_each_other(one: str) -> None:
    assert "exclude" in refusal(insecure_peers=True, **{one: TLS[one]})


@pytest.mark.parametrize(
    "flags",
    [
        {"peer": ("a=http://127.0.0.1:1",)},
        {"membership": Path("m")},
        {"discover_dns": "peers.example:7072"},
        {"peer_listen": "127.0.0.1:7072"},
    ],
)
def test_what_needs_the_peer_plane_needs_tls_or_insecure_peers(flags: dict[str, Any]) -> None:
    said = refusal(**flags)
    assert "--insecure-peers" in said
    assert said.startswith("--" + next(iter(flags)).replace("_", "-"))


def test_peers_keep_their_order_and_lose_a_trailing_slash() -> None:
    given = settings(insecure_peers=True, peer=("b=http://127.0.0.1:1/", "a=http://[::1]:2"))
    assert given.peers == (PeerAddress("b", "http://127.0.0.1:1"), PeerAddress("a", "http://[::1]:2"))
    assert settings(**TLS, peer=("a=https://a.peers:1",)).peers == (PeerAddress("a", "https://a.peers:1"),)


@pytest.mark.parametrize(
    "peer",
    [
        "http://127.0.0.1:1",
        "=http://127.0.0.1:1",
        "a b=http://127.0.0.1:1",
        "a=127.0.0.1:1",
        "a=ftp://127.0.0.1:1",
        "a=http://",
        "a=http://127.0.0.1:65536",
        "a=http://127.0.0.1:0",
        "a=http://[::1",
        "a=http://u@127.0.0.1:1",
        "a=http://127.0.0.1:1?x=1",
        "a=http://127.0.0.1:1#x",
        "a=https://127.0.0.1:1",
        "a=http://10.0.0.1:1",
    ],
)
def test_a_peer_that_cannot_be_asked_is_refused(peer: str) -> None:
    assert "--peer" in refusal(insecure_peers=True, peer=(peer,))


def test_plain_http_to_a_peer_is_refused_with_tls() -> None:
    assert "https alone" in refusal(**TLS, peer=("a=http://127.0.0.1:1",))


def test_peer_names_are_distinct_and_not_our_own() -> None:
    twice = ("a=http://127.0.0.1:1", "a=http://127.0.0.1:2")
    assert "twice" in refusal(insecure_peers=True, peer=twice)
    assert "own" in refusal(insecure_peers=True, name="a", peer=twice[:1])


@pytest.mark.parametrize("node_id", [1, 2**32 - 1])
def test_the_least_and_the_greatest_node_id_are_taken(node_id: int) -> None:
    assert settings(node_id=node_id).node_id == node_id


@pytest.mark.parametrize("node_id", [0, -1, 2**32])
def test_a_node_id_outside_u32_is_refused(node_id: int) -> None:
    assert "--node-id" in refusal(node_id=node_id)


def test_a_cluster_id_is_a_uuid_and_spelled_one_way() -> None:
    assert settings(cluster_id="0123456789ABCDEF0123456789ABCDEF").cluster_id == "01234567-89ab-cdef-0123-456789abcdef"
    assert "UUID" in refusal(cluster_id="mine")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/", "a" * 254])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert "--name" in refusal(name=name)


def test_a_socket_path_is_taken_at_107_bytes_and_refused_at_108() -> None:
    assert settings(socket=Path("s" * 107)).socket == Path("s" * 107)
    assert "--socket" in refusal(socket=Path("s" * 108))
    default = ServeFlags(data_dir=Path("d" * (108 - len("/wavekv.sock"))))
    with pytest.raises(UsageError, match="--socket"):
        settings_from(default)


def test_interval_and_sync_mode_reach_their_settings() -> None:
    given = settings(gossip_interval_ms=1, fsync_mode="adaptive")
    assert (given.gossip.interval_ms, given.wal.fsync_mode) == (1, "adaptive")
    assert "at least 1" in refusal(gossip_interval_ms=0)


def test_every_flag_has_its_variable() -> None:
    for option in serve.params:
        assert option.envvar == "WAVEKV_" + str(option.name).upper()


@pytest.mark.parametrize("listed", ["a=http://127.0.0.1:1,b=https://x:2", "a=http://127.0.0.1:1 b=https://x:2"])
def test_a_variable_holds_several_peers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listed: str
) -> None:
    monkeypatch.setenv("WAVEKV_PEER", listed)
    monkeypatch.setenv("WAVEKV_INSECURE_PEERS", "true")
    monkeypatch.setenv("WAVEKV_DATA_DIR", "data")
    assert run(["serve"]) == 2
    # The second one is what is wrong, so both were read.
    assert re.search(r"--peer 'b=https://x:2'.*\[usage\]", capsys.readouterr().err)


def test_a_name_in_dns_goes_with_the_port_of_the_peer_plane_unless_it_has_its_own() -> None:
    assert settings(**TLS, discover_dns="p.example").discover_dns == Address("p.example", 7072)
    assert settings(**TLS, discover_dns="p.example", peer_listen=":9").discover_dns == Address("p.example", 9)
    assert settings(**TLS, discover_dns="p.example.:8", peer_listen=":9").discover_dns == Address("p.example.", 8)


@pytest.mark.parametrize("text", ["", ":1", "a b", "p:0", "p:65536", "p:x", "[::1]:7072", "https://p"])
def test_what_is_no_name_in_dns_is_refused(text: str) -> None:
    assert "NAME or NAME:PORT" in refusal(**TLS, discover_dns=text)


def test_peers_are_named_or_discovered() -> None:
    assert "--peer" in refusal(insecure_peers=True, discover_dns="p", peer=("a=http://127.0.0.1:1",))
