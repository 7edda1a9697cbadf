"""A throw-away certificate authority for tests of the peer plane: EC P-256, files in a folder, valid for an hour."""

import base64
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Leaf:
    """Paths of a leaf's certificate and key, and of the authority that signed it."""

    cert: Path
    key: Path
    ca: Path

    def flags(self) -> tuple[str, ...]:
        """The peer plane's flags of `wavekv serve`."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key), "--tls-ca", str(self.ca))


class Authority:
    """A certificate authority whose certificate is `FOLDER/NAME.pem`; its key stays in memory."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _common_name(f"wavekv test {name}")
        self._certificate = (
            _builder(subject, subject, self._key.public_key(), timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        cluster_id: str | None,
        *,
        role: Literal["member", "operator"] = "member",
        dns: tuple[str, ...] = ("localhost",),
        addresses: tuple[str, ...] = ("127.0.0.1", "::1"),
        lifetime: timedelta = timedelta(hours=1),
        uri: str | None = None,
    ) -> Leaf:
        """Write `NAME.pem` and `NAME.key` with the identity of `role` and name, `uri` in its place if given.

        No `cluster_id`: no identity; a negative lifetime: expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self.sign(
            key.public_key(), cluster_id, name, role=role, dns=dns, addresses=addresses, lifetime=lifetime, uri=uri
        )
        leaf = Leaf(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.file)
        leaf.cert.write_text(pem)
        leaf.key.touch(mode=0o600)
        leaf.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return leaf

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        cluster_id: str | None,
        name: str,
        *,
        role: Literal["member", "operator"] = "member",
        dns: tuple[str, ...] = ("localhost",),
        addresses: tuple[str, ...] = ("127.0.0.1", "::1"),
        lifetime: timedelta = timedelta(hours=1),
        uri: str | None = None,
        begins_in: timedelta = timedelta(minutes=-5),
        server_only: bool = False,
    ) -> str:
        """Return a certificate (PEM) of a key; as `issue`. `uri`: the whole one, or behind the cluster's."""
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in dns]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if cluster_id is not None:
            named = uri or ("operator" if role == "operator" else f"member/{name}")
            whole = named if named.startswith("wavekv:") else f"wavekv://{cluster_id}/{named}"
            names.append(x509.UniformResourceIdentifier(whole))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] + [ExtendedKeyUsageOID.CLIENT_AUTH] * (not server_only)
        subject = _common_name(name)
        certificate = (
            _builder(subject, self._certificate.subject, public_key, lifetime, begins_in)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign_document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a membership document with this authority's signature."""
        content = {name: value for name, value in document.items() if name != "signature"}
        form = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        signature = self._key.sign(form, ec.ECDSA(hashes.SHA256()))
        return {**content, "signature": base64.b64encode(signature).decode()}


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    begins_in: timedelta = timedelta(minutes=-5),
) -> x509.CertificateBuilder:
    ends = datetime.now(UTC) + lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - abs(lifetime) + begins_in)
        .not_valid_after(ends)
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
