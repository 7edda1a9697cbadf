"""Decides which authority a cluster has and what the operator shows to members; issues leaves for both.

A pure function of the Secrets there are and the time: what is still good is kept byte for byte, so that nothing is
written without need. A leaf is issued anew after two thirds of its life, or when it names others or another
authority. An authority is followed by the next one after two thirds of its own: first both are trusted, a day later
(by then every member has read the new bundle) the next one signs, and the old one stays trusted until it expires.
Members make their keys themselves; what they are given is decided in `enrolment`.
Alternative turned down: cert-manager, which would be one more thing to install before the first cluster.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wavekv_operator import names

_BACKDATED = timedelta(minutes=5)
"""Clocks of nodes differ: a certificate is good from a little before it was issued."""
_OVERLAP = timedelta(days=1)
_JUDGED_MAX = 4096
"""Certificates of which it is remembered whether their authority signed them: a few large clusters' worth."""
_NEXT_CERT = "next.crt"
_NEXT_KEY = "next.key"
_PREVIOUS_CERT = "previous.crt"

Data = Mapping[str, bytes]
"""A Secret's data, decoded."""


@dataclass(frozen=True, slots=True)
class Lives:
    """How long certificates are good for."""

    leaf: timedelta
    authority: timedelta


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the two Secrets of a cluster hold, and the authorities that its members are given to trust."""

    ca: Data
    operator: Data
    bundle: bytes = b""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs: certificates of members, and the membership."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    trusted: tuple[x509.Certificate, ...] = ()
    """Every authority that members trust; this one is the first."""


def decode(data: Mapping[str, str] | None) -> Data:
    """Return a Secret's data as bytes; what is no base64 counts as absent."""
    decoded: dict[str, bytes] = {}
    for key, text in (data or {}).items():
        try:
            decoded[key] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
    return decoded


def encode(data: Data) -> dict[str, str]:
    """Return a Secret's data as the API takes it."""
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def secrets(cluster_uuid: str, held: Secrets, now: datetime, lives: Lives) -> Secrets:
    """Return the authority and the operator's certificate that are good at `now`, keeping those of `held` that are.

    `held.bundle` is what members are given now: an authority signs nothing before it was in it.
    """
    ca = _authority(cluster_uuid, held, now, lives.authority)
    bundle = b"".join(ca[key] for key in (names.CA_KEY, _NEXT_CERT, _PREVIOUS_CERT) if key in ca)
    sans = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(names.operator_uri(cluster_uuid))])
    signer = _signing(ca)
    current = _pair(held.operator, names.CERT_KEY, names.PRIVATE_KEY_KEY)
    if current is not None and is_good(current.certificate, signer, sans, now):
        operator = dict(held.operator)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = leaf(signer, key.public_key(), "WaveKV operator", sans, now=now, life=lives.leaf)
        operator = {names.CERT_KEY: certificate, names.PRIVATE_KEY_KEY: _key_pem(key)}
    return Secrets(ca, {**operator, names.CA_KEY: bundle}, bundle)


def authority(good: Secrets) -> Authority:
    """Return who signs, of Secrets that `secrets` returned."""
    signer = _signing(good.ca)
    return Authority(signer.certificate, signer.key, tuple(x509.load_pem_x509_certificates(good.bundle)))


# ---- the authority ---------------------------------------------------------------------------------------------------


def _authority(cluster_uuid: str, held: Secrets, now: datetime, life: timedelta) -> Data:
    current = _pair(held.ca, names.CA_KEY, names.CA_PRIVATE_KEY_KEY)
    if current is None or current.certificate.not_valid_after_utc <= now:
        # Lost: what the members still trust goes on being trusted, so that they meet again as they reload.
        return {**_new_authority(cluster_uuid, now, life), **_trusted_before(held, now)}
    if not _is_aged(current.certificate, now):
        return held.ca
    following = _pair(held.ca, _NEXT_CERT, _NEXT_KEY)
    if following is None:
        made = _new_authority(cluster_uuid, now, life)
        return {**held.ca, _NEXT_CERT: made[names.CA_KEY], _NEXT_KEY: made[names.CA_PRIVATE_KEY_KEY]}
    overlap = min(_OVERLAP, life / 12)
    announced = held.ca[_NEXT_CERT] in held.bundle
    if not announced or now - following.certificate.not_valid_before_utc < overlap + _BACKDATED:
        return held.ca
    return {
        names.CA_KEY: held.ca[_NEXT_CERT],
        names.CA_PRIVATE_KEY_KEY: held.ca[_NEXT_KEY],
        _PREVIOUS_CERT: held.ca[names.CA_KEY],
    }


def _trusted_before(held: Secrets, now: datetime) -> Data:
    """Return the authorities that members trust now, if any is still good.

    Read from the operator's Secret, not from the ConfigMap, which more people may write.
    """
    try:
        bundle = x509.load_pem_x509_certificates(held.operator.get(names.CA_KEY, b""))
    except ValueError:
        return {}
    good = [item.public_bytes(serialization.Encoding.PEM) for item in bundle if item.not_valid_after_utc > now]
    return {_PREVIOUS_CERT: b"".join(good[:2])} if good else {}


def _new_authority(cluster_uuid: str, now: datetime, life: timedelta) -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"WaveKV {cluster_uuid}")])
    certificate = (
        _builder(subject, subject, key.public_key(), now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return {names.CA_KEY: _pem(certificate), names.CA_PRIVATE_KEY_KEY: _key_pem(key)}


# ---- leaves ----------------------------------------------------------------------------------------------------------


def leaf(
    signer: Authority,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    sans: x509.SubjectAlternativeName,
    *,
    now: datetime,
    life: timedelta,
) -> bytes:
    """Return a new leaf as PEM, for both sides of a connection."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    authority_key = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, signer.certificate.subject, public_key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(sans, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_key), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    return _pem(certificate)


def is_good(certificate: x509.Certificate, signer: Authority, sans: x509.SubjectAlternativeName, now: datetime) -> bool:
    """Tell whether a leaf is of this signer, for exactly these names, and not yet to be issued anew."""
    return not _is_aged(certificate, now) and _is_issued(certificate, signer.certificate, sans)


@lru_cache(maxsize=_JUDGED_MAX)
def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate, sans: x509.SubjectAlternativeName) -> bool:
    """Tell whether `issuer` signed a leaf for these names: asked at every pass, and always answered the same."""
    try:
        certificate.verify_directly_issued_by(issuer)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return held == sans


def _is_aged(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether two thirds of its life are over."""
    born, dies = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= born + (dies - born) * 2 / 3


# ---- reading and writing PEM -----------------------------------------------------------------------------------------


def _signing(ca: Data) -> Authority:
    signer = _pair(ca, names.CA_KEY, names.CA_PRIVATE_KEY_KEY)
    assert signer is not None, "an authority that was just read or made has a certificate and a key"
    return signer


def _pair(data: Data, cert_key: str, key_key: str) -> Authority | None:
    """Return certificate and key, None where one is missing, damaged, or does not fit the other."""
    try:
        certificate = x509.load_pem_x509_certificate(data[cert_key])
        key = serialization.load_pem_private_key(data[key_key], password=None)
    except (KeyError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return Authority(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
