"""Handshakes in memory: which certificate is shown and who is trusted once files changed."""

import logging
import ssl
from pathlib import Path

import pytest

from tests.pki import Authority, Leaf
from wavekv.config import TlsFiles
from wavekv.errors import UsageError
from wavekv.peers.tls import Certificates, client_context

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"


class Site:
    """The TLS files of one member, and two authorities to fill them from."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Authority(folder / "old"), Authority(folder / "new")
        self.files = TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        self.fill(self.old.issue("member", CLUSTER), self.old)

    def fill(self, leaf: Leaf, *trusted: Authority) -> None:
        for path, content in (
            (self.files.cert, leaf.cert.read_bytes()),
            (self.files.key, leaf.key.read_bytes()),
            (self.files.ca, b"".join(authority.file.read_bytes() for authority in trusted)),
        ):
            path.with_suffix(".tmp").write_bytes(content)
            path.with_suffix(".tmp").replace(path)


def client_of(authority: Authority, trusted: Authority) -> ssl.SSLContext:
    leaf = authority.issue("client", CLUSTER)
    return client_context(TlsFiles(leaf.cert, leaf.key, trusted.file))


class Talk:
    """Both ends of one connection; the handshake and one message each way have passed, or an SSLError was raised."""

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        name: str = "localhost",
        session: ssl.SSLSession | None = None,
    ) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name, session=session)
        self.server = server.wrap_bio(up, down, server_side=True)
        pending = [self.client, self.server]
        for _ in range(10):
            pending = [end for end in pending if not self._shaken(end)]
        assert not pending
        self.say()

    @staticmethod
    def _shaken(end: ssl.SSLObject) -> bool:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def say(self) -> None:
        self.client.write(b"question")
        assert self.server.read() == b"question"
        self.server.write(b"answer")
        assert self.client.read() == b"answer"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_new_connections_use_the_new_files_and_those_that_stand_go_on(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path)
    certificates = Certificates(site.files)
    standing = Talk(certificates.server, client_of(site.old, site.old), name)
    with pytest.raises(ssl.SSLError):
        Talk(certificates.server, client_of(site.new, site.old), name)

    site.fill(site.new.issue("member", CLUSTER), site.old, site.new)
    assert certificates.refresh()
    for issuer in (site.old, site.new):
        Talk(certificates.server, client_of(issuer, site.new), name)
    with pytest.raises(ssl.SSLError):
        Talk(certificates.server, client_of(site.new, site.old), name)

    site.fill(site.new.issue("member", CLUSTER), site.new)
    assert certificates.refresh()
    with pytest.raises(ssl.SSLError):
        Talk(certificates.server, client_of(site.old, site.new), name)
    Talk(certificates.server, client_of(site.new, site.new), name)
    standing.say()


def test_a_client_of_a_dropped_authority_cannot_resume_a_session(tmp_path: Path) -> None:
    site = Site(tmp_path)
    certificates = Certificates(site.files)
    context = client_of(site.old, site.old)
    session = Talk(certificates.server, context).client.session
    assert session is None or not session.has_ticket
    again = Talk(certificates.server, context, session=session)
    assert not again.client.session_reused


def test_the_client_s_context_follows_the_files_and_stays_the_same_object_while_they_do(tmp_path: Path) -> None:
    site = Site(tmp_path)
    certificates = Certificates(site.files)
    before = certificates.client()
    assert not certificates.refresh()
    assert certificates.client() is before
    site.fill(site.new.issue("member", CLUSTER), site.new)
    certificates.refresh()
    assert certificates.client() is not before
    other = Certificates(site.files)
    Talk(other.server, certificates.client())
    with pytest.raises(ssl.SSLError):
        Talk(other.server, before)


@pytest.mark.parametrize("spoiled", ["cert", "key", "ca"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_files_that_cannot_be_used_leave_the_old_ones_in_use_and_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoiled: str, content: bytes | None
) -> None:
    site = Site(tmp_path)
    certificates = Certificates(site.files)
    path: Path = getattr(site.files, spoiled)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert not certificates.refresh()
        assert not certificates.refresh()
    assert len(caplog.records) == 1
    Talk(certificates.server, client_of(site.old, site.old))
    site.fill(site.old.issue("member", CLUSTER), site.old)
    assert certificates.refresh()


def test_a_key_of_another_certificate_is_not_used(tmp_path: Path) -> None:
    site = Site(tmp_path)
    certificates = Certificates(site.files)
    site.files.key.write_bytes(site.old.issue("other", CLUSTER).key.read_bytes())
    assert not certificates.refresh()
    Talk(certificates.server, client_of(site.old, site.old))
    with pytest.raises(UsageError, match=r"tls\.key"):
        Certificates(site.files)
