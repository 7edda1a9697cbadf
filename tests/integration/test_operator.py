"""The operator's parts together: kopf's watches, the Kubernetes client and the passes, against an API server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.api_server import ApiServer
from tests.integration.member_process import free_ports
from wavekv_operator import handlers, names
from wavekv_operator.errors import ApiConflict, ApiError, ApiNotFound, UsageError
from wavekv_operator.kube import Kube
from wavekv_operator.settings import Settings

CLUSTER = {"metadata": {"name": "demo", "namespace": "shop"}, "spec": {"replicas": 3}}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}


class Counted:
    """Counts requests as metrics would."""

    def __init__(self) -> None:
        self.codes: list[tuple[str, str, str]] = []

    def api_request(self, verb: str, kind: str, code: str) -> None:
        self.codes.append((verb, kind, code))


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    server = ApiServer()
    await server.start()
    config = tmp_path / "kubeconfig"
    config.write_text(json.dumps(server.kubeconfig()))
    monkeypatch.setenv("KUBECONFIG", str(config))
    yield server
    await server.stop()


@pytest.fixture
async def kube(api: ApiServer) -> AsyncIterator[Kube]:
    client = await Kube.connect(Counted())
    yield client
    await client.close()


async def eventually(condition: Callable[[], object], what: str, deadline: float = 20) -> None:
    """Wait until `condition` is true; asking is cheap, so it is asked often."""
    try:
        async with asyncio.timeout(deadline):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {deadline} s: {what}") from None


class Running:
    """The operator in this loop, with short periods."""

    def __init__(self, **changes: object) -> None:
        (self.port,) = free_ports(1)
        settings = Settings(member_image="wavekv:1", listen_host="127.0.0.1", listen_port=self.port, busy_seconds=0.2)
        self.settings = replace(settings, **changes)  # type: ignore[arg-type]
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        self.task = asyncio.create_task(handlers.run(self.settings, self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        assert self.task is not None
        await self.task

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()


async def passes(running: Running, count: int) -> None:
    """Wait until the operator has done `count` passes."""

    async def done() -> float:
        try:
            text = (await running.get("/metrics"))[1]
        except aiohttp.ClientConnectionError:
            return 0
        return sum(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("wavekv_operator_reconciles_total")
        )

    async with asyncio.timeout(20):
        while await done() < count:
            await asyncio.sleep(0.02)


def copy(manifest: object) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(json.dumps(manifest))
    return decoded


# ---- the client ----------------------------------------------------------------------------------------------------


async def test_create_makes_an_object_and_returns_what_it_became(api: ApiServer, kube: Kube) -> None:
    made = await kube.create(copy(CONFIG_MAP) | {"data": {"k": "v"}})
    assert made["metadata"]["uid"]
    assert api.objects["configmaps"]["shop", "a"]["data"] == {"k": "v"}


async def test_create_takes_over_nothing_that_is_there(api: ApiServer, kube: Kube) -> None:
    theirs = api.put("configmaps", copy(CONFIG_MAP) | {"data": {"k": "theirs"}})
    with pytest.raises(ApiConflict):
        await kube.create(copy(CONFIG_MAP) | {"data": {"k": "ours"}})
    assert api.objects["configmaps"]["shop", "a"] == theirs


async def test_update_and_delete_mean_one_object_and_no_other_of_its_name(api: ApiServer, kube: Kube) -> None:
    uid = (await kube.create(copy(CONFIG_MAP)))["metadata"]["uid"]
    assert (await kube.update(copy(CONFIG_MAP) | {"data": {"k": "v"}}, uid))["data"] == {"k": "v"}
    api.drop("configmaps", "shop", "a")
    with pytest.raises(ApiConflict):
        await kube.update(copy(CONFIG_MAP), uid)
    theirs = api.put("configmaps", copy(CONFIG_MAP) | {"data": {"k": "theirs"}})
    with pytest.raises(ApiConflict):
        await kube.update(copy(CONFIG_MAP), uid)
    with pytest.raises(ApiConflict):
        await kube.delete("ConfigMap", "shop", "a", uid)
    assert api.objects["configmaps"]["shop", "a"] == theirs


async def test_the_metadata_of_an_object_is_read_without_what_is_in_it(api: ApiServer, kube: Kube) -> None:
    for name in ("a", "b"):
        api.put("secrets", {"metadata": {"name": name, "namespace": "shop"}, "data": {"password": "eA=="}})
    (found,) = await kube.metadata("Secret", "shop", "a")
    assert found["metadata"]["name"] == "a"
    assert "data" not in found
    assert len(await kube.metadata("Secret", "shop")) == 2
    assert await kube.metadata("Secret", "shop", "c") == []


async def test_a_token_is_reviewed_for_an_audience(api: ApiServer, kube: Kube) -> None:
    api.tokens["t"] = {"authenticated": True, "audiences": ["x"]}
    assert await kube.review_token("t", "x") == {"authenticated": True, "audiences": ["x"]}
    assert await kube.review_token("other", "x") == {"authenticated": False}


async def test_a_lost_race_a_refusal_and_silence_are_told_apart(api: ApiServer, kube: Kube) -> None:
    made = await kube.create(copy(CONFIG_MAP))
    uid = made["metadata"]["uid"]
    await kube.update(copy(CONFIG_MAP), uid)
    stale = copy(CONFIG_MAP) | {
        "metadata": {"name": "a", "namespace": "shop", "resourceVersion": made["metadata"]["resourceVersion"]}
    }
    with pytest.raises(ApiConflict, match="changed meanwhile"):
        await kube.update(stale, uid)
    api.refusals["PATCH", "/api/v1/namespaces/shop/configmaps/a"] = (403, "configmaps is forbidden")
    with pytest.raises(ApiError, match="configmaps is forbidden") as refused:
        await kube.update(copy(CONFIG_MAP), uid)
    assert refused.value.status == 403
    await api.stop()
    with pytest.raises(ApiError) as silent:
        await kube.update(copy(CONFIG_MAP), uid)
    assert silent.value.status is None


async def test_the_status_of_a_resource_that_is_gone_is_refused_and_its_deletion_is_not(
    api: ApiServer, kube: Kube
) -> None:
    cluster = api.put("wavekvclusters", copy(CLUSTER))
    await kube.apply_status(cluster, {"replicas": 3})
    assert api.objects["wavekvclusters"]["shop", "demo"]["status"] == {"replicas": 3}
    await kube.delete(names.KIND, "shop", "demo", cluster["metadata"]["uid"])
    await kube.delete(names.KIND, "shop", "demo", cluster["metadata"]["uid"])
    with pytest.raises(ApiNotFound):
        await kube.apply_status(cluster, {"replicas": 3})


async def test_requests_are_counted_by_verb_kind_and_code(api: ApiServer) -> None:
    counted = Counted()
    client = await Kube.connect(counted)
    await client.list("Pod", None, None)
    api.refusals["GET", "/api/v1/pods"] = (500, "broken")
    with pytest.raises(ApiError):
        await client.list("Pod", None, None)
    await client.close()
    assert counted.codes == [("get", "Pod", "200"), ("get", "Pod", "500")]


async def test_no_way_to_the_api_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="KUBECONFIG"):
        await Kube.connect(Counted())


# ---- the whole operator ----------------------------------------------------------------------------------------------


async def test_a_cluster_gets_its_children_its_status_and_no_finalizer(api: ApiServer) -> None:
    async with Running():
        api.put("wavekvclusters", copy(CLUSTER))
        await eventually(lambda: ("shop", "demo") in api.objects["statefulsets"], "the StatefulSet is made")
        cluster = api.objects["wavekvclusters"]["shop", "demo"]
        await eventually(lambda: "status" in api.objects["wavekvclusters"]["shop", "demo"], "a status is written")
        assert "finalizers" not in cluster["metadata"]
        assert "annotations" not in cluster["metadata"]
        assert set(api.objects["secrets"]) == {("shop", "demo-ca"), ("shop", "demo-operator-tls")}


async def test_clusters_that_are_there_at_the_start_are_seen_with_their_children(api: ApiServer) -> None:
    api.put("wavekvclusters", copy(CLUSTER))
    async with Running():
        await eventually(lambda: "status" in api.objects["wavekvclusters"]["shop", "demo"], "a status is written")
    epoch = api.objects["configmaps"]["shop", names.membership("demo")]["data"]
    secrets = {key: value["data"] for key, value in api.objects["secrets"].items()}

    async with Running() as again:
        await passes(again, 1)
    assert api.objects["configmaps"]["shop", names.membership("demo")]["data"] == epoch
    assert {key: value["data"] for key, value in api.objects["secrets"].items()} == secrets


TAKEN = [
    ("statefulsets", "demo"),
    ("services", "demo"),
    ("services", "demo-peers"),
    ("configmaps", "demo-membership"),
    ("configmaps", "demo-authorities"),
    ("secrets", "demo-ca"),
    ("secrets", "demo-operator-tls"),
    ("poddisruptionbudgets", "demo"),
]


@pytest.mark.parametrize("labelled", [False, True], ids=["unlabelled", "with our labels"])
@pytest.mark.parametrize(("plural", "name"), TAKEN)
async def test_an_object_of_somebody_else_under_a_childs_name_is_named_and_left_alone(
    api: ApiServer, plural: str, name: str, labelled: bool
) -> None:
    labels = {"labels": names.labels("demo")} if labelled else {}
    theirs = api.put(plural, {"metadata": {"name": name, "namespace": "shop", **labels}, "data": {"k": "theirs"}})
    before = copy(theirs)
    ports = [{"name": "http", "containerPort": 8080}]
    template = {"spec": {"containers": [{"name": "app", "image": "a", "ports": ports}]}}

    def reason() -> str:
        cluster = api.objects["wavekvclusters"].get(("shop", "demo"), {})
        conditions = cluster.get("status", {}).get("conditions", [])
        return next((item["message"] for item in conditions if item["reason"] == "ChildNotOurs"), "")

    async with Running():
        api.put("wavekvclusters", copy(CLUSTER) | {"spec": {"replicas": 3, "template": template}})
        await eventually(reason, "the status says what is in the way")
    assert f"{theirs['kind']} {name} exists" in reason()
    assert api.objects[plural]["shop", name] == before
    assert [method for method, path in api.requests if method == "DELETE" and path.endswith(f"/{plural}/{name}")] == []


async def test_a_child_that_is_deleted_comes_back(api: ApiServer) -> None:
    api.put("wavekvclusters", copy(CLUSTER))
    async with Running():
        await eventually(lambda: ("shop", "demo") in api.objects["statefulsets"], "the StatefulSet is made")
        gone = api.objects["statefulsets"]["shop", "demo"]["metadata"]["uid"]
        api.drop("statefulsets", "shop", "demo")

        def made_anew() -> bool:
            found = api.objects["statefulsets"].get(("shop", "demo"))
            return found is not None and found["metadata"]["uid"] != gone

        await eventually(made_anew, "it is made anew")


async def test_a_deleted_cluster_is_not_made_again(api: ApiServer) -> None:
    api.put("wavekvclusters", copy(CLUSTER))
    async with Running() as running:
        await eventually(lambda: "status" in api.objects["wavekvclusters"]["shop", "demo"], "a status is written")
        for plural in ("statefulsets", "services", "configmaps", "secrets", "poddisruptionbudgets"):
            for key in list(api.objects[plural]):
                api.drop(plural, *key)
            if plural == "statefulsets":
                api.drop("wavekvclusters", "shop", "demo")

        def forgotten() -> bool:
            return "wavekv_operator_clusters 0.0" in metrics[-1]

        metrics = [(await running.get("/metrics"))[1]]
        while not forgotten():
            metrics.append((await running.get("/metrics"))[1])
            await asyncio.sleep(0.02)
    assert not api.objects["wavekvclusters"]


async def test_a_watch_that_went_deaf_fails_the_probe_and_its_changes_are_still_found(api: ApiServer) -> None:
    async with Running(relist_seconds=0.3, relist_grace_seconds=1.0) as running:
        api.put("wavekvclusters", copy(CLUSTER))
        await eventually(lambda: ("shop", "demo") in api.objects["statefulsets"], "the StatefulSet is made")
        assert (await running.get("/healthz"))[0] == 200
        api.deaf.add("wavekvclusters")
        other = copy(CLUSTER) | {"metadata": {"name": "other", "namespace": "shop"}}
        api.put("wavekvclusters", other)
        await eventually(lambda: ("shop", "other") in api.objects["statefulsets"], "the missed cluster is built", 40)
        status, text = await running.get("/healthz")
    assert status == 503
    assert "WaveKVCluster" in text


async def test_a_kind_that_is_not_there_yet_is_waited_for(api: ApiServer) -> None:
    path = "/apis/wavekv.io/v1alpha1/wavekvclusters"
    api.hidden.add("wavekvclusters")
    async with Running() as running:
        await eventually(lambda: ("GET", path) in api.requests, "it is asked for")
        assert (await running.get("/readyz"))[0] == 503
        assert (await running.get("/healthz"))[0] == 200
        api.hidden.clear()
        api.put("wavekvclusters", copy(CLUSTER))
        await eventually(lambda: ("shop", "demo") in api.objects["statefulsets"], "the StatefulSet is made")


async def test_a_taken_port_is_a_usage_error(api: ApiServer) -> None:
    async with Running() as running:
        while True:
            try:
                await running.get("/healthz")
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)
        with pytest.raises(UsageError, match="--listen"):
            await handlers.run(running.settings, asyncio.Event())
