"""The pod template: where the member stands in it, what the application gets, what it may not ask for."""

from typing import Any

import pytest

from wavekv_operator import names
from wavekv_operator.errors import InvalidSpec
from wavekv_operator.resources.children import client_service, stateful_set
from wavekv_operator.resources.pod import pod_template
from wavekv_operator.spec import Cluster, Manifest, read_cluster


def cluster(**spec: Any) -> Cluster:
    metadata = {"name": "demo", "namespace": "shop", "uid": "u-1", "generation": 1}
    return read_cluster({"metadata": metadata, "spec": spec})


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "app", "image": "app:1"}], **spec}}


def pod(**spec: Any) -> Manifest:
    built: Manifest = pod_template(cluster(template=template(**spec)), "wavekv:1", None)["spec"]
    return built


def member_of(spec: Manifest) -> Manifest:
    found: Manifest = next(
        c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == names.CONTAINER
    )
    return found


def test_the_member_is_the_first_native_sidecar_beside_the_application() -> None:
    spec = pod(initContainers=[{"name": "prepare", "image": "app:1"}])
    assert [c["name"] for c in spec["initContainers"]] == ["wavekv", "prepare"]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    assert [c["name"] for c in spec["containers"]] == ["app"]


def test_without_a_template_the_member_is_the_pods_only_container() -> None:
    spec = pod_template(cluster(), "wavekv:1", "Never")["spec"]
    assert [c["name"] for c in spec["containers"]] == ["wavekv"]
    assert "restartPolicy" not in spec["containers"][0]
    assert spec["containers"][0]["imagePullPolicy"] == "Never"
    assert "initContainers" not in spec


def test_only_the_member_mounts_the_claim_and_its_token() -> None:
    spec = pod(initContainers=[{"name": "prepare", "image": "app:1"}])
    for container in [spec["initContainers"][1], *spec["containers"]]:
        assert [mount["name"] for mount in container["volumeMounts"]] == [names.SOCKET_VOLUME]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env == {"WAVEKV_URL": "http://127.0.0.1:7070", "WAVEKV_SOCKET": "/run/wavekv/wavekv.sock"}


def test_an_application_that_names_the_member_itself_keeps_its_words() -> None:
    given = [{"name": "WAVEKV_URL", "value": "http://[::1]:7070"}]
    spec = pod(containers=[{"name": "app", "image": "app:1", "env": given}])
    assert [v["value"] for v in spec["containers"][0]["env"] if v["name"] == "WAVEKV_URL"] == ["http://[::1]:7070"]


DEFAULT_ARGUMENTS = [
    *("serve", "--data-dir", "/var/lib/wavekv/member", "--name", "$(POD_NAME)"),
    *("--cluster-id", names.cluster_id("shop", "demo"), "--socket", "/run/wavekv/wavekv.sock"),
    *("--membership", "/etc/wavekv/membership/membership.json", "--tls-ca", "/etc/wavekv/tls/ca.crt"),
    *("--enrol-token", "/etc/wavekv/tls/enrolment-token", "--gossip-interval-ms", "1000"),
    *("--fsync-mode", "thread", "--log-level", "info", "--log-format", "json"),
]
"""What clusters run with that were made before there were limits: another list would roll all of them."""


@pytest.mark.parametrize(
    "limits",
    [
        None,
        {},
        {"entries": 1_000_000, "bytes": "1Gi", "keyBytes": 1024, "valueBytes": "1Mi"},
        {"bytes": "1024Mi", "valueBytes": 1 << 20},
        {"bytes": 1 << 30, "valueBytes": "1024Ki"},
    ],
)
def test_limits_at_their_defaults_however_spelled_roll_no_cluster(limits: dict[str, Any] | None) -> None:
    wanted = cluster() if limits is None else cluster(limits=limits)
    arguments = member_of(pod_template(wanted, "wavekv:1", None)["spec"])["args"]
    assert arguments == DEFAULT_ARGUMENTS


def test_limits_that_differ_reach_the_member_as_numbers_behind_its_other_flags() -> None:
    wanted = cluster(limits={"entries": 7, "bytes": "2Gi", "keyBytes": 100, "valueBytes": "64k"})
    arguments = member_of(pod_template(wanted, "wavekv:1", None)["spec"])["args"]
    limits = ["--limit-entries", "7", "--limit-bytes", "2147483648"]
    assert arguments[-8:] == [*limits, "--limit-key-bytes", "100", "--limit-value-bytes", "64000"]


