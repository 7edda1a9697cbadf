"""A member's own key and certificate: made once, signed by others, kept, and thrown away with a copied volume."""

import hashlib
import logging
import os
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.pki import Authority, Leaf
from wavekv.config import EnrolmentFiles, TlsFiles
from wavekv.errors import BadCertificate, UsageError
from wavekv.peers.enrolment import Enrolment
from wavekv.peers.handshake import judge

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
ANOTHER = "00000000-0000-4000-8000-00000000dead"


class Site:
    """A volume, an authority, and what a member is given of it."""

    def __init__(self, folder: Path) -> None:
        self.volume = folder / "volume"
        self.volume.mkdir()
        self.authority = Authority(folder / "pki")
        self.other = Authority(folder / "other-pki")
        self.bundle = folder / "bundle.pem"
        self.token = folder / "token"
        self.trust(self.authority)

    def trust(self, *authorities: Authority) -> None:
        self.bundle.write_bytes(b"".join(authority.file.read_bytes() for authority in authorities))

    def begin(self, name: str = "m0", cluster: str = CLUSTER, volume: Path | None = None) -> Enrolment:
        return Enrolment(volume or self.volume, name, cluster, EnrolmentFiles(self.bundle, self.token))

    def sign(self, enrolment: Enrolment, authority: Authority | None = None, **changes: Any) -> str:
        request = x509.load_pem_x509_csr(enrolment.told()["request"].encode())
        assert request.is_signature_valid
        return (authority or self.authority).sign(request.public_key(), CLUSTER, "m0", **changes)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_new_volume_gets_a_key_of_its_own_and_a_request_to_sign_it(site: Site) -> None:
    enrolment = site.begin()
    told = enrolment.told()
    assert (told["name"], told["cluster_id"], told["token"]) == ("m0", CLUSTER, None)
    assert (told["not_after"], told["fingerprint"], told["certificate"]) == (None, None, None)
    request = x509.load_pem_x509_csr(told["request"].encode())
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"wavekv://{CLUSTER}/member/m0"]
    assert stat.S_IMODE(enrolment.files.key.stat().st_mode) == 0o600
    with pytest.raises(ssl.SSLCertVerificationError):
        judge(enrolment.files)


