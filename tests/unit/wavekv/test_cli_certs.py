"""`wavekv certs`: an authority, a certificate for each name, and nothing overwritten by mistake."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from wavekv.__main__ import run
from wavekv.cli.certs import files_of, usable
from wavekv.cli.local_plan import certificates_of, plan_members
from wavekv.cli.serve import serve
from wavekv.cli.serve_settings import ServeFlags, settings_from
from wavekv.config import MemberSettings
from wavekv.errors import UsageError
from wavekv.peers.handshake import judge

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"


def make(folder: Path, *names: str, more: tuple[str, ...] = ("--cluster-id", CLUSTER)) -> int:
    return run(["certs", "--dir", str(folder), *more, *(part for name in names for part in ("--name", name))])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_name_gets_a_certificate_that_the_others_take(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    assert make(folder, "m0", "m1") == 0
    assert set(contents(folder)) == {"authority.pem", "authority.key", "m0.pem", "m0.key", "m1.pem", "m1.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    for name in ("m0", "m1"):
        names = judge(files_of(folder, name)).decoded["subjectAltName"]
        assert ("URI", f"wavekv://{CLUSTER}/member/{name}") in names
        assert ("IP Address", "127.0.0.1") in names
        assert usable(folder, CLUSTER, name)
    assert not usable(folder, "another", "m0")
    assert not usable(folder, CLUSTER, "m2")


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, MemberSettings]:
    """Return the settings that each printed command line gives, by the member's name."""
    found = {}
    for line in capsys.readouterr().out.splitlines():
        words = line.split()
        if words[:2] == ["wavekv", "serve"]:
            context = serve.make_context("serve", words[2:])
            for name in ("log_format", "log_level"):
                context.params.pop(name)
            settings = settings_from(ServeFlags(**context.params))
            found[settings.name or ""] = settings
    return found


def test_the_printed_flags_start_members_on_one_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "pki", "m0", "m1", "m2", more=()) == 0
    members = printed(capsys)
    assert set(members) == {"m0", "m1", "m2"}
    listening = {name: settings.peer_listen for name, settings in members.items()}
    taken = [
        address.port
        for s in members.values()
        for address in {*s.listen, *s.resp_listen, s.peer_listen, s.metrics_listen}
    ]
    assert len(set(taken)) == 3 * 4
    for name, settings in members.items():
        assert settings.tls is not None
        judge(settings.tls)
        assert {peer.name: peer.url for peer in settings.peers} == {
            other: f"https://127.0.0.1:{at.port}" for other, at in listening.items() if other != name
        }


def test_the_printed_flags_name_a_host_for_each_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "pki", "m0", "m1", more=("--host", "one.test", "--host", "2001:db8::2")) == 0
    members = printed(capsys)
    assert [peer.url for peer in members["m0"].peers] == ["https://[2001:db8::2]:7072"]
    assert [peer.url for peer in members["m1"].peers] == ["https://one.test:7072"]
    assert {settings.peer_listen.port for settings in members.values()} == {7072}


def test_again_it_adds_names_and_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pki"
    make(folder, "m0")
    before = contents(folder)
    capsys.readouterr()
    assert make(folder, "m0", "m1", more=()) == 0
    assert "m0: kept" in capsys.readouterr().out
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    judge(files_of(folder, "m1"))


def test_force_makes_members_anew_and_never_the_authority(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    make(folder, "m0", "m1")
    before = contents(folder)
    assert make(folder, "m0", more=("--force", "--days", "1", "--host", "m0.example.org")) == 0
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {"m0.pem", "m0.key"}
    certificate = x509.load_pem_x509_certificate(after["m0.pem"])
    assert certificate.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=1)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["m0.example.org"]


@pytest.mark.parametrize(
    ("names", "more", "told"),
    [
        (("m0",), ("--cluster-id", "no uuid"), "not a UUID"),
        (("m0",), ("--cluster-id", "00000000-0000-4000-8000-00000000dead"), "is of cluster"),
        (("authority",), (), "the authority's"),
        (("../m0",), (), "use letters"),
        (("m0",), ("--days", "0"), "--days"),
        (("m2",), ("--host", "a b\n"), "--host"),
        ((), (), "--name"),
    ],
)
def test_what_cannot_be_made_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], more: tuple[str, ...], told: str
) -> None:
    folder = tmp_path / "pki"
    make(folder, "m0")
    before = contents(folder)
    assert make(folder, *names, more=more) == 2
    assert told in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize("missing", ["m0.pem", "m0.key", "authority.pem", "authority.key"])
def test_half_a_set_is_told_and_not_completed_with_another_key(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "pki"
    make(folder, "m0")
    (folder / missing).unlink()
    before = contents(folder)
    assert make(folder, "m0", "m1") == 2
    assert {name: content for name, content in contents(folder).items() if not name.startswith("m1")} == before


def test_a_link_where_a_key_goes_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    make(folder, "m0")
    (folder / "m1.key.tmp").symlink_to(tmp_path / "elsewhere")
    assert make(folder, "m1") == 0
    assert not (tmp_path / "elsewhere").exists()
    assert not (folder / "m1.key").is_symlink()


def test_a_local_cluster_makes_its_certificates_once_and_anew_where_one_is_spoiled(tmp_path: Path) -> None:
    plans = plan_members(2, 7070, tmp_path)
    folder = certificates_of(tmp_path, CLUSTER, plans)
    before = contents(folder)
    assert certificates_of(tmp_path, CLUSTER, plans) == folder
    assert contents(folder) == before
    for spoiled in ("m0.pem", "m1.key"):
        (folder / spoiled).write_bytes(b"")
    certificates_of(tmp_path, CLUSTER, plan_members(3, 7070, tmp_path))
    for name in ("m0", "m1", "m2"):
        judge(files_of(folder, name))
    assert contents(folder)["authority.key"] == before["authority.key"]
    with pytest.raises(UsageError, match="is of cluster"):
        certificates_of(tmp_path, "00000000-0000-4000-8000-00000000dead", plans)
    (folder / "authority.pem").write_bytes(b"")
    with pytest.raises((UsageError, ssl.SSLError)):
        certificates_of(tmp_path, CLUSTER, plans)
