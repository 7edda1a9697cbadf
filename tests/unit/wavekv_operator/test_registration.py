"""Members are enrolled one by one: who proves its pod gets a certificate, who does not costs the others nothing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.enrolled import Credentials
from tests.fakes.kubernetes_world import CLUSTER, KEY, TOKEN_PREFIX, World
from wavekv_operator import names
from wavekv_operator.errors import ApiError
from wavekv_operator.settings import Settings

CLUSTER_ID = names.cluster_id(*KEY)


async def settled(**spec: Any) -> World:
    world = World(**spec)
    await world.settle()
    return world


def message(world: World, kind: str) -> str:
    found: str = next(item["message"] for item in world.resource["status"]["conditions"] if item["type"] == kind)
    return found


def serial(world: World, name: str) -> int:
    certificate = world.volumes[name].credentials.certificate
    assert certificate is not None
    return certificate.serial_number


def forget_certificate(world: World, name: str) -> None:
    world.volumes[name].credentials = Credentials(CLUSTER_ID, name)


async def test_every_member_gets_a_certificate_of_its_own_after_its_token_was_reviewed() -> None:
    world = await settled()
    assert world.condition("TLSReady") == ("True", "AllMembersCertified")
    audience = f"wavekv.io/enrolment/{CLUSTER_ID}"
    tokens = [f"{TOKEN_PREFIX}{name}/{world.child('Pod', name)['metadata']['uid']}" for name in world.volumes]
    assert world.reviews == [(token, audience) for token in tokens]
    assert len({serial(world, name) for name in world.volumes}) == 3
    expires = {item["certificateExpires"] for item in world.resource["status"]["members"]}
    assert expires == {"2027-01-30T00:00:00Z"}


async def test_a_member_that_restarts_shows_what_it_kept_and_asks_nobody() -> None:
    world = await settled()
    reviews, before = list(world.reviews), serial(world, "demo-1")
    world.restart("demo-1")
    await world.settle()
    assert (world.reviews, serial(world, "demo-1")) == (reviews, before)


async def test_a_token_of_another_pod_does_not_enrol() -> None:
    world = await settled()
    forget_certificate(world, "demo-1")
    world.members["demo-1"].token = world.members["demo-0"].token
    await world.settle()
    assert world.condition("TLSReady") == ("False", "EnrolmentRefused")
    assert message(world, "TLSReady") == "demo-1: its token is not of its pod"
    assert world.volumes["demo-1"].credentials.certificate is None
    assert "EnrolmentRefused" in [reason for reason, _ in world.events]
    assert world.condition("Ready")[0] == "False"


async def test_a_token_of_a_pod_that_is_gone_does_not_enrol() -> None:
    world = await settled()
    forget_certificate(world, "demo-1")
    world.members["demo-1"].token = f"{TOKEN_PREFIX}demo-1/an-earlier-uid"
    await world.settle()
    assert message(world, "TLSReady") == "demo-1: the API server does not know its token"


async def test_a_request_in_another_members_name_does_not_enrol() -> None:
    world = await settled()
    stolen = Credentials(CLUSTER_ID, "demo-0")
    world.volumes["demo-1"].credentials = stolen
    await world.settle()
    assert message(world, "TLSReady") == "demo-1: its certificate request names another"
    assert stolen.certificate is None


async def test_a_cloned_volume_under_another_name_gets_a_certificate_of_its_own() -> None:
    world = await settled(replicas=2)
    world.volumes["demo-2"] = replace(world.volumes["demo-0"])
    world.change_spec(replicas=3)
    await world.settle()
    assert world.condition("TLSReady")[0] == "True"
    assert serial(world, "demo-2") != serial(world, "demo-0")


async def test_a_refused_member_costs_the_others_nothing() -> None:
    world = await settled()
    for name in world.volumes:
        forget_certificate(world, name)
    world.members["demo-1"].token = ""
    outcome = await world.one_pass()
    assert outcome.error is not None
    assert outcome.error.code == "enrolment_refused"
    assert message(world, "TLSReady") == "demo-1: it has no token of its pod yet"
    assert serial(world, "demo-0")
    assert serial(world, "demo-2")


async def test_an_api_that_reviews_no_tokens_is_said() -> None:
    world = await settled()
    forget_certificate(world, "demo-0")

    async def forbidden(token: str, audience: str) -> dict[str, object]:
        raise ApiError("tokenreviews is forbidden", 403)

    world.review_token = forbidden  # type: ignore[method-assign]
    await world.one_pass()
    assert message(world, "TLSReady") == "demo-0: tokenreviews is forbidden"


async def test_a_pod_that_ends_is_asked_for_nothing() -> None:
    world = await settled()
    forget_certificate(world, "demo-1")
    pod = world.child("Pod", "demo-1")
    world.edit({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-11-01T00:00:00Z"}})
    reviews = list(world.reviews)
    await world.one_pass()
    assert world.reviews == reviews
    assert world.condition("TLSReady") == ("False", "Enrolling")


async def test_certificates_are_issued_anew_after_two_thirds_of_their_life() -> None:
    world = await settled()
    before = {name: serial(world, name) for name in world.volumes}
    world.pass_time(days=59)
    await world.settle()
    assert {name: serial(world, name) for name in world.volumes} == before

    world.pass_time(days=2)
    await world.settle()
    assert all(serial(world, name) != before[name] for name in world.volumes)
    assert world.condition("TLSReady")[0] == "True"


async def test_a_new_authority_is_trusted_before_it_signs_and_every_member_follows() -> None:
    world = await settled()
    world.reconciler._settings = replace(world.settings, certificate_life=timedelta(days=3650 * 3))
    bundle = world.bundle
    world.pass_time(days=2434)
    await world.settle()
    assert world.bundle.count(b"BEGIN CERTIFICATE") == 2
    assert bundle in world.bundle
    before = {name: serial(world, name) for name in world.volumes}
    text = world.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]

    world.pass_time(days=2)
    await world.settle()

    assert all(serial(world, name) != before[name] for name in world.volumes)
    signed_anew = world.child("ConfigMap", names.membership(CLUSTER))["data"][names.MEMBERSHIP_KEY]
    assert signed_anew != text
    assert world.condition("Ready")[0] == "True"


async def test_a_pass_gives_no_more_certificates_than_its_bound_and_those_without_one_come_first() -> None:
    world = World(Settings(member_image="m:1", enrolments_max=2), replicas=3)
    world.run_controllers()
    await world.one_pass()
    await world.one_pass()
    assert len(world.reviews) == 2
    await world.settle()
    assert world.condition("TLSReady")[0] == "True"

    world.pass_time(days=61)
    forget_certificate(world, "demo-2")
    world.reviews.clear()
    await world.one_pass()
    assert [token.partition("/")[0] for token, _ in world.reviews] == [f"{TOKEN_PREFIX}demo-2", f"{TOKEN_PREFIX}demo-0"]


async def test_a_paused_cluster_enrols_nobody() -> None:
    world = await settled()
    world.annotate(**{names.PAUSED_ANNOTATION.replace("/", "__"): "true"})
    forget_certificate(world, "demo-1")
    reviews = list(world.reviews)
    await world.settle()
    assert world.reviews == reviews
    assert world.condition("TLSReady") == ("False", "Enrolling")


async def test_a_silent_member_is_unknown_and_its_certificate_is_remembered() -> None:
    world = await settled()
    world.members["demo-2"].reachable = False
    await world.settle()
    assert world.condition("TLSReady") == ("Unknown", "MembersUnreachable")
    kept = next(item for item in world.resource["status"]["members"] if item["name"] == "demo-2")
    assert kept["certificateExpires"] == "2027-01-30T00:00:00Z"


@pytest.mark.parametrize(("given", "image"), [(None, "wavekv-sidecar:2"), ("wavekv-sidecar:1b", "wavekv-sidecar:1b")])
async def test_members_that_shared_a_certificate_are_rolled_once_onto_an_image_that_enrols(
    given: str | None, image: str
) -> None:
    world = await settled(**({} if given is None else {"image": given}))
    live = world.child("StatefulSet", CLUSTER)
    template = live["spec"]["template"]
    container = {**template["spec"]["containers"][0], "args": ["serve", "--tls-cert", "/etc/wavekv/tls/tls.crt"]}
    old = {**template, "spec": {**template["spec"], "containers": [container]}}
    world.edit({**live, "metadata": dict(live["metadata"]), "spec": {**live["spec"], "template": old}})
    world.reconciler._settings = replace(world.settings, member_image="wavekv-sidecar:2")
    await world.settle()
    rolled = world.child("StatefulSet", CLUSTER)["spec"]["template"]["spec"]["containers"][0]
    assert rolled["image"] == image
    assert "--enrol-token" in rolled["args"]
