"""Errors that refuse an operator's request."""

from wavekv.errors.requests import RequestError


class BadMembership(RequestError):
    code = "bad_membership"


class DocumentTooLarge(RequestError):
    code = "document_too_large"
    status = 413


class StaleEpoch(RequestError):
    """A newer document is in force."""

    code = "stale_epoch"
    status = 409


class EpochConflict(RequestError):
    """Two documents of one number: a number is used once."""

    code = "epoch_conflict"
    status = 409


class EpochJump(RequestError):
    """A number further above the known one than epochs are counted on; `?override=true` takes it all the same."""

    code = "epoch_jump"
    status = 409


class BadCertificate(RequestError):
    """A certificate that does not fit this member: its key, name, cluster, authority or dates."""

    code = "bad_certificate"


class OwnCertificate(RequestError):
    """The member's certificate is that of its flags (`--tls-cert`): whoever wrote the file renews it."""

    code = "own_certificate"
    status = 409


class StaticPeers(RequestError):
    """The member has no epochs, so there is none to change and nothing to be drained from."""

    code = "static_peers"
    status = 409