def test_a_signed_certificate_is_used_kept_and_told(site: Site) -> None:
    enrolment = site.begin()
    taken: list[bool] = []
    enrolment.on_taken = lambda: taken.append(True)
    chain = site.sign(enrolment)
    told = enrolment.take(chain)
    der = x509.load_pem_x509_certificate(chain.encode()).public_bytes(serialization.Encoding.DER)
    assert told["fingerprint"] == hashlib.sha256(der).hexdigest()
    ends = datetime.fromisoformat(told["not_after"])
    assert abs(ends - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert taken == [True]
    again = site.begin().told()
    assert (again["fingerprint"], again["certificate"]) == (told["fingerprint"], chain)
    assert sorted(path.name for path in (site.volume / "tls").iterdir()) == [
        "certificate.pem",
        "key.pem",
        "request.pem",
    ]


def refusals(site: Site, enrolment: Enrolment) -> dict[str, str]:
    """Return forged certificates by what is wrong with them."""
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    good = site.sign(enrolment)
    return {
        "another key": site.authority.sign(stranger, CLUSTER, "m0"),
        "another authority": site.sign(enrolment, site.other),
        "another name": site.sign(enrolment, uri=f"wavekv://{CLUSTER}/member/m1"),
        "another cluster": site.sign(enrolment, uri=f"wavekv://{ANOTHER}/member/m0"),
        "the operator's role": site.sign(enrolment, uri=f"wavekv://{CLUSTER}/operator"),
        "the shared form": site.sign(enrolment, uri=f"wavekv://{CLUSTER}/member"),
        "expired": site.sign(enrolment, lifetime=timedelta(hours=-1)),
        "not yet": site.sign(enrolment, begins_in=timedelta(minutes=30)),
        "a server's usage alone": site.sign(enrolment, server_only=True),
        "cut short": good[: len(good) // 2],
        "no PEM": "certificate",
        "not ASCII": good.replace("-----BEGIN", "\N{EM DASH}-----BEGIN"),
        "too long": good + "#" * (64 << 10),
        "empty": "",
    }


def test_a_certificate_that_does_not_fit_is_refused_and_changes_nothing(site: Site) -> None:
    enrolment = site.begin()
    held = enrolment.take(site.sign(enrolment))
    forged = refusals(site, enrolment)
    for what, chain in forged.items():
        with pytest.raises(BadCertificate):
            enrolment.take(chain)
        assert enrolment.told()["fingerprint"] == held["fingerprint"], what
    assert not list((site.volume / "tls").glob("*.tmp"))
    assert not (site.volume / "tls" / "offered.pem").exists()


def test_the_token_is_read_anew_and_never_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        enrolment = site.begin()
        for content in ("first-secret\n", "second-secret"):
            site.token.write_text(content)
            assert enrolment.told()["token"] == content.strip()
        site.token.write_bytes(b"\xff\xfe")
        assert enrolment.told()["token"] is None
        site.token.unlink()
        assert enrolment.told()["token"] is None
    assert "secret" not in caplog.text


def copy_of(volume: Path, target: Path) -> Path:
    shutil.copytree(volume, target)
    return target


@pytest.mark.parametrize(("name", "cluster"), [("m1", CLUSTER), ("m0", ANOTHER)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_copied_volume_under_another_name_or_cluster_makes_a_new_key(
    site: Site, tmp_path: Path, name: str, cluster: str, signed: bool
) -> None:
    first = site.begin()
    if signed:
        first.take(site.sign(first))
    second = site.begin(name, cluster, copy_of(site.volume, tmp_path / "copy"))
    assert second.files.key.read_bytes() != first.files.key.read_bytes()
    assert second.told()["request"] != first.told()["request"]
    assert second.told()["fingerprint"] is None


def test_a_restart_keeps_key_and_certificate_without_the_library_that_makes_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = site.begin()
    told = first.take(site.sign(first))
    key = first.files.key.read_bytes()
    monkeypatch.setitem(__import__("sys").modules, "wavekv.peers.keys", None)
    second = site.begin()
    assert (second.told()["fingerprint"], second.files.key.read_bytes()) == (told["fingerprint"], key)
    third = second.take(site.sign(second))
    assert third["fingerprint"] != told["fingerprint"], "renewed without it, too"


def test_an_expired_certificate_stays_in_use_and_says_so(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    enrolment = site.begin()
    enrolment.files.cert.write_text(site.sign(enrolment, lifetime=timedelta(hours=-1)))
    again = site.begin()
    told = again.told()
    assert told["certificate"] == enrolment.files.cert.read_text()
    assert datetime.fromisoformat(told["not_after"]) < datetime.now(UTC)
    assert "expired" in caplog.text


def test_a_certificate_of_an_authority_that_is_trusted_no_more_is_told_as_none(site: Site) -> None:
    enrolment = site.begin()
    enrolment.take(site.sign(enrolment))
    key = enrolment.files.key.read_bytes()
    site.trust(site.other)
    again = site.begin()
    assert (again.told()["fingerprint"], again.files.key.read_bytes()) == (None, key), "the key stays"
    again.take(site.sign(again, site.other))
    site.trust(site.authority, site.other)
    assert site.begin().told()["fingerprint"] is not None


@pytest.mark.parametrize("spoiled", ["key.pem", "certificate.pem", "request.pem"])
@pytest.mark.parametrize("how", ["missing", "empty", "link", "pipe"])
def test_what_is_no_file_of_ours_is_made_anew_and_no_link_is_followed(
    site: Site, tmp_path: Path, spoiled: str, how: str
) -> None:
    before = site.begin().told()["request"]
    elsewhere = tmp_path / "elsewhere"
    path = site.volume / "tls" / spoiled
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "link":
        path.symlink_to(elsewhere)
    elif how == "pipe":
        os.mkfifo(path)
    held = elsewhere.read_bytes()
    told = site.begin().told()
    assert told["request"] != before
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == held


def test_a_folder_that_is_a_link_is_replaced_and_not_written_through(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (site.volume / "tls").symlink_to(elsewhere)
    site.begin()
    assert list(elsewhere.iterdir()) == []
    assert not (site.volume / "tls").is_symlink()


def test_a_key_that_a_volume_s_group_may_read_is_closed_again(site: Site) -> None:
    enrolment = site.begin()
    enrolment.files.key.chmod(0o660)
    site.begin()
    assert stat.S_IMODE(enrolment.files.key.stat().st_mode) == 0o600


def test_a_bundle_that_is_missing_is_told_by_its_name(site: Site) -> None:
    site.bundle.unlink()
    with pytest.raises(UsageError, match=r"bundle\.pem"):
        site.begin()


def test_a_handshake_with_itself_judges_key_and_chain(site: Site) -> None:
    leaf: Leaf = site.authority.issue("m0", CLUSTER)
    assert ("URI", f"wavekv://{CLUSTER}/member/m0") in judge(TlsFiles(leaf.cert, leaf.key, leaf.ca)).decoded[
        "subjectAltName"
    ]
    with pytest.raises(ssl.SSLCertVerificationError):
        judge(TlsFiles(leaf.cert, leaf.key, site.other.file))
    with pytest.raises(UsageError):
        judge(TlsFiles(leaf.cert, site.authority.issue("m1", CLUSTER).key, leaf.ca))
