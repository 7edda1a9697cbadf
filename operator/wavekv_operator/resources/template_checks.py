"""What a pod template may not ask for, each with its path: access to the host, and what the member uses itself.

A WaveKVCluster is written by somebody who may create pods, so this is no boundary against them; it keeps a shared
operator from building, with its own rights, pods that reach out of their sandbox. `--allow-unsafe-templates` lifts the
first group, never the second.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from wavekv_operator import names
from wavekv_operator.errors import InvalidSpec

_TEMPLATE = "spec.template"
_CONTAINER_LISTS = ("initContainers", "containers")
_HOST_SWITCHES = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")


def check_template(template: Mapping[str, Any], *, allow_unsafe: bool) -> None:
    """Check a template.

    Raises:
        InvalidSpec: with the path of the first thing that is refused, and reason `TemplateRefused`.
    """
    refusals = list(_collisions(template))
    if not allow_unsafe:
        refusals += _host_access(template.get("spec") or {})
    if refusals:
        path, why = refusals[0]
        raise InvalidSpec(path, why, reason="TemplateRefused")


def _host_access(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    root = f"{_TEMPLATE}.spec"
    for switch in _HOST_SWITCHES:
        if spec.get(switch):
            yield f"{root}.{switch}", "is not allowed: the pod would share it with the host or between containers"
    if spec.get("nodeName"):
        yield f"{root}.nodeName", "is not allowed; use nodeSelector or affinity"
    if (spec.get("securityContext") or {}).get("sysctls"):
        yield f"{root}.securityContext.sysctls", "is not allowed: it changes the kernel for the pod"
    for index, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("hostPath") is not None:
            yield f"{root}.volumes[{index}].hostPath", "is not allowed: it gives the pod the host's files"
    for path, container in _containers(spec):
        yield from _container_access(path, container)


def _container_access(path: str, container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    security = container.get("securityContext") or {}
    if security.get("privileged"):
        yield f"{path}.securityContext.privileged", "is not allowed"
    if (security.get("capabilities") or {}).get("add"):
        yield f"{path}.securityContext.capabilities.add", "is not allowed"
    if security.get("procMount") not in {None, "Default"}:
        yield f"{path}.securityContext.procMount", "is not allowed"
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield f"{path}.ports[{index}].hostPort", "is not allowed; make a Service"


def _collisions(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spec = template.get("spec") or {}
    for kind in ("labels", "annotations"):
        for key in sorted((template.get("metadata") or {}).get(kind) or ()):
            if key.startswith(f"{names.GROUP}/"):
                yield f"{_TEMPLATE}.metadata.{kind}.{key}", f"is taken: {names.GROUP}/ belongs to the operator"
    for index, volume in enumerate(spec.get("volumes") or ()):
        if str(volume.get("name", "")).startswith(names.RESERVED_PREFIX):
            path = f"{_TEMPLATE}.spec.volumes[{index}].name"
            yield path, f"is taken: names with {names.RESERVED_PREFIX} belong to the member"
    for path, container in _containers(spec):
        yield from _container_collisions(path, container)
    if spec.get("restartPolicy") not in {None, "Always"}:
        yield f"{_TEMPLATE}.spec.restartPolicy", "has to be Always: the pods are a StatefulSet's"


def _container_collisions(path: str, container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if container.get("name") == names.CONTAINER:
        yield f"{path}.name", f"is taken: {names.CONTAINER} is the member's container"
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") == names.DATA_VOLUME:
            yield f"{path}.volumeMounts[{index}].name", "is not allowed: only the member mounts its volume"
        if str(mount.get("mountPath", "")).rstrip("/") == names.SOCKET_MOUNT:
            yield f"{path}.volumeMounts[{index}].mountPath", "is taken: the member's socket is there"
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("containerPort") in names.PORTS:
            yield (
                f"{path}.ports[{index}].containerPort",
                f"is taken: the member uses {names.PORTS[0]} … {names.PORTS[-1]}",
            )
        if str(port.get("name", "")).startswith(names.RESERVED_PREFIX):
            yield f"{path}.ports[{index}].name", f"is taken: names with {names.RESERVED_PREFIX} belong to the member"


def _containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield f"{_TEMPLATE}.spec.{kind}[{index}]", container
