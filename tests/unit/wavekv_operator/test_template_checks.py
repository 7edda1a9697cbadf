"""What a pod template may ask for: one row for each trick, one for each thing that is allowed."""

from typing import Any

import pytest

from wavekv_operator.errors import InvalidSpec
from wavekv_operator.resources.template_checks import check_template

APP: dict[str, Any] = {"name": "app", "image": "app:1"}
AUDIENCE = "wavekv.io/enrolment/11111111-2222-4333-8444-555555555555"
Spec = dict[str, Any]
Row = tuple[Spec, str]


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [APP], **spec}}


def volume(**source: Any) -> Spec:
    return {"volumes": [{"name": "v", **source}]}


def app(**fields: Any) -> Spec:
    return {"containers": [{**APP, **fields}]}


def init(**fields: Any) -> Spec:
    return {"initContainers": [{**APP, "name": "prepare", **fields}]}


def security(**fields: Any) -> Spec:
    return app(securityContext=fields)


def pod_security(**fields: Any) -> Spec:
    return {"securityContext": fields}


def ephemeral(**spec: Any) -> Spec:
    return volume(ephemeral={"volumeClaimTemplate": {"spec": spec}})


HOST: list[Row] = [
    ({"hostNetwork": True}, "hostNetwork"),
    ({"hostPID": True}, "hostPID"),
    ({"hostIPC": True}, "hostIPC"),
    ({"shareProcessNamespace": True}, "shareProcessNamespace"),
    ({"nodeName": "n"}, "nodeName"),
    ({"hostnameOverride": "other"}, "hostnameOverride"),
    ({"activeDeadlineSeconds": 5}, "activeDeadlineSeconds"),
    (app(ports=[{"containerPort": 1, "hostPort": 1}]), "containers[0].ports[0].hostPort"),
    (app(ports=[{"containerPort": 1, "hostIP": "10.0.0.1"}]), "containers[0].ports[0].hostIP"),
]
VOLUMES: list[Row] = [
    ({"volumes": [{"name": "x"}, {"name": "v", "hostPath": {"path": "/"}}]}, "volumes[1].hostPath"),
    (volume(nfs={"server": "s", "path": "/"}), "volumes[0].nfs"),
    (volume(iscsi={"targetPortal": "t", "iqn": "i", "lun": 0}), "volumes[0].iscsi"),
    (volume(csi={"driver": "d"}), "volumes[0].csi"),
    (volume(flexVolume={"driver": "d"}), "volumes[0].flexVolume"),
    (volume(cephfs={"monitors": ["m"]}), "volumes[0].cephfs"),
    (volume(rbd={"monitors": ["m"], "image": "i"}), "volumes[0].rbd"),
    (volume(glusterfs={"endpoints": "e", "path": "p"}), "volumes[0].glusterfs"),
    (volume(fc={"targetWWNs": ["w"]}), "volumes[0].fc"),
    (volume(gitRepo={"repository": "r"}), "volumes[0].gitRepo"),
    (volume(image={"reference": "r"}), "volumes[0].image"),
    (volume(awsElasticBlockStore={"volumeID": "v"}), "volumes[0].awsElasticBlockStore"),
    (volume(azureFile={"secretName": "s", "shareName": "n"}), "volumes[0].azureFile"),
    (volume(emptyDir={}, hostPath={"path": "/"}), "volumes[0].hostPath"),
    (
        volume(projected={"sources": [{"podCertificate": {"signerName": "s", "keyType": "k"}}]}),
        "volumes[0].projected.sources[0].podCertificate",
    ),
    (ephemeral(volumeName="pv-1"), "volumes[0].ephemeral.volumeClaimTemplate.spec.volumeName"),
    (ephemeral(selector={}), "volumes[0].ephemeral.volumeClaimTemplate.spec.selector"),
    (
        ephemeral(dataSource={"kind": "VolumeSnapshot", "name": "s"}),
        "volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource",
    ),
    (
        ephemeral(dataSourceRef={"kind": "PersistentVolumeClaim", "name": "mine"}),
        "volumes[0].ephemeral.volumeClaimTemplate.spec.dataSourceRef",
    ),
]
CONFINEMENT: list[Row] = [
    (security(privileged=True), "containers[0].securityContext.privileged"),
    (
        init(securityContext={"capabilities": {"add": ["NET_ADMIN"]}}),
        "initContainers[0].securityContext.capabilities.add",
    ),
    (security(capabilities={"add": ["CHOWN", "SYS_PTRACE"]}), "containers[0].securityContext.capabilities.add"),
    (security(capabilities={"add": ["ALL"]}), "containers[0].securityContext.capabilities.add"),
    (
        {"containers": [APP, {**APP, "name": "b", "securityContext": {"procMount": "Unmasked"}}]},
        "containers[1].securityContext.procMount",
    ),
    (security(seccompProfile={"type": "Unconfined"}), "containers[0].securityContext.seccompProfile.type"),
    (pod_security(seccompProfile={"type": "Unconfined"}), "securityContext.seccompProfile.type"),
    (security(appArmorProfile={"type": "Unconfined"}), "containers[0].securityContext.appArmorProfile.type"),
    (pod_security(appArmorProfile={"type": "Unconfined"}), "securityContext.appArmorProfile.type"),
    (security(seLinuxOptions={"type": "spc_t"}), "containers[0].securityContext.seLinuxOptions.type"),
    (pod_security(seLinuxOptions={"type": "unconfined_t"}), "securityContext.seLinuxOptions.type"),
    (pod_security(seLinuxOptions={"user": "system_u"}), "securityContext.seLinuxOptions.user"),
    (init(securityContext={"seLinuxOptions": {"role": "r"}}), "initContainers[0].securityContext.seLinuxOptions.role"),
    (security(windowsOptions={"hostProcess": True}), "containers[0].securityContext.windowsOptions.hostProcess"),
    (pod_security(windowsOptions={"hostProcess": True}), "securityContext.windowsOptions.hostProcess"),
    (pod_security(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "securityContext.sysctls[0]"),
    (
        app(livenessProbe={"httpGet": {"port": 1, "host": "10.0.0.1"}}),
        "containers[0].livenessProbe.httpGet.host",
    ),
    (app(readinessProbe={"tcpSocket": {"port": 1, "host": "h"}}), "containers[0].readinessProbe.tcpSocket.host"),
    (init(startupProbe={"httpGet": {"port": 1, "host": "h"}}), "initContainers[0].startupProbe.httpGet.host"),
    (
        app(lifecycle={"postStart": {"httpGet": {"port": 1, "host": "169.254.169.254"}}}),
        "containers[0].lifecycle.postStart.httpGet.host",
    ),
    (
        app(lifecycle={"preStop": {"tcpSocket": {"port": 1, "host": "h"}}}),
        "containers[0].lifecycle.preStop.tcpSocket.host",
    ),
]
SHAPE: list[Row] = [
    ({"ephemeralContainers": [{**APP, "name": "debug"}]}, "ephemeralContainers"),
    ({"somethingNew": True}, "somethingNew"),
    (volume(somethingNew={}), "volumes[0].somethingNew"),
    (security(somethingNew=True), "containers[0].securityContext.somethingNew"),
    (app(command="sh"), "containers[0].command"),
    ({"volumes": {}}, "volumes"),
    ({"volumes": [None]}, "volumes[0]"),
    (app(ports=[{"containerPort": 1}, None]), "containers[0].ports[1]"),
    (app(securityContext=["privileged"]), "containers[0].securityContext"),
    (app(name={"a": "b"}), "containers[0].name"),
]
"""What Kubernetes does not know, refused wherever it is."""

_KEY_OF_AUTHORITY, _DATA = "demo-ca", "wavekv-data-demo-0"
MEMBERS_OWN: list[Row] = [
    (app(name="wavekv"), "containers[0].name"),
    (init(name="wavekv"), "initContainers[0].name"),
    ({"volumes": [{"name": "wavekv-data"}]}, "volumes[0].name"),
    ({"volumes": [{"name": "wavekv-other", "emptyDir": {}}]}, "volumes[0].name"),
    (app(volumeMounts=[{"name": "wavekv-data", "mountPath": "/x"}]), "containers[0].volumeMounts[0].name"),
    (app(volumeMounts=[{"name": "wavekv-tls", "mountPath": "/x"}]), "containers[0].volumeMounts[0].name"),
    (init(volumeMounts=[{"name": "wavekv-tls", "mountPath": "/x"}]), "initContainers[0].volumeMounts[0].name"),
    (
        app(volumeMounts=[{"name": "wavekv-data", "mountPath": "/x", "subPath": "member/tls"}]),
        "containers[0].volumeMounts[0].name",
    ),
    (app(volumeMounts=[{"name": "wavekv-membership", "mountPath": "/x"}]), "containers[0].volumeMounts[0].name"),
    (app(volumeMounts=[{"name": "wavekv-api-access", "mountPath": "/x"}]), "containers[0].volumeMounts[0].name"),
    (
        app(volumeMounts=[{"name": "v", "mountPath": "/x", "subPath": "../etc"}]),
        "containers[0].volumeMounts[0].subPath",
    ),
    (
        app(volumeMounts=[{"name": "v", "mountPath": "/x", "subPathExpr": "a/../../$(B)"}]),
        "containers[0].volumeMounts[0].subPathExpr",
    ),
    (app(volumeMounts=[{"name": "v", "mountPath": "/x", "subPath": "/etc"}]), "containers[0].volumeMounts[0].subPath"),
    (app(volumeMounts=[{"name": "x", "mountPath": "/run/wavekv/"}]), "containers[0].volumeMounts[0].mountPath"),
    (app(volumeMounts=[{"name": "x", "mountPath": "//run//./wavekv"}]), "containers[0].volumeMounts[0].mountPath"),
    (app(volumeMounts=[{"name": "x", "mountPath": "/run/a/../wavekv/s"}]), "containers[0].volumeMounts[0].mountPath"),
    (app(volumeDevices=[{"name": "wavekv-data", "devicePath": "/dev/x"}]), "containers[0].volumeDevices[0].name"),
    (init(volumeDevices=[{"name": "wavekv-data", "devicePath": "/dev/x"}]), "initContainers[0].volumeDevices[0].name"),
    (
        app(env=[{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "wavekv-tls", "path": "p", "key": "k"}}}]),
        "containers[0].env[0].valueFrom.fileKeyRef.volumeName",
    ),
    (volume(secret={"secretName": _KEY_OF_AUTHORITY}), "volumes[0].secret.secretName"),
    (volume(secret={"secretName": "demo-operator-tls"}), "volumes[0].secret.secretName"),
    (volume(secret={"secretName": "demo-member-tls"}), "volumes[0].secret.secretName"),
    (volume(secret={"secretName": "another-ca"}), "volumes[0].secret.secretName"),
    (
        volume(projected={"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "another-operator-tls"}}]}),
        "volumes[0].projected.sources[1].secret.name",
    ),
    (
        app(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": _KEY_OF_AUTHORITY, "key": "ca.key"}}}]),
        "containers[0].env[0].valueFrom.secretKeyRef.name",
    ),
    (
        init(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "demo-operator-tls", "key": "tls.key"}}}]),
        "initContainers[0].env[0].valueFrom.secretKeyRef.name",
    ),
    (app(envFrom=[{"secretRef": {"name": _KEY_OF_AUTHORITY}}]), "containers[0].envFrom[0].secretRef.name"),
    (init(envFrom=[{"secretRef": {"name": "another-ca"}}]), "initContainers[0].envFrom[0].secretRef.name"),
    ({"imagePullSecrets": [{"name": _KEY_OF_AUTHORITY}]}, "imagePullSecrets[0].name"),
    (
        volume(csi={"driver": "d", "nodePublishSecretRef": {"name": _KEY_OF_AUTHORITY}}),
        "volumes[0].csi.nodePublishSecretRef.name",
    ),
    (
        volume(flexVolume={"driver": "d", "secretRef": {"name": _KEY_OF_AUTHORITY}}),
        "volumes[0].flexVolume.secretRef.name",
    ),
    (volume(azureFile={"secretName": _KEY_OF_AUTHORITY, "shareName": "n"}), "volumes[0].azureFile.secretName"),
    (volume(persistentVolumeClaim={"claimName": _DATA}), "volumes[0].persistentVolumeClaim.claimName"),
    (
        volume(persistentVolumeClaim={"claimName": "wavekv-data-another-7", "readOnly": True}),
        "volumes[0].persistentVolumeClaim.claimName",
    ),
    (
        ephemeral(dataSource={"kind": "PersistentVolumeClaim", "name": _DATA}),
        "volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource.name",
    ),
    (
        ephemeral(dataSourceRef={"kind": "PersistentVolumeClaim", "name": _DATA, "namespace": "shop"}),
        "volumes[0].ephemeral.volumeClaimTemplate.spec.dataSourceRef.name",
    ),
    (
        volume(ephemeral={"volumeClaimTemplate": {"metadata": {"labels": {"wavekv.io/cluster": "x"}}, "spec": {}}}),
        "volumes[0].ephemeral.volumeClaimTemplate.metadata.labels.wavekv.io/cluster",
    ),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"audience": AUDIENCE, "path": "t"}}]}),
        "volumes[0].projected.sources[0].serviceAccountToken.audience",
    ),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"audience": AUDIENCE.upper(), "path": "t"}}]}),
        "volumes[0].projected.sources[0].serviceAccountToken.audience",
    ),
    (app(ports=[{"containerPort": 7070}]), "containers[0].ports[0].containerPort"),
    (app(ports=[{"containerPort": 80, "name": "wavekv-peers"}]), "containers[0].ports[0].name"),
    ({"restartPolicy": "OnFailure"}, "restartPolicy"),
]
"""What the member uses, and every way to its key, its volume and its token."""