@pytest.mark.parametrize(
    ("field", "taken", "refused"),
    [
        ("entries", (1, 10_000_000), (0, 10_000_001, True, None)),
        ("bytes", ("1Mi", "64Gi", 1 << 20, 64 << 30), ("1023Ki", (1 << 20) - 1, (64 << 30) + 1, "65Gi", "1.5Gi", "")),
        ("keyBytes", (1, 1024), (0, 1025)),
        ("valueBytes", (1, "1Mi", "1k"), (0, -1, "1025Ki", (1 << 20) + 1, "1m")),
    ],
)
def test_a_limit_is_read_at_its_bounds_and_refused_by_name_beyond(
    field: str, taken: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    for value in taken:
        assert cluster(limits={field: value}).limits is not None
    for value in refused:
        with pytest.raises(InvalidSpec) as caught:
            cluster(limits={field: value})
        assert caught.value.path == f"spec.limits.{field}"


def test_the_members_container_is_hardened() -> None:
    security = member_of(pod())["securityContext"]
    assert security == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_the_pod_gets_a_group_unless_the_template_sets_one() -> None:
    assert pod()["securityContext"]["fsGroup"] == 65532
    assert pod(securityContext={"fsGroup": 7, "runAsUser": 1})["securityContext"] == {"fsGroup": 7, "runAsUser": 1}


def test_the_member_is_given_whom_to_trust_and_a_token_that_only_the_operator_takes_and_no_key() -> None:
    spec = pod()
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == names.TLS_VOLUME]
    config_map, token = volume["projected"]["sources"]
    assert config_map["configMap"] == {"name": "demo-authorities", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert token["serviceAccountToken"] == {
        "audience": f"wavekv.io/enrolment/{names.cluster_id('shop', 'demo')}",
        "expirationSeconds": 3600,
        "path": "enrolment-token",
    }
    assert all("secret" not in volume for volume in spec["volumes"])
    mounts = {mount["name"]: mount for mount in member_of(spec)["volumeMounts"]}
    assert mounts[names.TLS_VOLUME]["readOnly"] is True


@pytest.mark.parametrize("wanted", [None, False])
def test_no_container_has_a_token_by_default(wanted: bool | None) -> None:
    spec = pod(**({} if wanted is None else {"automountServiceAccountToken": wanted}))
    assert spec["automountServiceAccountToken"] is False
    assert all(volume["name"] != names.TOKEN_VOLUME for volume in spec["volumes"])


def test_a_token_that_is_asked_for_reaches_the_application_alone() -> None:
    spec = pod(automountServiceAccountToken=True)
    assert spec["automountServiceAccountToken"] is False
    paths = {
        c["name"]: [m["mountPath"] for m in c["volumeMounts"]] for c in [*spec["initContainers"], *spec["containers"]]
    }
    assert names.TOKEN_MOUNT in paths["app"]
    assert names.TOKEN_MOUNT not in paths["wavekv"]


def test_pods_prefer_other_nodes_unless_the_template_says_where() -> None:
    assert pod()["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    assert "topologySpreadConstraints" not in pod(affinity={"podAntiAffinity": {}, "nodeAffinity": {"x": 1}})


def test_labels_of_the_template_are_kept_and_the_watches_label_is_the_operators() -> None:
    given = {"app.kubernetes.io/name": "shop", names.MANAGED_BY_LABEL: "somebody", "tier": "front"}
    built = pod_template(cluster(template={"metadata": {"labels": given}, **template()}), "wavekv:1", None)
    labels = built["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels["tier"]) == ("shop", "front")
    assert labels[names.MANAGED_BY_LABEL] == names.FIELD_MANAGER
    assert labels[names.CLUSTER_LABEL] == "demo"


def test_building_leaves_the_resource_as_it_is() -> None:
    wanted = cluster(template=template(initContainers=[{"name": "prepare", "image": "a"}]))
    first = pod_template(wanted, "wavekv:1", None)
    assert pod_template(wanted, "wavekv:1", None) == first


def test_the_client_service_has_the_named_ports_of_the_application_alone() -> None:
    ports = [
        {"name": "http", "containerPort": 8080},
        {"containerPort": 9},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]
    service = client_service(cluster(template=template(containers=[{"name": "a", "image": "a", "ports": ports}])))
    assert service is not None
    assert [(p["name"], p["port"], p["protocol"]) for p in service["spec"]["ports"]] == [
        ("http", 8080, "TCP"),
        ("dns", 53, "UDP"),
    ]
    assert client_service(cluster(template=template())) is None
    assert client_service(cluster()) is None


def test_volumes_stay_unless_the_resource_says_otherwise() -> None:
    kept = stateful_set(cluster(), 3, "wavekv:1", None)["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    gone = stateful_set(cluster(storage={"whenScaled": "Delete"}), 3, "wavekv:1", None)["spec"]
    assert gone["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete"
