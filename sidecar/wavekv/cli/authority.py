"""Certificates for members without Kubernetes: an authority of one's own, and one certificate for each name.

    DIR/authority.pem, DIR/authority.key   made once, kept by whoever makes certificates; members get the first alone
    DIR/NAME.pem, DIR/NAME.key             one for each member; its identity is the URI wavekv://CLUSTER_ID/member/NAME

A key is never overwritten unless that is asked for, and every file is there whole or not at all. `cryptography` is
imported here and nowhere else in the command line.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wavekv.cli.certs import AUTHORITY
from wavekv.disk import OS_DISK, write_all
from wavekv.errors import DirectoryUnusable, UsageError
from wavekv.peers.identity import member_uri

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_BACKDATED: Final = timedelta(minutes=5)
"""Clocks differ: a certificate is good from a little before it was made."""
_COMMON_NAME_MAX: Final = 64
_TITLE: Final = "WaveKV "


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority: its certificate and key, and the cluster it is for."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cluster_id: str


def open_authority(folder: Path, cluster_id: str | None, new_cluster_id: str) -> Signer:
    """Return the authority kept in `folder`; make one for `cluster_id`, else `new_cluster_id`, where there is none.

    Raises:
        UsageError: the kept one is of another cluster, damaged, or lacks its key.
        DirectoryUnusable: the folder cannot be made or written.
    """
    cert, key = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
    if not cert.exists() and not key.exists():
        return _new_authority(cert, key, cluster_id or new_cluster_id)
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"the authority in {folder} cannot be used: {error}; move it away, or give another") from error
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    kept = str(common[0].value).removeprefix(_TITLE) if common else ""
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != certificate.public_key():
        raise UsageError(f"{cert} and {key} do not fit together; move them away, or give another folder")
    if cluster_id is not None and kept != cluster_id:
        raise UsageError(
            f"the authority in {folder} is of cluster {kept}, not {cluster_id}; move it away, or give another"
        )
    return Signer(certificate, private, kept)


def _new_authority(cert: Path, key_file: Path, cluster_id: str) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_TITLE}{cluster_id}")])
    certificate = (
        _builder(subject, subject, key.public_key(), _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_new(key_file, _key_pem(key), force=False)
    write_new(cert, certificate.public_bytes(serialization.Encoding.PEM), force=False)
    return Signer(certificate, key, cluster_id)


def issue(folder: Path, signer: Signer, name: str, *, hosts: Sequence[str], days: int, force: bool = False) -> None:
    """Write key and certificate of the member `name`, reached at `hosts`.

    Raises:
        UsageError: a file of it is there and `force` is not given.
        DirectoryUnusable: a file cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_COMMON_NAME_MAX])])
    certificate = (
        _builder(subject, signer.certificate.subject, key.public_key(), timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_alternatives(signer.cluster_id, name, hosts), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    write_new(folder / f"{name}.key", _key_pem(key), force=force)
    write_new(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), force=force)


def _alternatives(cluster_id: str, name: str, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = [x509.UniformResourceIdentifier(member_uri(cluster_id, name))]
    for host in dict.fromkeys(hosts):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


def write_new(path: Path, content: bytes, *, force: bool) -> None:
    """Make `path` hold `content`, all or nothing, mode 0600; with `force` also where there is a file.

    Raises:
        UsageError: there is one.
        DirectoryUnusable: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        OS_DISK.unlink(partial)
        descriptor = OS_DISK.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        try:
            write_all(OS_DISK, descriptor, content, 0)
            OS_DISK.sync(descriptor)
        finally:
            OS_DISK.close(descriptor)
        if force:
            partial.replace(path)
        else:
            os.link(partial, path)  # refuses where there is one, unlike a rename
            OS_DISK.unlink(partial)
        OS_DISK.sync_dir(path.parent)
    except FileExistsError as error:
        OS_DISK.unlink(partial)
        raise UsageError(f"{path} is there already; --force makes it anew") from error
    except OSError as error:
        raise DirectoryUnusable(f"cannot write {path}: {error.strerror}") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
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


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
