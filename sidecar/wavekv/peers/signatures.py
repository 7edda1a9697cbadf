"""Signatures that outlive a connection: the authority's under an epoch document, a member's under its process number.

An epoch document is signed by the cluster's authority (ECDSA, SHA-256) over its canonical JSON without the field
`signature`. A claim is a member's statement that its process runs, with the certificate whose key signed it; it is for
an older process of the same name, which hears of the newer one from others only (R8).

Imports `cryptography`, so it is imported by those who meet such a signature, when they do. All of it blocks.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from wavekv.core.membership import Epoch
from wavekv.errors import UsageError, WaveKVError
from wavekv.peers.identity import identify
from wavekv.runtime.epoch_file import canonical, parse_document

_AUTHORITIES_MAX: Final = 16
"""Authorities of a bundle that are tried; three are there while one is replaced by the next."""
_CHAIN_MAX: Final = 5
"""Certificates between a member's and the authority, its own included."""
_PURPOSE: Final = b"wavekv process claim 1\n"
"""Begins what a member's key signs, so that no signature for another purpose passes for a claim."""
_UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What `cryptography` raises for a certificate that a stranger made: not all of it is a ValueError."""


def authorities(bundle: Path) -> list[x509.Certificate]:
    """Return the certificates of a bundle; none where it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(bundle.read_bytes())[:_AUTHORITIES_MAX]
    except (OSError, ValueError):
        return []


# ---- epoch documents -----------------------------------------------------------------------------------------------


def signed_epoch(document: bytes, bundle: Path, cluster_id: str | None) -> Epoch | None:
    """Return the epoch of a document that an authority of `bundle` signed for this cluster; None: there is none."""
    try:
        raw: Any = json.loads(document)
        told = parse_document(raw, "a signed document")
        signature = b64decode(raw["signature"], validate=True)
    except (UsageError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if told.cluster_id is None or told.cluster_id != cluster_id:
        return None
    content = canonical(raw)
    for authority in authorities(bundle):
        key = authority.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and _signed_by(key, signature, content):
            return told.signed_epoch(document)
    return None


def _signed_by(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


# ---- claims --------------------------------------------------------------------------------------------------------


def _statement(cluster_id: str | None, name: str, inc: int) -> bytes:
    told = {"cluster_id": cluster_id, "inc": inc, "name": name}
    return _PURPOSE + json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def make_claim(cert: Path, key_file: Path, cluster_id: str | None, name: str, inc: int) -> bytes | None:
    """Return the claim of process `inc` of the member `name`; None with a key of a kind not known here.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    content = _statement(cluster_id, name, inc)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(content)
    else:
        return None
    chain = cert.read_text(encoding="ascii")
    return json.dumps({"certificates": chain, "signature": b64encode(signature).decode()}).encode()


def claim_holds(claim: str, bundle: Path, cluster_id: str | None, name: str, inc: int) -> bool:
    """Tell whether `claim` (base64) was signed for process `inc` by whoever has a certificate of the member `name`."""
    try:
        raw: Any = json.loads(b64decode(claim, validate=True))
        chain = x509.load_pem_x509_certificates(raw["certificates"].encode("ascii"))[:_CHAIN_MAX]
        signature = b64decode(raw["signature"], validate=True)
        named = identify(_decoded(chain[0]), cluster_id).speaks_for(name)
        return named and _anchored(chain, authorities(bundle)) and _claimed(chain[0], signature, cluster_id, name, inc)
    except (*_UNREADABLE, KeyError, TypeError, AttributeError, IndexError, RecursionError, WaveKVError):
        return False


def _claimed(leaf: x509.Certificate, signature: bytes, cluster_id: str | None, name: str, inc: int) -> bool:
    key, content = leaf.public_key(), _statement(cluster_id, name, inc)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, content)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _decoded(certificate: x509.Certificate) -> dict[str, Any]:
    """Return the names of a certificate as `ssl` decodes them."""
    found: list[tuple[str, str]] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found += [("DNS", host) for host in names.get_values_for_type(x509.DNSName)]
        found += [("URI", uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    except x509.ExtensionNotFound:
        pass
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return {"subjectAltName": found, "subject": [[("commonName", str(part.value)) for part in common]]}


def _anchored(chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]) -> bool:
    """Tell whether the first certificate of `chain` is good now and leads to one of `anchors`."""
    now = datetime.now(UTC)
    current = chain[0]
    for _ in range(_CHAIN_MAX):
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            return False
        if any(_issued(current, anchor) and anchor.not_valid_after_utc >= now for anchor in anchors):
            return True
        issuer = next((item for item in chain[1:] if _signs(item) and _issued(current, item)), None)
        if issuer is None:
            return False
        current = issuer
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, *_UNREADABLE):
        return False
    return True


def _signs(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
