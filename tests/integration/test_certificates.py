"""Certificate files that change under running members, as a Secret volume changes them: one link is swapped."""

import http.client
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import MemberProcess, eventually
from tests.pki import Authority, Leaf

RELOAD_SECONDS = 15.0


class SecretVolume:
    """A folder `data` whose content is replaced as a whole, and the files in it as a member names them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        files = {name: folder / name for name in ("tls.crt", "tls.key", "ca.crt")}
        folder.mkdir()
        for name, path in files.items():
            path.symlink_to(Path("..data") / name)
        self.leaf = Leaf(files["tls.crt"], files["tls.key"], files["ca.crt"])

    def update(self, leaf: Leaf, authorities: Sequence[Authority], *, key: Leaf | None = None) -> None:
        self._version += 1
        fresh = self._folder / f"..version-{self._version}"
        fresh.mkdir()
        (fresh / "tls.crt").write_bytes(leaf.cert.read_bytes())
        (fresh / "tls.key").write_bytes((key or leaf).key.read_bytes())
        (fresh / "ca.crt").write_text("".join(authority.file.read_text() for authority in authorities))
        link = self._folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(self._folder / "..data")


class Rotating(GovernedCluster):
    """Two members, each with a Secret volume."""

    def __init__(self, folder: Path) -> None:
        super().__init__(2, folder)
        self.new_authority = Authority(folder / "new-pki")
        self.volumes = []
        for member in self.members:
            volume = SecretVolume(folder / f"secret-{member.name}")
            volume.update(self.issue(member.name), [self.authority])
            member.peer_flags = volume.leaf.flags()
            self.volumes.append(volume)

    def rotate(self, issuer: Authority, bundle: Sequence[Authority]) -> None:
        for member, volume in zip(self.members, self.volumes, strict=True):
            volume.update(self.issue(member.name, issuer), bundle)


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Rotating]:
    with Rotating(tmp_path) as cluster:
        cluster.start()
        yield cluster


def served(cluster: Rotating, member: MemberProcess, authority: Authority, leaf: Leaf) -> bool:
    """Tell whether the member shows a certificate of `authority` and takes `leaf`."""
    try:
        return cluster.ask(member, "GET", "/v1/admin/status", leaf=leaf, ca=authority.file).status == 200
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return False


def test_an_authority_is_replaced_under_running_members(rotating: Rotating) -> None:
    old, new = rotating.authority, rotating.new_authority
    old_operator = rotating.operator
    new_operator = new.issue("operator", rotating.cluster_id, role="operator")
    first = rotating[0]
    held = http.client.HTTPSConnection(
        f"127.0.0.{first.name}", rotating.port, timeout=15, context=operator_context(old, old_operator)
    )
    held.request("GET", "/v1/admin/status")
    held.getresponse().read()

    def everywhere(authority: Authority, leaf: Leaf) -> bool:
        return all(served(rotating, member, authority, leaf) for member in rotating.members)

    assert not served(rotating, first, old, new_operator), "the new authority is not trusted yet"
    rotating.rotate(old, [old, new])
    eventually(lambda: everywhere(old, new_operator), RELOAD_SECONDS, "both trust both authorities")
    rotating.rotate(new, [old, new])
    eventually(lambda: everywhere(new, old_operator), RELOAD_SECONDS, "both show the new certificate")
    rotating.rotate(new, [new])
    eventually(
        lambda: not any(served(rotating, member, new, old_operator) for member in rotating.members),
        RELOAD_SECONDS,
        "the old authority is trusted no more",
    )
    assert everywhere(new, new_operator)
    held.request("GET", "/v1/admin/status")
    assert held.getresponse().status == 200, "a connection that stood goes on"
    held.close()
    first.kill()
    first.start().wait_ready()
    first.put("x", b"1")
    rotating[1].wait_value("x", b"1")
    rotating[1].put("y", b"2")
    first.wait_value("y", b"2")
    eventually(lambda: rotating[1].status()["peers"][0]["reachable"], 20, "a new connection of the one that ran on")


def operator_context(authority: Authority, leaf: Leaf) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(leaf.cert, leaf.key)
    return context


def test_files_that_do_not_fit_together_are_not_used_and_complained_of_once(rotating: Rotating) -> None:
    first = rotating[0]
    wrong_key = rotating.authority.issue("other", rotating.cluster_id)
    rotating.volumes[0].update(rotating.issue(first.name), [rotating.authority], key=wrong_key)
    eventually(lambda: "cannot be used" in first.log, RELOAD_SECONDS, "the mismatch is told")
    assert served(rotating, first, rotating.authority, rotating.operator), "the old set stays in use"
    rotating.volumes[0].update(rotating.issue(first.name), [rotating.authority])
    eventually(lambda: "new connections use them" in first.log, RELOAD_SECONDS, "the mended set is used")
    assert first.log.count("cannot be used") == 1
    assert served(rotating, first, rotating.authority, rotating.operator)
