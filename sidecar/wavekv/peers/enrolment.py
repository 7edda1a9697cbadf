"""A member's own certificate: a key made and kept on its volume, signed by whoever runs the cluster.

    DATA_DIR/tls/key.pem          made once, mode 0600, never leaves the volume
    DATA_DIR/tls/request.pem      asks to sign it; an operator fetches it, with a token that proves the pod
    DATA_DIR/tls/certificate.pem  signed by itself until the operator hands in one of the cluster's authority

With a self-signed certificate, or one of an authority that is trusted no more, the peer plane is open all the same:
peers refuse it, and the operator, who shows its own, may hand in a better one. One that expired stays in use; peers
refuse it until it is renewed. A restart needs nobody: what is kept is used again (G10). A key that was made for another
name or cluster came with a copied volume. It is thrown away: whoever has the original could speak in this name.
"""

import contextlib
import hashlib
import logging
import ssl
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from wavekv.config import EnrolmentFiles, TlsFiles
from wavekv.disk import OS_DISK, disk_error, replace_file
from wavekv.errors import BadCertificate, UsageError
from wavekv.peers.handshake import Judged, judge, read
from wavekv.peers.identity import member_uri

log = logging.getLogger(__name__)

_FOLDER: Final = "tls"
_EXPIRED: Final = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""
_REQUEST_BEGIN: Final = b"-----BEGIN CERTIFICATE REQUEST-----"
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


