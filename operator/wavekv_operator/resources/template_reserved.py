"""What of a pod template is the member's own, refused whatever the operator allows.

Names and ports, and every way to the member's key, its volume or its token.

The key is on the member's volume, the authority's in a Secret; who had either could speak as a member or make members.
So no template names them: not this cluster's nor another's of the namespace, by no kind of reference, in no container.
Whoever may read Secrets, or attach debug containers to pods, reaches them without a template: that is said in
docs/kubernetes.md.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from wavekv_operator import names

ROOT = "spec.template"
CONTAINER_LISTS = ("initContainers", "containers")
Refusal = tuple[str, str]
"""A path, and what is wrong there."""

_SECRET_NAMES = frozenset({"secretName"})
_SECRET_REFERENCES = frozenset({"secret", "secretRef", "secretKeyRef", "nodePublishSecretRef", "imagePullSecrets"})
_CLAIM_NAMES = frozenset({"claimName"})
_DATA_SOURCES = frozenset({"dataSource", "dataSourceRef"})
_TAKEN = f"is taken: names with {names.RESERVED_PREFIX} belong to the member"
_OF_A_CLUSTER = "is not allowed: Secrets of that name hold the keys of a WaveKV cluster, this one or another"
_OF_A_MEMBER = "is not allowed: claims of that name hold the data and the key of a member"


def reserved(template: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield what a template takes that is the member's own."""
    spec = template.get("spec") or {}
    yield from _metadata(template.get("metadata") or {})
    yield from _references(spec, f"{ROOT}.spec", "spec")
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(volume, f"{ROOT}.spec.volumes[{index}]")
    for kind in CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"{ROOT}.spec.{kind}[{index}]")
    if spec.get("restartPolicy") not in {None, "Always"}:
        yield f"{ROOT}.spec.restartPolicy", "has to be Always: the pods are a StatefulSet's"


def _metadata(metadata: Mapping[str, Any]) -> Iterator[Refusal]:
    for kind in ("labels", "annotations"):
        for key in sorted(metadata.get(kind) or ()):
            if key.startswith(f"{names.GROUP}/"):
                yield f"{ROOT}.metadata.{kind}.{key}", f"is taken: {names.GROUP}/ belongs to the operator"
            if kind == "annotations" and key.rpartition("/")[2] == names.CONTAINER and key != names.CONTAINER:
                yield f"{ROOT}.metadata.{kind}.{key}", f"is taken: {names.CONTAINER} is the member's container"


def _references(value: Any, path: str, key: str) -> Iterator[Refusal]:
    """Yield references to Secrets and claims of ours, wherever they are: kinds of volumes come and go."""
    if isinstance(value, Mapping):
        if key in _SECRET_REFERENCES and names.is_reserved_secret(str(value.get("name", ""))):
            yield f"{path}.name", _OF_A_CLUSTER
        if key in _DATA_SOURCES and names.is_reserved_claim(str(value.get("name", ""))):
            yield f"{path}.name", _OF_A_MEMBER
        for field, inner in value.items():
            if field in _SECRET_NAMES and names.is_reserved_secret(str(inner)):
                yield f"{path}.{field}", _OF_A_CLUSTER
            elif field in _CLAIM_NAMES and names.is_reserved_claim(str(inner)):
                yield f"{path}.{field}", _OF_A_MEMBER
            else:
                yield from _references(inner, f"{path}.{field}", field)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, f"{path}[{index}]", key)


def _volume(volume: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    if _is_ours(volume.get("name")):
        yield f"{path}.name", _TAKEN
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}
    for kind in ("labels", "annotations"):
        for key in sorted((claim.get("metadata") or {}).get(kind) or ()):
            if key.startswith(f"{names.GROUP}/"):
                where = f"{path}.ephemeral.volumeClaimTemplate.metadata.{kind}.{key}"
                yield where, f"is taken: {names.GROUP}/ belongs to the operator"
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        audience = (source.get("serviceAccountToken") or {}).get("audience")
        if str(audience or "").lower().startswith(f"{names.GROUP}/"):
            where = f"{path}.projected.sources[{index}].serviceAccountToken.audience"
            yield where, "is taken: by such a token a member shows the operator what it is"


def _container(container: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    if container.get("name") == names.CONTAINER:
        yield f"{path}.name", f"is taken: {names.CONTAINER} is the member's container"
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        yield from _mount(mount, f"{path}.volumeMounts[{index}]")
    for index, device in enumerate(container.get("volumeDevices") or ()):
        if _is_ours(device.get("name")):
            yield f"{path}.volumeDevices[{index}].name", "is not allowed: only the member mounts its volumes"
    for index, variable in enumerate(container.get("env") or ()):
        reference = (variable.get("valueFrom") or {}).get("fileKeyRef") or {}
        if _is_ours(reference.get("volumeName")):
            where = f"{path}.env[{index}].valueFrom.fileKeyRef.volumeName"
            yield where, "is not allowed: only the member mounts its volumes"
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("containerPort") in names.PORTS:
            used = f"is taken: the member uses {names.PORTS[0]} … {names.PORTS[-1]}"
            yield f"{path}.ports[{index}].containerPort", used
        if _is_ours(port.get("name")):
            yield f"{path}.ports[{index}].name", _TAKEN


def _mount(mount: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    if _is_ours(mount.get("name")):
        yield f"{path}.name", "is not allowed: only the member mounts its volumes"
    where = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
    if where == names.SOCKET_MOUNT or where.startswith(f"{names.SOCKET_MOUNT}/"):
        yield f"{path}.mountPath", "is taken: the member's socket is there"
    for field in ("subPath", "subPathExpr"):
        inner = str(mount.get(field) or "")
        if inner.startswith("/") or ".." in inner.split("/"):
            yield f"{path}.{field}", "has to stay inside the volume"


def _is_ours(name: Any) -> bool:
    return str(name or "").startswith(names.RESERVED_PREFIX)
