"""Carries out enrolment: asks members for their requests, has the API review their tokens, gives them certificates.

What decides is in `enrolment`. A member that is refused costs the others nothing; it is said by name, and asked again
at the next pass.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from wavekv_operator import enrolment, tls
from wavekv_operator.enrolment import Applicant
from wavekv_operator.errors import ApiError, EnrolmentRefused, MemberRefused, MemberUnreachable, OperatorError
from wavekv_operator.sidecar_client import Address

log = logging.getLogger(__name__)


class TokenReviewer(Protocol):
    """What is needed of the Kubernetes API."""

    async def review_token(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the status of a TokenReview."""
        ...


class Applicants(Protocol):
    """What is needed of the members."""

    async def application(self, cluster_id: str, identity: tls.Data, address: Address) -> Mapping[str, Any]:
        """Ask for a certificate request and a token."""
        ...

    async def give_certificate(self, cluster_id: str, identity: tls.Data, address: Address, certificate: str) -> None:
        """Give a certificate."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """What became of the applications of one pass."""

    enrolled: frozenset[str]
    refusals: Mapping[str, str]
    """Why a member got none; those that did not answer are not in it."""
    errors: tuple[OperatorError, ...] = ()


class Registration:
    """Gives members their certificates."""

    def __init__(
        self,
        api: TokenReviewer,
        members: Applicants,
        clock: Callable[[], datetime],
        *,
        life: timedelta,
        asked_max: int,
    ) -> None:
        self._api = api
        self._members = members
        self._clock = clock
        self._life = life
        self._asked_max = asked_max

    async def give(
        self, applicants: Iterable[tuple[Applicant, Address]], signer: tls.Authority, identity: tls.Data
    ) -> Given:
        """Give certificates to those that prove what they are. One pass asks the first `asked_max` of them, no more."""
        listed = list(applicants)[: self._asked_max]
        results = await asyncio.gather(*(self._one(who, address, signer, identity) for who, address in listed))
        failed = {who.name: error for (who, _), error in zip(listed, results, strict=True) if error is not None}
        refusals = {
            name: error.why if isinstance(error, EnrolmentRefused) else error.detail
            for name, error in failed.items()
            if not isinstance(error, MemberUnreachable)
        }
        return Given(frozenset(who.name for who, _ in listed) - failed.keys(), refusals, tuple(failed.values()))

    async def _one(
        self, who: Applicant, address: Address, signer: tls.Authority, identity: tls.Data
    ) -> OperatorError | None:
        """Give one member its certificate; return what is against it."""
        try:
            answer = await self._members.application(who.cluster_id, identity, address)
            application = enrolment.read_application(who, answer)
            enrolment.check_token(who, await self._api.review_token(application.token, who.audience))
            made = enrolment.certificate(who, application, signer, now=self._clock(), life=self._life)
            await self._members.give_certificate(who.cluster_id, identity, address, made)
        except (EnrolmentRefused, MemberRefused, MemberUnreachable, ApiError) as error:
            log.info("%s/%s: no certificate: %s [%s]", who.namespace, who.name, error.detail, error.code)
            return error
        log.info("%s/%s: has a certificate of its own", who.namespace, who.name)
        return None
