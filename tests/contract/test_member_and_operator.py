"""What the two packages have to agree on without importing each other: flags, paths, ports, documents, certificates."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography import x509

from wavekv import config
from wavekv.cli.root import cli
from wavekv.cli.serve_settings import ServeFlags, settings_from
from wavekv.core import membership
from wavekv.core.types import U32_MAX
from wavekv.peers import identity, keys
from wavekv.peers.signatures import signed_epoch
from wavekv.runtime.epoch_file import canonical, parse_document
from wavekv_operator import enrolment, names, signatures, tls
from wavekv_operator.membership import Document
from wavekv_operator.resources.pod import member_container, pod_template
from wavekv_operator.spec import (
    EPOCH_JUMP_MAX,
    EPOCH_MAX,
    LEAST,
    LIMIT_FIELDS,
    MOST,
    OVERRIDE_EPOCH_MAX,
    REPLICAS_MAX,
    Cluster,
    MemberLimits,
    read_cluster,
)

NOW = datetime.now(UTC)
CLUSTER_ID = names.cluster_id("shop", "demo")


def cluster(**spec: Any) -> Cluster:
    metadata = {"name": "demo", "namespace": "shop", "uid": "u-1", "generation": 1}
    return read_cluster({"metadata": metadata, "spec": spec})


def serve_command() -> click.Command:
    command = cli.get_command(click.Context(cli), "serve")
    assert command is not None
    return command


def parsed(**spec: Any) -> ServeFlags:
    """Return the flags of a member's container as the member reads them, POD_NAME put in as the kubelet does."""
    container = member_container(cluster(**spec), "wavekv:1", None)
    name, *arguments = [text.replace("$(POD_NAME)", "demo-0") for text in container["args"]]
    assert name == "serve"
    context = serve_command().make_context("serve", arguments)
    context.params.pop("log_format")
    context.params.pop("log_level")
    return ServeFlags(**context.params)


def test_the_member_understands_every_flag_that_a_pod_gives_it() -> None:
    settings = settings_from(parsed(member={"gossipIntervalMs": 250, "fsyncMode": "inline", "logLevel": "debug"}))
    assert settings.name == "demo-0"
    assert settings.cluster_id == names.cluster_id("shop", "demo")
    assert settings.gossip.interval_ms == 250
    assert settings.wal.fsync_mode == "inline"
    assert str(settings.socket) == names.SOCKET
    assert not settings.insecure_peers


def test_ports_are_those_the_member_listens_on_by_default() -> None:
    settings = settings_from(parsed())
    assert {address.port for address in settings.listen} == {names.HTTP_PORT}
    assert {address.port for address in settings.resp_listen} == {names.RESP_PORT}
    assert settings.peer_listen.port == names.PEER_PORT
    assert settings.metrics_listen.port == names.METRICS_PORT