class Enrolment:
    """Key and certificate of one member in its directory."""

    def __init__(self, directory: Path, name: str, cluster_id: str, given: EnrolmentFiles) -> None:
        """Use what is kept in `directory`, or begin anew; blocks.

        Raises:
            UsageError: the authorities cannot be used.
            DiskFull, DiskFailed, DirectoryUnusable: a new key could not be kept.
        """
        self._folder = directory / _FOLDER
        self._name = name
        self._cluster_id = cluster_id
        self._given = given
        self.files = TlsFiles(self._folder / "certificate.pem", self._folder / "key.pem", given.ca)
        self.on_taken: Callable[[], object] = lambda: None
        """Called, in the thread that took it, once another certificate is kept."""
        try:
            self._open()
        except OSError as error:
            raise disk_error(error, f"keep the member's key in {self._folder}") from error
        self._tell_state()

    # ---- what is kept ----------------------------------------------------------------------------------------------

    @property
    def _request(self) -> Path:
        return self._folder / "request.pem"

    def _open(self) -> None:
        if not _is_folder(self._folder):
            self._folder.unlink(missing_ok=True)
            OS_DISK.mkdir(self._folder)
            OS_DISK.sync_dir(self._folder.parent)
        for path in (self.files.cert, self.files.key, self._request):
            if not _is_plain(path):
                path.unlink(missing_ok=True)
        if not self._is_ours():
            self._begin()
        with contextlib.suppress(PermissionError):  # a volume's group may have been given rights when it was mounted
            self.files.key.chmod(0o600)

    def _is_ours(self) -> bool:
        """Tell whether a whole set is kept and was made for this name and cluster."""
        if not all(path.exists() for path in (self.files.cert, self.files.key, self._request)):
            return False
        try:
            if not self._request.read_bytes().startswith(_REQUEST_BEGIN):
                return False
            kept = read(self.files)
        except (UsageError, ssl.SSLError) as error:
            cause = error.__cause__ if isinstance(error, UsageError) else error
            if not isinstance(cause, ssl.SSLError):  # the disk failed, not the content: nothing is thrown away
                raise
            log.warning("the kept key and certificate cannot be used (%s); new ones are made", error)
            return False
        if self._names_us(kept):
            return True
        log.warning("the kept key was made for another member or cluster: the volume was copied; a new one is made")
        return False

    def _names_us(self, certificate: Judged) -> bool:
        uris = [value for kind, value in certificate.decoded.get("subjectAltName", ()) if kind == "URI"]
        return uris == [member_uri(self._cluster_id, self._name)]

    def _begin(self) -> None:
        from wavekv.peers.keys import new_key  # noqa: PLC0415 - a tenth of a second that other starts need not pay

        made = new_key(self._cluster_id, self._name)
        for path in (self.files.cert, self._request):  # none of them may ever stand beside a key that it is not of
            path.unlink(missing_ok=True)
        self._write(self.files.key, made.key)
        self._write(self._request, made.request)
        self._write(self.files.cert, made.certificate)

    def _write(self, path: Path, content: bytes) -> None:
        path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        replace_file(OS_DISK, path, content)

    # ---- what it is worth ------------------------------------------------------------------------------------------

    def _state(self) -> tuple[Judged | None, str]:
        """Return the certificate if an authority of the bundle signed it, and what is wrong with it or ""."""
        try:
            return judge(self.files), ""
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message
            return (read(self.files) if error.verify_code == _EXPIRED else None), why
        except ssl.SSLError as error:
            return None, error.reason or str(error)

    def _tell_state(self) -> None:
        found, why = self._state()
        if found is None:
            log.warning(
                "no certificate of the cluster's authority yet (%s): peers refuse this member until it is given one",
                why,
            )
        elif why:
            log.warning("the certificate of this member expired: peers refuse it until it is renewed")

    def told(self) -> Mapping[str, Any]:
        """Return what an operator needs to sign the key, JSON-ready; blocks."""
        found, _ = self._state()
        return {
            "name": self._name,
            "cluster_id": self._cluster_id,
            "request": self._request.read_text(encoding="ascii"),
            "token": self._token(),
            **_described(found),
            "certificate": self.files.cert.read_text(encoding="ascii") if found else None,
        }

    def _token(self) -> str | None:
        """Return the token as it is now: the kubelet replaces it long before it expires."""
        if self._given.token is None:
            return None
        try:
            with self._given.token.open("rb") as file:
                return file.read(self._given.token_bytes_max).decode("ascii").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            log.warning("the token %s cannot be read: %s", self._given.token, type(error).__name__)
            return None

    # ---- what is handed in -----------------------------------------------------------------------------------------

    def take(self, certificate: str) -> Mapping[str, Any]:
        """Keep a certificate (PEM, its chain behind it) durably and use it from now on; blocks.

        Raises:
            BadCertificate: it is not of our key, name and cluster, or peers would refuse it.
            DiskFull, DiskFailed: it could not be kept.
        """
        if len(certificate) > self._given.certificate_bytes_max or not certificate.isascii():
            raise BadCertificate(f"the certificate has to be PEM of at most {self._given.certificate_bytes_max} bytes")
        if _PEM_BEGIN not in certificate:
            raise BadCertificate(f"the certificate has to be PEM: {_PEM_BEGIN} is missing")
        offered = self._folder / "offered.pem"
        try:
            self._write(offered, certificate.encode("ascii"))
            found = self._check(offered)
            OS_DISK.rename(offered, self.files.cert)
            OS_DISK.sync_dir(self._folder)
        except OSError as error:
            raise disk_error(error, f"keep the certificate in {self._folder}") from error
        finally:
            with contextlib.suppress(OSError):
                offered.unlink(missing_ok=True)
        self.on_taken()
        log.info("a certificate valid until %s is in use", _not_after(found))
        return _described(found)

    def _check(self, offered: Path) -> Judged:
        files = TlsFiles(offered, self.files.key, self.files.ca)
        try:
            found = judge(files)
        except UsageError as error:
            raise BadCertificate("the certificate is not of this member's key, or no certificate") from error
        except ssl.SSLCertVerificationError as error:
            raise BadCertificate(f"peers would refuse the certificate: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise BadCertificate(f"peers would refuse the certificate: {error.reason or error}") from error
        if not self._names_us(found):
            wanted = member_uri(self._cluster_id, self._name)
            raise BadCertificate(f"the certificate has to have one URI, {wanted}")
        return found


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _is_plain(path: Path) -> bool:
    """Tell whether `path` is a file of this volume itself, or nothing yet: no link is followed, no pipe waited for."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _described(found: Judged | None) -> dict[str, Any]:
    if found is None:
        return {"not_after": None, "fingerprint": None}
    return {"not_after": _not_after(found), "fingerprint": hashlib.sha256(found.der).hexdigest()}


def _not_after(found: Judged) -> str:
    seconds = ssl.cert_time_to_seconds(found.decoded["notAfter"])
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
