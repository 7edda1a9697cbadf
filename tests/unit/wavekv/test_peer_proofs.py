"""What is believed beyond a connection: documents signed by the authority, and claims signed by a member's own key."""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.pki import Authority
from wavekv.config import TlsFiles
from wavekv.core.membership import EPOCH_JUMP_MAX, Epoch, Membership
from wavekv.core.messages import Envelope
from wavekv.peers.proofs import SignedClaims, SignedEpochs
from wavekv.runtime.epoch_file import parse_document

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
ANOTHER = "00000000-0000-4000-8000-00000000dead"
URL = "https://{name}.demo-peers.shop.svc:7072"


class StillClock:
    """A clock that stands until it is moved."""

    seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


def content(number: int = 4, cluster: str = CLUSTER, **more: object) -> dict[str, Any]:
    members = ["m0", "m1"]
    return {"cluster_id": cluster, "epoch": number, "members": members, "admitted": dict.fromkeys(members, 1),
            "bootstrap": False, "peer_url": URL, **more}  # fmt: skip


def wire(document: Mapping[str, Any]) -> bytes:
    """Return a document as a member hands it on."""
    signed = parse_document(document, "a test").epoch.signed
    assert signed is not None
    return signed


class Bench:
    """A member that knows epoch 3, and the authority of its cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.clock = StillClock()
        self.epochs = SignedEpochs(self.authority.file, CLUSTER, self.clock)
        self.membership = Membership("m0", CLUSTER, Epoch(3, ("m0", "m1")), (), 1, verifier=self.epochs)
        self.epochs.membership = self.membership

    async def hear(self, document: bytes, number: int = 4, name: str = "m1") -> None:
        """Do as the peer plane does with a message."""
        message = Envelope(sender_id=2, name=name, inc=1, cluster_id=CLUSTER, epoch=number, epoch_doc=document)
        await self.epochs.look(message)
        self.membership.admit(message)

    @property
    def number(self) -> int:
        assert self.membership.epoch is not None
        return self.membership.epoch.number


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_document_of_the_authority_is_taken_with_all_it_says(bench: Bench) -> None:
    await bench.hear(wire(bench.authority.sign_document(content(note="a field of a later version"))))
    epoch = bench.membership.epoch
    assert epoch is not None
    assert (epoch.number, epoch.members, epoch.peer_url, epoch.inferred) == (4, ("m0", "m1"), URL, False)
    assert json.loads(epoch.signed or b"")["note"] == "a field of a later version", "handed on whole"


async def test_a_document_is_taken_while_an_authority_is_replaced(bench: Bench, tmp_path: Path) -> None:
    following = Authority(tmp_path / "next")
    document = wire(following.sign_document(content()))
    await bench.hear(document)
    assert bench.number == 3
    bench.authority.file.write_bytes(bench.authority.file.read_bytes() + following.file.read_bytes())
    bench.clock.seconds += 1
    await bench.hear(document)
    assert bench.number == 4


def forged(bench: Bench) -> dict[str, bytes]:
    """Return documents that say more than the authority signed."""
    genuine = bench.authority.sign_document(content())
    stranger = Authority(bench.folder / "stranger")
    leaf = bench.authority.issue("m1", CLUSTER)
    return {
        "no signature": json.dumps(content()).encode(),
        "an empty one": json.dumps(content(signature="")).encode(),
        "no base64": json.dumps(content(signature="*" * 96)).encode(),
        "of another document": wire(genuine | {"members": ["m1"], "admitted": {"m1": 1}}),
        "a field more": wire(genuine | {"note": 1}),
        "a field changed": wire(genuine | {"peer_url": "https://{name}.elsewhere:7072"}),
        "of another number": wire(genuine | {"epoch": 5}),
        "of a strange authority": wire(stranger.sign_document(content())),
        "of a member's key": wire(leaf_signed(leaf.key, content())),
        "of another cluster": wire(bench.authority.sign_document(content(cluster=ANOTHER))),
        "of no cluster": wire(bench.authority.sign_document(content() | {"cluster_id": None})),
        "no JSON": b"\xff",
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "a number that is none": json.dumps(content() | {"epoch": "4", "signature": "AA=="}).encode(),
    }


def leaf_signed(key_file: Path, document: dict[str, Any]) -> dict[str, Any]:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    form = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return document | {"signature": b64encode(key.sign(form, ec.ECDSA(hashes.SHA256()))).decode()}


async def test_a_document_that_the_authority_did_not_sign_changes_nothing(bench: Bench) -> None:
    for what, document in forged(bench).items():
        bench.clock.seconds += 2
        await bench.hear(document)
        assert bench.number == 3, what


async def test_one_sender_s_documents_are_read_once_a_second_and_others_are_read_meanwhile(bench: Bench) -> None:
    read: list[bytes] = []
    real = bench.epochs._read

    def counted(document: bytes) -> Epoch | None:
        read.append(document)
        return real(document)

    bench.epochs._read = counted  # type: ignore[method-assign]
    for index in range(50):
        await bench.hear(b"%d" % index)
    assert len(read) == 1
    await bench.hear(wire(bench.authority.sign_document(content())), name="m0")
    assert bench.number == 4
    bench.clock.seconds += 1
    await bench.hear(b"again", number=5)
    assert len(read) == 3


async def test_what_is_no_news_is_not_read_at_all(bench: Bench) -> None:
    bench.epochs._read = lambda _: pytest.fail("it was read")  # type: ignore[method-assign]
    for number in (0, 3, 4 + EPOCH_JUMP_MAX):
        await bench.hear(wire(bench.authority.sign_document(content())), number=number)
    assert bench.number == 3


async def test_signatures_are_checked_beside_the_loop(bench: Bench) -> None:
    threads: list[int] = []
    real = bench.epochs._read

    def noted(document: bytes) -> Epoch | None:
        threads.append(threading.get_ident())
        return real(document)

    bench.epochs._read = noted  # type: ignore[method-assign]
    await bench.hear(wire(bench.authority.sign_document(content())))
    assert bench.number == 4
    assert len(threads) == 1
    assert threading.get_ident() not in threads


# ---- claims --------------------------------------------------------------------------------------------------------


def claims_of(authority: Authority, name: str, **leaf: Any) -> SignedClaims:
    issued = authority.issue(name, CLUSTER, **leaf)
    return SignedClaims(TlsFiles(issued.cert, issued.key, authority.file), CLUSTER, name)


async def test_a_claim_of_a_process_holds_for_its_name_and_number_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    ours, other = claims_of(authority, "m0"), claims_of(authority, "m1")
    claim = b64encode(await ours.make(7) or b"").decode()
    assert await ours.holds(claim, 7)
    assert not await ours.holds(claim, 8), "another number"
    assert not await other.holds(claim, 7), "another name"


async def test_a_claim_that_another_member_made_up_does_not_hold(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "pki"), Authority(tmp_path / "stranger")
    ours = claims_of(authority, "m0")
    hostile = authority.issue("m1", CLUSTER)
    posing = SignedClaims(TlsFiles(hostile.cert, hostile.key, authority.file), CLUSTER, "m0")
    genuine = json.loads(await ours.make(7) or b"")
    own = json.loads(await posing.make(8) or b"")
    expired = claims_of(authority, "m0", lifetime=timedelta(hours=-1))
    made_up = [
        own,
        genuine | {"signature": own["signature"]},
        own | {"certificates": genuine["certificates"]},
        own | {"certificates": own["certificates"] + genuine["certificates"]},
        json.loads(await claims_of(stranger, "m0").make(8) or b""),
        json.loads(await expired.make(8) or b""),
        json.loads(await claims_of(authority, "operator", role="operator").make(8) or b""),
        {},
        {"certificates": "", "signature": ""},
        {"certificates": 1, "signature": 2},
        [],
    ]
    for claim in made_up:
        assert not await ours.holds(b64encode(json.dumps(claim).encode()).decode(), 8), claim
    for text in ("", "*", "AAAA"):
        assert not await ours.holds(text, 8)


@pytest.mark.parametrize(
    ("known", "strange"),
    [
        ("0603551d11", "0603551d25"),
        ("82096c6f63616c686f7374", "a30930076c6f63616c6873"),
    ],
    ids=["an extension twice", "a name of a kind nobody reads"],
)
async def test_a_claim_with_a_certificate_that_cannot_be_read_does_not_hold(
    tmp_path: Path, known: str, strange: str
) -> None:
    ours = claims_of(Authority(tmp_path / "pki"), "m0")
    claim = json.loads(await ours.make(7) or b"")
    genuine = ssl.PEM_cert_to_DER_cert(claim["certificates"])
    made_up = genuine.replace(bytes.fromhex(known), bytes.fromhex(strange))
    assert made_up != genuine
    claim["certificates"] = ssl.DER_cert_to_PEM_cert(made_up)
    assert not await ours.holds(b64encode(json.dumps(claim).encode()).decode(), 7)


async def test_a_member_s_certificate_signs_no_other(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    hostile = authority.issue("m1", CLUSTER)
    signer = x509.load_pem_x509_certificate(hostile.cert.read_bytes())
    signing = serialization.load_pem_private_key(hostile.key.read_bytes(), password=None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    forged = (
        x509.CertificateBuilder()
        .subject_name(signer.subject)
        .issuer_name(signer.subject)
        .public_key(signer.public_key())
        .serial_number(1)
        .not_valid_before(signer.not_valid_before_utc)
        .not_valid_after(signer.not_valid_after_utc)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"wavekv://{CLUSTER}/member/m0")]),
            critical=False,
        )
        .sign(signing, hashes.SHA256())
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(forged.public_bytes(serialization.Encoding.PEM) + hostile.cert.read_bytes())
    posing = SignedClaims(TlsFiles(chain, hostile.key, authority.file), CLUSTER, "m0")
    claim = b64encode(await posing.make(8) or b"").decode()
    assert not await claims_of(authority, "m0").holds(claim, 8)
    trusting = SignedClaims(TlsFiles(chain, hostile.key, hostile.cert), CLUSTER, "m0")
    assert await trusting.holds(claim, 8), "only the chain is at fault"


async def test_a_member_whose_files_cannot_be_read_makes_no_claim(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    issued = authority.issue("m0", CLUSTER)
    files = TlsFiles(issued.cert, issued.key, authority.file)
    issued.key.write_text("no key")
    assert await SignedClaims(files, CLUSTER, "m0").make(1) is None
    assert await SignedClaims(replace(files, key=tmp_path / "missing"), CLUSTER, "m0").make(1) is None