def test_files_of_the_pod_are_where_the_flags_say() -> None:
    spec = pod_template(cluster(), "wavekv:1", None)["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    flags = parsed()
    assert flags.tls_ca is not None
    assert flags.enrol_token is not None
    assert (flags.tls_cert, flags.tls_key) == (None, None), "the member makes its key itself"
    assert flags.membership is not None
    assert flags.socket is not None
    assert Path(mounts[names.TLS_VOLUME]) == flags.tls_ca.parent == flags.enrol_token.parent
    (trusted,) = [volume for volume in spec["volumes"] if volume["name"] == names.TLS_VOLUME]
    config_map, token = trusted["projected"]["sources"]
    assert config_map["configMap"]["items"][0]["path"] == flags.tls_ca.name
    assert token["serviceAccountToken"]["path"] == flags.enrol_token.name
    assert Path(mounts[names.MEMBERSHIP_VOLUME]) == flags.membership.parent
    assert Path(mounts[names.SOCKET_VOLUME]) == flags.socket.parent
    assert Path(mounts[names.DATA_VOLUME]) in flags.data_dir.parents


def test_the_member_reads_the_membership_that_the_operator_writes() -> None:
    written = Document(3, ("demo-0", "demo-1"), {"demo-0": 1, "demo-1": 3}, bootstrap=True)
    document = parse_document(json.loads(json.dumps(written.body(cluster()))), "membership.json")
    assert (document.epoch.number, document.epoch.members, document.epoch.bootstrap) == (3, written.members, True)
    assert document.cluster_id == names.cluster_id("shop", "demo")
    assert dict(document.epoch.admitted) == {"demo-0": 1, "demo-1": 3}
    assert document.peer_url == "https://{name}.demo-peers.shop.svc:7072"


def authority() -> tls.Secrets:
    return tls.secrets(CLUSTER_ID, tls.Secrets({}, {}), NOW, tls.Lives(timedelta(days=1), timedelta(days=9)))


def test_the_member_believes_the_epochs_that_the_operator_signs(tmp_path: Path) -> None:
    issued, bundle = authority(), tmp_path / "ca.crt"
    bundle.write_bytes(issued.bundle)
    written = Document(3, ("demo-0", "démo-1"), {"demo-0": 1, "démo-1": 3})
    body = dict(signatures.signed(written.body(cluster()), None, tls.authority(issued)))
    assert signatures.canonical(body) == canonical(body)
    epoch = signed_epoch(json.dumps(body).encode(), bundle, CLUSTER_ID)
    assert epoch is not None
    assert (epoch.number, epoch.members) == (3, written.members)
    changed = json.dumps({**body, "epoch": 4}).encode()
    assert signed_epoch(changed, bundle, CLUSTER_ID) is None
    bundle.write_bytes(authority().bundle)
    assert signed_epoch(json.dumps(body).encode(), bundle, CLUSTER_ID) is None


def test_the_operator_answers_the_request_that_a_member_makes_and_the_member_is_who_it_says() -> None:
    issued = authority()
    pod = {"metadata": {"name": "demo-0", "namespace": "shop", "uid": "u"}, "spec": {}}
    who = enrolment.applicant(CLUSTER_ID, "demo", pod, "cluster.local")
    asked = enrolment.Application("demo-0", CLUSTER_ID, keys.new_key(CLUSTER_ID, "demo-0").request.decode(), "t")
    made = enrolment.certificate(who, asked, tls.authority(issued), now=NOW, life=timedelta(days=1))
    shown = identity.identify(decoded(made.encode()), CLUSTER_ID)
    assert (shown.role, shown.names) == ("member", {"demo-0"})
    operator = identity.identify(decoded(issued.operator[names.CERT_KEY]), CLUSTER_ID)
    assert (operator.role, operator.names) == ("operator", frozenset())


def decoded(pem: bytes) -> dict[str, Any]:
    """Return a certificate's names as `ssl` decodes them."""
    sans = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kinds = {x509.UniformResourceIdentifier: "URI", x509.DNSName: "DNS"}
    return {"subjectAltName": tuple((kinds[type(item)], item.value) for item in sans)}


def test_epochs_have_the_same_bounds_on_both_sides() -> None:
    assert EPOCH_MAX == membership.EPOCH_MAX
    assert EPOCH_JUMP_MAX == membership.EPOCH_JUMP_MAX
    assert OVERRIDE_EPOCH_MAX + EPOCH_JUMP_MAX == EPOCH_MAX, "members of an overridden epoch can be led on"
    assert REPLICAS_MAX == membership.MEMBERS_MAX


def test_the_largest_cluster_is_one_that_members_take() -> None:
    largest = cluster(replicas=REPLICAS_MAX)
    written = Document(1, largest.wanted, dict.fromkeys(largest.wanted, 1))
    assert len(parse_document(written.body(largest), "membership.json").epoch.members) == REPLICAS_MAX


def test_options_default_to_the_members_own() -> None:
    options, member = cluster().options, config.GossipSettings()
    assert options.gossip_interval_ms == member.interval_ms
    assert options.fsync_mode == config.WalSettings().fsync_mode
    assert U32_MAX < 2**63, "node ids fit the status's int64"


def test_limits_default_to_the_members_own_and_have_its_bounds() -> None:
    member = config.Limits()
    usual = MemberLimits(member.entries_max, member.bytes_max, member.key_bytes_max, member.value_bytes_max)
    assert MemberLimits() == usual
    assert (LEAST.size_bytes, MOST.size_bytes) == (config.BYTES_LEAST, config.BYTES_MOST)
    assert MOST.entries == config.ENTRIES_MOST
    assert (MOST.key_bytes, MOST.value_bytes) == (member.wire_key_bytes_max, member.wire_value_bytes_max)


@pytest.mark.parametrize("bound", [LEAST, MOST])
def test_the_member_takes_limits_at_the_bounds_of_the_definition(bound: MemberLimits) -> None:
    given = {name: getattr(bound, attribute) for attribute, name in LIMIT_FIELDS.items()}
    limits = settings_from(parsed(limits=given)).limits
    read = MemberLimits(limits.entries_max, limits.bytes_max, limits.key_bytes_max, limits.value_bytes_max)
    assert read == bound