UNSAFE = HOST + VOLUMES + CONFINEMENT
ALWAYS = SHAPE + MEMBERS_OWN


@pytest.mark.parametrize(("spec", "path"), UNSAFE + ALWAYS, ids=lambda item: item if isinstance(item, str) else "")
def test_a_refused_template_is_named_by_its_path(spec: Spec, path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_template(template(**spec), allow_unsafe=False)
    assert refused.value.path == f"spec.template.spec.{path}"
    assert refused.value.reason == "TemplateRefused"


@pytest.mark.parametrize(("spec", "path"), UNSAFE, ids=lambda item: item if isinstance(item, str) else "")
def test_what_is_unsafe_passes_where_the_operator_allows_it(spec: Spec, path: str) -> None:
    check_template(template(**spec), allow_unsafe=True)
    assert path


@pytest.mark.parametrize(("spec", "path"), ALWAYS, ids=lambda item: item if isinstance(item, str) else "")
def test_what_the_member_uses_stays_refused_all_the_same(spec: Spec, path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_template(template(**spec), allow_unsafe=True)
    assert refused.value.path == f"spec.template.spec.{path}"


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"labels": {"wavekv.io/cluster": "x"}}, "labels.wavekv.io/cluster"),
        ({"annotations": {"wavekv.io/applied": "x"}}, "annotations.wavekv.io/applied"),
        (
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/wavekv": "runtime/default"}},
            "annotations.container.apparmor.security.beta.kubernetes.io/wavekv",
        ),
    ],
)
def test_metadata_of_the_operator_and_of_the_member_is_refused_always(metadata: Spec, path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        check_template({"metadata": metadata, **template()}, allow_unsafe=True)
    assert refused.value.path == f"spec.template.metadata.{path}"


@pytest.mark.parametrize(
    "key",
    ["container.apparmor.security.beta.kubernetes.io/app", "seccomp.security.alpha.kubernetes.io/pod"],
)
def test_an_annotation_that_loosens_a_profile_is_refused(key: str) -> None:
    for value in ("runtime/default", "localhost/mine"):
        check_template({"metadata": {"annotations": {key: value}}, **template()}, allow_unsafe=False)
    with pytest.raises(InvalidSpec, match="annotations"):
        check_template({"metadata": {"annotations": {key: "unconfined"}}, **template()}, allow_unsafe=False)


ALLOWED: list[Spec] = [
    {},
    {"serviceAccountName": "app", "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]},
    {"hostNetwork": False, "hostPID": False, "shareProcessNamespace": False, "hostUsers": False},
    volume(emptyDir={"medium": "Memory"}),
    volume(configMap={"name": "settings"}),
    volume(configMap={"name": "corporate-ca"}),
    volume(secret={"secretName": "mine"}),
    volume(downwardAPI={"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}),
    volume(persistentVolumeClaim={"claimName": "data-of-mine"}),
    volume(
        projected={"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}, {"secret": {"name": "a"}}]}
    ),
    ephemeral(accessModes=["ReadWriteOnce"], storageClassName="fast", resources={"requests": {"storage": "1Gi"}}),
    security(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}, privileged=False),
    security(seccompProfile={"type": "Localhost", "localhostProfile": "p"}, appArmorProfile={"type": "RuntimeDefault"}),
    security(seLinuxOptions={"type": "container_t", "level": "s0:c1"}, procMount="Default"),
    pod_security(sysctls=[{"name": "net.ipv4.tcp_syncookies", "value": "1"}], runAsNonRoot=True, fsGroup=7),
    app(ports=[{"name": "http", "containerPort": 8080}], livenessProbe={"httpGet": {"port": "http", "path": "/"}}),
    app(lifecycle={"preStop": {"exec": {"command": ["sleep", "1"]}}}),
    app(volumeMounts=[{"name": "v", "mountPath": "/run", "subPath": "a/b"}]),
    app(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "k"}}}]),
]


@pytest.mark.parametrize("spec", ALLOWED, ids=str)
def test_an_ordinary_template_passes(spec: Spec) -> None:
    check_template(template(**spec), allow_unsafe=False)
