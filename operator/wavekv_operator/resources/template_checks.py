"""What a pod template may ask for, as a list of what is allowed: whatever is not on it is refused, with its path.

The list is Kubernetes' Pod Security standard "baseline", narrower for volumes. A WaveKVCluster is written by somebody
who may create pods, so this is no boundary against them; it keeps a shared operator from building, with its own rights,
pods that reach out of their sandbox. `--allow-unsafe-templates` lifts it, but not what is the member's own
(`template_reserved`), and not the bounds of the schema: a field that Kubernetes does not know is a mistake or a trick.
A list of what is forbidden was turned down: each new field of Kubernetes would be a hole until somebody noticed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from wavekv_operator.errors import InvalidSpec
from wavekv_operator.resources.template_reserved import CONTAINER_LISTS, ROOT, Refusal, reserved

_METADATA = frozenset({"labels", "annotations"})
_POD = frozenset(
    {
        "affinity",
        "automountServiceAccountToken",
        "containers",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "hostAliases",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "hostname",
        "imagePullSecrets",
        "initContainers",
        "nodeSelector",
        "os",
        "overhead",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "resourceClaims",
        "resources",
        "restartPolicy",
        "runtimeClassName",
        "schedulerName",
        "schedulingGates",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "subdomain",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
    }
)
_HOST_SWITCHES = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
_VOLUMES = frozenset(
    {"name", "configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "ephemeral"}
)
_PROJECTED = frozenset({"configMap", "secret", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"})
_EPHEMERAL = frozenset({"accessModes", "resources", "storageClassName", "volumeAttributesClassName", "volumeMode"})
"""Of an ephemeral volume's claim: nothing that names a volume, or the data of another claim."""
_POD_SECURITY = frozenset(
    {
        "appArmorProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seLinuxChangePolicy",
        "seLinuxOptions",
        "seccompProfile",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "sysctls",
        "windowsOptions",
    }
)
_SECURITY = frozenset(
    {
        "allowPrivilegeEscalation",
        "appArmorProfile",
        "capabilities",
        "privileged",
        "procMount",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seLinuxOptions",
        "seccompProfile",
        "windowsOptions",
    }
)
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
_PROFILE_ANNOTATIONS = ("container.apparmor.security.beta.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/")
_PROFILE_VALUES = ("runtime/default", "docker/default", "localhost/")

_NOT_ALLOWED = "is not allowed"


def check_template(template: Mapping[str, Any], *, allow_unsafe: bool) -> None:
    """Check a template.

    Raises:
        InvalidSpec: with the path of the first thing that is refused, and reason `TemplateRefused`.
    """
    found = next(_refusals(template, allow_unsafe=allow_unsafe), None)
    if found is not None:
        path, why = found
        raise InvalidSpec(path, why, reason="TemplateRefused")


def _refusals(template: Mapping[str, Any], *, allow_unsafe: bool) -> Iterator[Refusal]:
    yield from _unknown(template, _schema(), ROOT)  # first: what follows may lean on the types
    yield from reserved(template)
    if not allow_unsafe:
        yield from _outside(template.get("metadata") or {}, _METADATA, f"{ROOT}.metadata")
        yield from _annotations(template)
        yield from _pod(template.get("spec") or {}, f"{ROOT}.spec")


# ---- shape -----------------------------------------------------------------------------------------------------------


