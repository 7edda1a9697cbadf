"""The whole operator and real members: enrolled by tokens of their pods, governed by signed epochs. The API is a fake.

Members listen on addresses of their own, as pods do. They do not meet, because nothing resolves their host names here;
that they do is the end-to-end tests' part.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.fakes.api_server import ApiServer
from tests.integration.member_process import MemberProcess, free_ports
from tests.integration.test_operator import Running, eventually
from wavekv_operator import names, sidecar_client

NAMESPACE = "shop"
CLUSTER = "demo"
CLUSTER_ID = names.cluster_id(NAMESPACE, CLUSTER)
AUDIENCE = names.enrolment_audience(CLUSTER_ID)


@dataclass
class Pod:
    """A member's process, and what Kubernetes knows of its pod."""

    process: MemberProcess
    token: Path
    ip: str
    uid: str


class Cluster:
    """Two members whose operator is this process."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.folder = folder
        (self.port,) = free_ports(1)
        self.pods = [self._pod(ordinal) for ordinal in range(2)]

    def _pod(self, ordinal: int) -> Pod:
        name, ip = names.member(CLUSTER, ordinal), f"127.0.0.{21 + ordinal}"
        token = self.folder / f"{name}.token"
        http, resp, metrics = free_ports(3)
        extra = ("--membership", str(self.folder / names.MEMBERSHIP_KEY), "--peer-listen", f"{ip}:{self.port}")
        flags = ("--tls-ca", str(self.folder / names.CA_KEY), "--enrol-token", str(token))
        process = MemberProcess(
            self.folder / name, name, http, resp, self.port, metrics, cluster_id=CLUSTER_ID, peer_flags=flags,
            extra_args=extra,
        )  # fmt: skip
        return Pod(process, token, ip, f"uid-of-{name}")

    def config_map(self, name: str, key: str) -> str | None:
        found = self.api.objects["configmaps"].get((NAMESPACE, name))
        return None if found is None else str(found["data"][key])

    def mount(self) -> bool:
        """Write what pods mount, once it is there."""
        wanted = {names.authorities(CLUSTER): names.CA_KEY, names.membership(CLUSTER): names.MEMBERSHIP_KEY}
        texts = {key: self.config_map(name, key) for name, key in wanted.items()}
        if None in texts.values() or (NAMESPACE, CLUSTER) not in self.api.objects["statefulsets"]:
            return False
        for key, text in texts.items():
            (self.folder / key).write_text(str(text))
        return True

    def start(self, pod: Pod) -> None:
        """Start a member in its pod, with a token that the API knows."""
        name, token = pod.process.name, f"token-{pod.uid}"
        pod.token.write_text(token)
        extra = {names.POD_NAME_CLAIM: [name], names.POD_UID_CLAIM: [pod.uid]}
        user = {"username": names.service_account(NAMESPACE, "default"), "extra": extra}
        self.api.tokens[token] = {"authenticated": True, "audiences": [AUDIENCE], "user": user}
        pod.process.start()
        self.show(pod)

    def show(self, pod: Pod) -> None:
        """Have the API list the pod."""
        uid = self.api.objects["statefulsets"][NAMESPACE, CLUSTER]["metadata"]["uid"]
        owner = {"kind": "StatefulSet", "name": CLUSTER, "uid": uid, "controller": True}
        metadata = {
            "name": pod.process.name,
            "namespace": NAMESPACE,
            "labels": names.labels(CLUSTER),
            "ownerReferences": [owner],
        }
        made = self.api.put("pods", {"metadata": metadata, "spec": {}, "status": {"podIP": pod.ip}})
        token = self.api.tokens.get(pod.token.read_text())
        if token is not None:
            token["user"]["extra"][names.POD_UID_CLAIM] = [made["metadata"]["uid"]]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.objects["wavekvclusters"][NAMESPACE, CLUSTER].get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next((item for item in self.status().get("conditions", []) if item["type"] == kind), None)
        return ("", "", "") if found is None else (found["status"], found["reason"], found["message"])

    def document(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.config_map(names.membership(CLUSTER), names.MEMBERSHIP_KEY) or "{}")
        return decoded

    def certificate(self, pod: Pod) -> x509.Certificate:
        pem = (pod.process.data_dir / "tls" / "certificate.pem").read_bytes()
        return x509.load_pem_x509_certificate(pem)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    server = ApiServer()
    await server.start()
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(server.kubeconfig()))
    monkeypatch.setenv("KUBECONFIG", str(config))
    yield server
    await server.stop()


@asynccontextmanager
async def governed(
    api: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch, replicas: int = 2, **settings: object
) -> AsyncIterator[Cluster]:
    """Run the operator over a new resource; yield when there is what pods mount."""
    made = Cluster(api, folder)
    monkeypatch.setattr(sidecar_client.names, "PEER_PORT", made.port)
    async with Running(resync_seconds=0.5, **settings):
        metadata = {"name": CLUSTER, "namespace": NAMESPACE}
        api.put("wavekvclusters", {"metadata": metadata, "spec": {"replicas": replicas}})
        await eventually(made.mount, "what pods mount is there")
        try:
            yield made
        finally:
            for pod in made.pods:
                pod.process.kill()


async def enrolled(cluster: Cluster) -> None:
    for pod in cluster.pods:
        cluster.start(pod)
    await eventually(lambda: cluster.condition("TLSReady")[0] == "True", "every member has its certificate", 40)


async def test_members_are_enrolled_by_the_tokens_of_their_pods_and_governed_by_signed_epochs(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        await enrolled(cluster)
        for pod in cluster.pods:
            sans = cluster.certificate(pod).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            host = names.peer_host(pod.process.name, CLUSTER, NAMESPACE)
            uri = names.member_uri(CLUSTER_ID, pod.process.name)
            assert [item.value for item in sans] == [uri, host, f"{host}.cluster.local"]
        await eventually(lambda: cluster.document()["epoch"] == 2, "both reported, so founding has ended")
        await eventually(
            lambda: all(pod.process.status()["membership"]["epoch"] == 2 for pod in cluster.pods), "both took the epoch"
        )
        assert cluster.condition("EpochAgreed")[0] == "True"
        assert all(pod.token.read_text() not in pod.process.log for pod in cluster.pods)


async def test_a_restart_needs_no_token_and_no_other_certificate(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        await enrolled(cluster)
        pod = cluster.pods[0]
        before = cluster.certificate(pod)
        reviews = sum(path.endswith("/tokenreviews") for _, path in cluster.api.requests)
        pod.process.kill()
        pod.token.write_text("not known to anybody")
        pod.process.start()
        await eventually(lambda: cluster.condition("TLSReady")[0] != "True", "the operator missed it")
        await eventually(lambda: cluster.condition("TLSReady")[0] == "True", "it is back with what it kept")
        assert cluster.certificate(pod) == before
        assert sum(path.endswith("/tokenreviews") for _, path in cluster.api.requests) == reviews


async def test_the_token_of_another_pod_does_not_enrol(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        first, second = cluster.pods
        cluster.start(first)
        cluster.start(second)
        second.process.kill()
        (second.process.data_dir / "tls" / "certificate.pem").unlink(missing_ok=True)
        second.token.write_text(first.token.read_text())
        second.process.start()
        await eventually(lambda: cluster.condition("TLSReady")[1] == "EnrolmentRefused", "it is refused", 40)
        assert "demo-1: its token is not of its pod" in cluster.condition("TLSReady")[2]
        shown = cluster.certificate(second)
        assert shown.issuer == shown.subject, "it has but the one that it signed itself"


async def test_an_epoch_that_only_the_config_map_knew_is_gone_above_on_the_members_proof(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        await enrolled(cluster)
        await eventually(lambda: cluster.document()["epoch"] == 2, "founding has ended")
        await eventually(
            lambda: all(pod.process.status()["membership"]["epoch"] == 2 for pod in cluster.pods), "both took the epoch"
        )
        cluster.api.drop("configmaps", NAMESPACE, names.membership(CLUSTER))
        await eventually(lambda: cluster.document().get("epoch") == 3, "the next epoch is made from what members prove")
        assert cluster.document()["members"] == ["demo-0", "demo-1"]
        assert cluster.document()["admitted"] == {"demo-0": 1, "demo-1": 1}


async def test_an_older_config_map_is_gone_above_on_the_members_proof_alone(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        old = json.dumps(cluster.document())
        await enrolled(cluster)
        await eventually(
            lambda: all(pod.process.status()["membership"]["epoch"] == 2 for pod in cluster.pods), "both took epoch 2"
        )
        held = api.objects["configmaps"][NAMESPACE, names.membership(CLUSTER)]
        metadata = {key: value for key, value in held["metadata"].items() if key != "resourceVersion"}
        api.put("configmaps", {"metadata": metadata, "data": {names.MEMBERSHIP_KEY: old}})
        assert cluster.document()["epoch"] == 1
        await eventually(lambda: cluster.document()["epoch"] == 3, "the operator goes above what it had signed")
        await eventually(
            lambda: all(pod.process.status()["membership"]["epoch"] == 3 for pod in cluster.pods), "both follow"
        )
        assert cluster.condition("EpochAgreed")[0] == "True"


async def test_an_override_is_taken_by_members_and_said(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch) as cluster:
        await enrolled(cluster)
        await eventually(lambda: cluster.document()["epoch"] == 2, "founding has ended")
        held = cluster.api.objects["wavekvclusters"][NAMESPACE, CLUSTER]
        held["metadata"]["annotations"] = {names.OVERRIDE_ANNOTATION: "5000000"}
        cluster.api.put("wavekvclusters", held)
        await eventually(
            lambda: all(pod.process.status()["membership"]["epoch"] == 5_000_000 for pod in cluster.pods),
            "both took an epoch that is out of reach",
        )
        assert all(pod.process.status()["membership"]["overridden"]["epoch"] == 5_000_000 for pod in cluster.pods)
        await eventually(lambda: cluster.status().get("epochOverride"), "the status says so")
        assert cluster.status()["epochOverride"]["epoch"] == 5_000_000


async def test_a_certificate_is_renewed_before_it_ends(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(api, tmp_path, monkeypatch, replicas=1, certificate_life=timedelta(seconds=6)) as made:
        pod = made.pods[0]
        made.start(pod)
        await eventually(lambda: made.condition("TLSReady")[0] == "True", "it has its certificate", 40)
        first = made.certificate(pod)
        await eventually(lambda: made.certificate(pod) != first, "it has another", 40)
        assert pod.process.running
