"""Signs the membership: members take an epoch from whoever brings it, as long as the cluster's authority signed it.

The signature is ECDSA with SHA-256 over the canonical JSON of the document without it. It differs with every signing,
so one that is still good is kept, and the ConfigMap of a quiet cluster is not written again.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from wavekv_operator.tls import Authority

SIGNATURE = "signature"


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed."""
    plain = {key: value for key, value in document.items() if key != SIGNATURE}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def signed(document: Mapping[str, Any], held: Mapping[str, Any] | None, signer: Authority) -> Mapping[str, Any]:
    """Return `document` with a signature: that of `held` where it says the same and `signer` signed it."""
    if held is not None and canonical(held) == canonical(document) and _verifies(held, signer.key.public_key()):
        return held
    signature = signer.key.sign(canonical(document), ec.ECDSA(hashes.SHA256()))
    return {**document, SIGNATURE: base64.b64encode(signature).decode()}


def is_signed(document: Mapping[str, Any], signer: Authority) -> bool:
    """Tell whether any authority that members trust has signed `document`."""
    keys = (authority.public_key() for authority in signer.trusted)
    return any(isinstance(key, ec.EllipticCurvePublicKey) and _verifies(document, key) for key in keys)


def _verifies(document: Mapping[str, Any], key: ec.EllipticCurvePublicKey) -> bool:
    try:
        signature = base64.b64decode(document.get(SIGNATURE) or "", validate=True)
        key.verify(signature, canonical(document), ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, TypeError, InvalidSignature):
        return False
    return True
