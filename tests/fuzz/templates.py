"""Pod templates made of an input: fields of the API in places of the API, so that what is looked at is the check.

The API server takes only what the schema of the custom resource allows, so an input chooses fields and values by number
and never makes a shape that could not arrive.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from wavekv_operator.errors import InvalidSpec
from wavekv_operator.resources.template_checks import check_template

_TEXTS: Final = (
    "", "a", "data", "wavekv", "wavekv-tls", "/etc", "/", "Unconfined", "RuntimeDefault", "Localhost", "Unmasked",
    "Default", "SYS_ADMIN", "ALL", "NET_BIND_SERVICE", "127.0.0.1", "kernel.shm_rmid_forced", "spc_t", "node-1",
)  # fmt: skip
_NUMBERS: Final = (0, 1, 80, 7070, 7072, 65535)
_DEPTH_MAX: Final = 12


class _Choices:
    """Numbers drawn from the bytes of an input; zeros at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, count: int) -> int:
        value = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return value % count

    def text(self) -> str:
        return _TEXTS[self.below(len(_TEXTS))]

    def number(self) -> int:
        return _NUMBERS[self.below(len(_NUMBERS))]

    def flag(self) -> bool:
        return bool(self.below(2))


Make = Callable[[_Choices, int], Any]


def _text(choices: _Choices, _: int) -> Any:
    return choices.text()


def _number(choices: _Choices, _: int) -> Any:
    return choices.number()


def _flag(choices: _Choices, _: int) -> Any:
    return choices.flag()


def _some(make: Make) -> Make:
    return lambda choices, depth: [make(choices, depth + 1) for _ in range(choices.below(3))]


def _object(fields: dict[str, Make]) -> Make:
    names = tuple(fields)

    def make(choices: _Choices, depth: int) -> Any:
        if depth > _DEPTH_MAX or not names:
            return {}
        chosen = {names[choices.below(len(names))] for _ in range(choices.below(5))}
        return {name: fields[name](choices, depth + 1) for name in sorted(chosen)}

    return make


_SHARED_SECURITY: Final[dict[str, Make]] = {
    "runAsUser": _number,
    "seLinuxOptions": _object({"type": _text, "user": _text, "role": _text}),
    "seccompProfile": _object({"type": _text, "localhostProfile": _text}),
    "appArmorProfile": _object({"type": _text}),
    "windowsOptions": _object({"hostProcess": _flag}),
}
_POD_SECURITY: Final = _object(
    {**_SHARED_SECURITY, "sysctls": _some(_object({"name": _text, "value": _text})), "fsGroup": _number}
)
_SECURITY: Final = _object(
    {
        **_SHARED_SECURITY,
        "privileged": _flag,
        "capabilities": _object({"add": _some(_text), "drop": _some(_text)}),
        "procMount": _text,
    }
)
_HANDLER: Final = _object({"httpGet": _object({"host": _text, "port": _number, "path": _text})})
_CONTAINER: Final = _object(
    {
        "name": _text,
        "image": _text,
        "restartPolicy": _text,
        "securityContext": _SECURITY,
        "ports": _some(_object({"containerPort": _number, "hostPort": _number, "name": _text, "hostIP": _text})),
        "env": _some(_object({"name": _text, "valueFrom": _object({"secretKeyRef": _object({"name": _text})})})),
        "envFrom": _some(_object({"secretRef": _object({"name": _text})})),
        "volumeMounts": _some(_object({"name": _text, "mountPath": _text, "subPath": _text})),
        "volumeDevices": _some(_object({"name": _text, "devicePath": _text})),
        "livenessProbe": _HANDLER,
        "lifecycle": _object({"preStop": _HANDLER}),
    }
)
_VOLUME: Final = _object(
    {
        "name": _text,
        "hostPath": _object({"path": _text}),
        "secret": _object({"secretName": _text}),
        "configMap": _object({"name": _text}),
        "emptyDir": _object({}),
        "nfs": _object({"server": _text, "path": _text}),
        "csi": _object({"driver": _text}),
        "flexVolume": _object({"driver": _text}),
        "persistentVolumeClaim": _object({"claimName": _text}),
        "projected": _object({"sources": _some(_object({"secret": _object({"name": _text})}))}),
    }
)
_SPEC: Final = _object(
    {
        "containers": _some(_CONTAINER),
        "initContainers": _some(_CONTAINER),
        "volumes": _some(_VOLUME),
        "securityContext": _POD_SECURITY,
        "hostNetwork": _flag,
        "hostPID": _flag,
        "hostIPC": _flag,
        "shareProcessNamespace": _flag,
        "nodeName": _text,
        "serviceAccountName": _text,
    }
)
TEMPLATE: Final = _object({"metadata": _object({"labels": _object({"a": _text})}), "spec": _SPEC})


def _found(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}", inner
            yield from _found(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, path)


_BASELINE: Final = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
"""Capabilities that Pod Security's "baseline" lets a container add; every runtime gives them anyway."""
_HOST: Final[dict[str, Callable[[Any], bool]]] = {
    "privileged": bool,
    "add": lambda value: not _BASELINE.issuperset(value),
    "hostPort": bool,
    "hostNetwork": bool,
    "hostPID": bool,
    "hostIPC": bool,
    "hostPath": lambda value: value is not None,
    "sysctls": lambda value: any(one.get("name") != "kernel.shm_rmid_forced" for one in value),
    "nodeName": bool,
    "nfs": lambda value: value is not None,
    "csi": lambda value: value is not None,
    "flexVolume": lambda value: value is not None,
    "hostProcess": bool,
    "procMount": lambda value: value not in {None, "Default"},
    "host": bool,
    "seccompProfile": lambda value: value.get("type") == "Unconfined",
    "appArmorProfile": lambda value: value.get("type") == "Unconfined",
}
"""What reaches out of the sandbox wherever it stands, and which values do."""


def check(data: bytes) -> None:
    """Check a template; one that is taken has nothing in it that reaches out of the pod."""
    template = TEMPLATE(_Choices(data), 0)
    try:
        check_template(template, allow_unsafe=False)
    except InvalidSpec:
        return
    for path, value in _found(template):
        reaches = _HOST.get(path.rpartition(".")[2])
        if reaches is not None:
            assert not reaches(value), f"a template was taken with {path} = {value!r}"