@cache
def _schema() -> Mapping[str, Any]:
    text = resources.files("wavekv_operator").joinpath("pod_template_schema.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


def _unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    """Yield what the schema does not know: fields, and values of another type than a field has."""
    if value is None:
        return
    if schema.get("type") == "array":
        if isinstance(value, list):
            for index, item in enumerate(value):
                if item is None:
                    yield f"{path}[{index}]", "may not be null"
                yield from _unknown(item, schema["items"], f"{path}[{index}]")
        else:
            yield path, "has to be a list"
    elif schema.get("type") == "object":
        if isinstance(value, Mapping):
            yield from _unknown_fields(value, schema, path)
        else:
            yield path, "has to be an object"
    elif isinstance(value, Mapping | list):
        yield path, "has to be a single value"


def _unknown_fields(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    fields = schema.get("properties", {})
    for key, inner in value.items():
        below = fields.get(key, schema.get("additionalProperties"))
        if below is None:
            yield f"{path}.{key}", "is no field of a pod template"
        else:
            yield from _unknown(inner, below, f"{path}.{key}")


def _outside(value: Mapping[str, Any], allowed: frozenset[str], path: str) -> Iterator[Refusal]:
    for key in value:
        if key not in allowed and value[key] is not None:
            yield f"{path}.{key}", _NOT_ALLOWED


# ---- the pod ---------------------------------------------------------------------------------------------------------


def _annotations(template: Mapping[str, Any]) -> Iterator[Refusal]:
    for key, value in ((template.get("metadata") or {}).get("annotations") or {}).items():
        if key.startswith(_PROFILE_ANNOTATIONS) and not str(value).startswith(_PROFILE_VALUES):
            yield f"{ROOT}.metadata.annotations.{key}", _NOT_ALLOWED


def _pod(spec: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    for switch in _HOST_SWITCHES:
        if spec.get(switch):
            yield f"{path}.{switch}", "is not allowed: the pod would share it with the host or between containers"
    if spec.get("nodeName"):
        yield f"{path}.nodeName", "is not allowed; use nodeSelector or affinity"
    yield from _outside(spec, _POD, path)
    security = spec.get("securityContext") or {}
    yield from _outside(security, _POD_SECURITY, f"{path}.securityContext")
    yield from _confinement(security, f"{path}.securityContext")
    for index, sysctl in enumerate(security.get("sysctls") or ()):
        if sysctl.get("name") not in _SYSCTLS:
            yield f"{path}.securityContext.sysctls[{index}]", "is not allowed: it changes the kernel beyond the pod"
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(volume, f"{path}.volumes[{index}]")
    for kind in CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"{path}.{kind}[{index}]")


def _volume(volume: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    yield from _outside(volume, _VOLUMES, path)
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        yield from _outside(source, _PROJECTED, f"{path}.projected.sources[{index}]")
    claim = ((volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec") or {}
    yield from _outside(claim, _EPHEMERAL, f"{path}.ephemeral.volumeClaimTemplate.spec")


# ---- containers ------------------------------------------------------------------------------------------------------


def _container(container: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    security, inside = container.get("securityContext") or {}, f"{path}.securityContext"
    yield from _outside(security, _SECURITY, inside)
    yield from _confinement(security, inside)
    if security.get("privileged"):
        yield f"{inside}.privileged", _NOT_ALLOWED
    if security.get("procMount") not in {None, "Default"}:
        yield f"{inside}.procMount", _NOT_ALLOWED
    for name in (security.get("capabilities") or {}).get("add") or ():
        if name not in _CAPABILITIES:
            yield f"{inside}.capabilities.add", f"is not allowed: {name}"
    for index, port in enumerate(container.get("ports") or ()):
        for field in ("hostPort", "hostIP"):
            if port.get(field):
                yield f"{path}.ports[{index}].{field}", "is not allowed; make a Service"
    yield from _handlers(container, path)


def _handlers(container: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    """Yield probes and hooks that have the kubelet ask another host than the pod."""
    asked = [(f"{path}.{name}", container.get(name) or {}) for name in _PROBES]
    lifecycle = container.get("lifecycle") or {}
    asked += [(f"{path}.lifecycle.{name}", lifecycle.get(name) or {}) for name in _HOOKS]
    for where, handler in asked:
        for kind in ("httpGet", "tcpSocket"):
            if (handler.get(kind) or {}).get("host"):
                yield f"{where}.{kind}.host", "is not allowed: only the pod itself is asked"


def _confinement(security: Mapping[str, Any], path: str) -> Iterator[Refusal]:
    """Yield what loosens the confinement of a pod or of a container."""
    for kind in ("seccompProfile", "appArmorProfile"):
        profile = security.get(kind)
        if profile is not None and profile.get("type") not in _PROFILES:
            yield f"{path}.{kind}.type", f"is not allowed; {_or(sorted(_PROFILES))} is"
    labels = security.get("seLinuxOptions") or {}
    if (labels.get("type") or "") not in _SELINUX_TYPES:
        yield f"{path}.seLinuxOptions.type", f"is not allowed; {_or(sorted(filter(None, _SELINUX_TYPES)))} is"
    for field in ("user", "role"):
        if labels.get(field):
            yield f"{path}.seLinuxOptions.{field}", _NOT_ALLOWED
    if (security.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess", _NOT_ALLOWED


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)
