"""A WaveKVCluster under test: making it, waiting for it, reading and writing through its members, breaking them."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import publicsuffixlist
from cryptography import x509

from tests.e2e.kubectl import CommandFailed, Kubernetes, Object, condition

APPLICATION_USER = 10001
PREFIX = "psl/"
# Ends at once when asked to, so that pods go quickly. Number 1 gets only signals that it blocks or handles.
_IDLE = "import signal; signal.pthread_sigmask(0, {15}); signal.sigwait({15})"
READY_SECONDS_MAX = 180
TLS = "/var/lib/wavekv/member/tls"
CERTIFICATE = f"{TLS}/certificate.pem"
"""Where a member keeps its key and its certificate, as seen in its container."""


def rules() -> dict[str, bytes]:
    """Return the entries that importing the Public Suffix List makes."""
    lines = Path(publicsuffixlist.PSLFILE).read_text(encoding="utf-8").splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith("//")]
    return {PREFIX + rule: rule.encode() for rule in kept}


class Cluster:
    """One WaveKVCluster in a namespace of its own."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, name: str) -> None:
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.name = name
        self.container = "application"

    def manifest(self, replicas: int = 3, *, application: str | None = None, **spec: Any) -> Object:
        """Return the resource; `application` is the image of a container that idles beside each member."""
        body: Object = {"replicas": replicas, "storage": {"size": "64Mi"}, **spec}
        if application is not None:
            container = {
                "name": self.container,
                "image": application,
                "command": ["python", "-c", _IDLE],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": APPLICATION_USER,
                    "runAsGroup": APPLICATION_USER,
                },
            }
            body["template"] = {"spec": {"terminationGracePeriodSeconds": 10, "containers": [container]}}
        metadata = {"name": self.name, "namespace": self.namespace}
        return {"apiVersion": "wavekv.io/v1alpha1", "kind": "WaveKVCluster", "metadata": metadata, "spec": body}

    def pod(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"

    # ---- state -------------------------------------------------------------------------------------------------

    @property
    def resource(self) -> Object:
        found = self.kubernetes.get("wkv", self.name, self.namespace)
        assert found is not None, f"{self.namespace}/{self.name} is gone"
        return found

    def settled(self, replicas: int) -> Object | None:
        """Return the resource if it is Ready, Converged and done with everything at that size."""
        resource = self.resource
        status = resource.get("status") or {}
        states = {kind: condition(resource, kind)[0] for kind in ("Ready", "Converged", "Progressing")}
        done = (
            states == {"Ready": "True", "Converged": "True", "Progressing": "False"}
            and status.get("observedGeneration") == resource["metadata"]["generation"]
            and status["replicas"] == status["readyReplicas"] == replicas == resource["spec"]["replicas"]
            and len(status["members"]) == replicas
        )
        return resource if done else None

    def wait_settled(self, replicas: int, deadline: float = READY_SECONDS_MAX) -> Object:
        what = f"{self.name} is Ready, Converged and settled with {replicas} members"
        found: Object = self.kubernetes.eventually(lambda: self.settled(replicas), deadline, what)
        return found

    def wait_condition(self, kind: str, status: str, reason: str, deadline: float = 120) -> str:
        """Return the message of a condition once it has this status and reason."""

        def there() -> str | None:
            found = condition(self.resource, kind)
            return found[2] if found[:2] == (status, reason) else None

        message: str = self.kubernetes.eventually(there, deadline, f"condition {kind} is {status}, {reason}")
        return message

    def member(self, ordinal: int) -> Mapping[str, Any]:
        """Return what the status says of a member."""
        return next(item for item in self.resource["status"]["members"] if item["name"] == self.pod(ordinal))

    def scale(self, replicas: int) -> None:
        self.kubernetes.run("scale", "wkv", self.name, "-n", self.namespace, f"--replicas={replicas}")

    def certificate(self, ordinal: int) -> x509.Certificate:
        """Return the certificate that a member keeps on its volume; its key does not leave the pod."""
        script = f"import sys; sys.stdout.write(open({CERTIFICATE!r}).read())"
        out = self.kubernetes.in_pod(
            self.namespace, self.pod(ordinal), "wavekv", "/opt/wavekv/bin/python", "-c", script
        )
        return x509.load_pem_x509_certificate(out)

    def restarts(self, ordinal: int) -> int:
        """Return how often the member's container was started anew in its pod."""
        pod = self.kubernetes.get("pod", self.pod(ordinal), self.namespace)
        statuses = (pod or {}).get("status") or {}
        listed = [*statuses.get("initContainerStatuses", ()), *statuses.get("containerStatuses", ())]
        return next((int(item["restartCount"]) for item in listed if item["name"] == "wavekv"), -1)

    # ---- data, as the application sees it --------------------------------------------------------------------------

    def run(self, ordinal: int, *command: str, stdin: str | bytes | None = None) -> bytes:
        """Run a command in the application container of a member's pod."""
        return self.kubernetes.in_pod(self.namespace, self.pod(ordinal), self.container, *command, stdin=stdin)

    def put(self, ordinal: int, key: str, value: str) -> None:
        self.run(ordinal, "wavekv", "put", key, value)

    def get(self, ordinal: int, key: str) -> bytes | None:
        try:
            return self.run(ordinal, "wavekv", "get", key)
        except CommandFailed as error:
            if "not_found" in error.said:
                return None
            raise

    def wait_value(self, ordinal: int, key: str, value: str, deadline: float = 60) -> None:
        self.kubernetes.eventually(
            lambda: self.get(ordinal, key) == value.encode(),
            deadline,
            f"{self.pod(ordinal)} reads {value!r} at {key!r}",
        )

    def import_rules(self, ordinal: int) -> None:
        """Import the Public Suffix List over the member's HTTP port, given by WAVEKV_URL."""
        script = (
            "cat > /tmp/rules.dat && unset WAVEKV_SOCKET && "
            f"wavekv import /tmp/rules.dat --format lines --comment-prefix // --key-prefix {PREFIX}"
        )
        self.run(ordinal, "sh", "-c", script, stdin=Path(publicsuffixlist.PSLFILE).read_bytes())

    def export(self, ordinal: int, prefix: str = PREFIX) -> dict[str, bytes]:
        """Return all entries below `prefix` as a member reads them over its unix socket."""
        script = f"unset WAVEKV_URL && wavekv export - --socket $WAVEKV_SOCKET --prefix {prefix}"
        entries: dict[str, bytes] = {}
        for line in self.run(ordinal, "sh", "-c", script).decode().splitlines():
            entry = json.loads(line)
            text = entry.get("value")
            entries[entry["key"]] = text.encode() if text is not None else base64.b64decode(entry["value_base64"])
        return entries

    def wait_rules(self, ordinal: int, deadline: float = 60) -> None:
        """Wait until a member reads the whole list."""
        wanted = rules()

        def complete() -> bool:
            held = self.export(ordinal)
            missing = [key for key, value in wanted.items() if held.get(key) != value]
            assert not missing, f"{len(missing)} are missing, among them {missing[:3]}"
            surplus = held.keys() - wanted.keys()
            assert not surplus, f"{len(surplus)} are too many"
            return True

        self.kubernetes.eventually(complete, deadline, f"{self.pod(ordinal)} holds all {len(wanted)} rules")

    # ---- breaking --------------------------------------------------------------------------------------------------

    def replace_pods(self, *ordinals: int) -> None:
        """Delete pods at once and wait until others are Ready in their places.

        `kubectl delete --wait` may overlook that a pod is already another one, and then waits for that one to go.
        """
        names = [self.pod(ordinal) for ordinal in ordinals]
        before = {name: self._pod(name)["metadata"]["uid"] for name in names}
        self.kubernetes.run("delete", "pod", *names, "-n", self.namespace, "--wait=false")

        def replaced() -> bool:
            pods = {name: self._pod(name) for name in names}
            return all(
                pods[name]["metadata"]["uid"] != uid and condition(pods[name], "Ready")[0] == "True"
                for name, uid in before.items()
            )

        self.kubernetes.eventually(replaced, 150, f"other pods are Ready as {', '.join(names)}")

    def _pod(self, name: str) -> Object:
        pod = self.kubernetes.get("pod", name, self.namespace)
        assert pod is not None, f"there is no pod {name}"
        return pod

    def kill_member(self, ordinal: int, image: str) -> None:
        """SIGKILL the member's process, from a pod that sees all processes of the node.

        From inside its own pod number 1 cannot be killed. `image` has python, and is on the node.
        """
        pod = self._pod(self.pod(ordinal))
        killer = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"kill-{self.pod(ordinal)}", "namespace": self.namespace},
            "spec": {
                "hostPID": True,
                "restartPolicy": "Never",
                "nodeName": pod["spec"]["nodeName"],
                "containers": [
                    {
                        "name": "kill",
                        "image": image,
                        "command": ["python", "-c", _KILL, pod["metadata"]["uid"]],
                        "securityContext": {"privileged": True, "runAsUser": 0},
                    }
                ],
            },
        }
        self.kubernetes.apply(killer)

        def ended() -> str | None:
            found = self.kubernetes.get("pod", killer["metadata"]["name"], self.namespace)
            phase: str = ((found or {}).get("status") or {}).get("phase", "")
            return phase if phase in {"Succeeded", "Failed"} else None

        phase = self.kubernetes.eventually(ended, 60, "the killing pod has ended")
        said = self.kubernetes.run("logs", killer["metadata"]["name"], "-n", self.namespace)
        self.kubernetes.run("delete", "pod", killer["metadata"]["name"], "-n", self.namespace, "--wait=false")
        assert phase == "Succeeded", said


_KILL = """
import os, signal, sys
from pathlib import Path
uid, killed = sys.argv[1], 0
for process in Path("/proc").iterdir():
    if not process.name.isdecimal():
        continue
    try:
        groups = (process / "cgroup").read_text()
        command = (process / "cmdline").read_bytes().split(bytes(1))
    except OSError:
        continue
    if (uid in groups or uid.replace("-", "_") in groups) and b"serve" in command:
        os.kill(int(process.name), signal.SIGKILL)
        killed += 1
sys.exit(0 if killed == 1 else f"{killed} member processes were found in pod {uid}")
"""
