"""A Kubernetes API server of one process: discovery, lists, watches, server-side apply, deletes, events.

It keeps what it is given, as JSON, in memory. Apply merges nothing: the body replaces spec and metadata, which is all
the operator's tests need. What an apply says of the object it means is taken as Kubernetes 1.34 takes it: an old
version makes an object or is answered 409; a uid is that of the object, else 409 where there is none and 422 for
another; a list of no metadata has null for items. `tokens` are what a TokenReview knows. `deaf` names kinds whose
watches say nothing any more; `refusals` are answered before anything else.
"""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Manifest = dict[str, Any]

_KINDS: Mapping[str, tuple[str, str]] = {
    "wavekvclusters": ("wavekv.io/v1alpha1", "WaveKVCluster"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "events": ("events.k8s.io/v1", "Event"),
    "pods": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "configmaps": ("v1", "ConfigMap"),
    "secrets": ("v1", "Secret"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "namespaces": ("v1", "Namespace"),
}


class ApiServer:
    """Start it, give `kubeconfig` to a client, stop it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Manifest]] = {plural: {} for plural in _KINDS}
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request, in order."""
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        """Status and message by method and path."""
        self.tokens: dict[str, Manifest] = {}
        """Status of a TokenReview by token."""
        self.deaf: set[str] = set()
        self.hidden: set[str] = set()
        """Kinds that this server does not know yet."""
        self._version = 100
        self._watches: dict[str, list[asyncio.Queue[Manifest]]] = {plural: [] for plural in _KINDS}
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._server = TestServer(app)

    async def start(self) -> None:
        await self._server.start_server()

    async def stop(self) -> None:
        await self._server.close()

    def kubeconfig(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": str(self._server.make_url("")).rstrip("/")}}],
            "users": [{"name": "fake", "user": {"token": "t"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }

    # ---- what a test does to it ---------------------------------------------------------------------------------

    def put(self, plural: str, manifest: Manifest) -> Manifest:
        """Store a version of an object and tell the watches."""
        api_version, kind = _KINDS[plural]
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        old = self.objects[plural].get(key)
        self._version += 1
        metadata |= {
            "resourceVersion": str(self._version),
            "uid": old["metadata"]["uid"] if old else str(uuid.uuid4()),
            "generation": (old["metadata"]["generation"] if old else 0) + 1,
        }
        stored = {"apiVersion": api_version, "kind": kind, **manifest}
        self.objects[plural][key] = stored
        self._tell(plural, "MODIFIED" if old else "ADDED", stored)
        return stored

    def drop(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object and tell the watches."""
        self._tell(plural, "DELETED", self.objects[plural].pop((namespace, name)))

    def _tell(self, plural: str, what: str, manifest: Manifest) -> None:
        if plural not in self.deaf:
            for queue in self._watches[plural]:
                queue.put_nowait({"type": what, "object": json.loads(json.dumps(manifest))})

    # ---- HTTP ------------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        refusal = self.refusals.get((request.method, request.path))
        if refusal is not None:
            return web.json_response({"kind": "Status", "message": refusal[1], "code": refusal[0]}, status=refusal[0])
        discovery = self._discovery(request.path)
        if discovery is not None:
            return web.json_response(discovery)
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            token = (await request.json())["spec"]["token"]
            return web.json_response({"status": self.tokens.get(token, {"authenticated": False})}, status=201)
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else None
        plural, *rest = parts[2:] if namespace else parts
        if plural not in _KINDS or plural in self.hidden:
            return web.json_response({"kind": "Status", "message": "no such resource"}, status=404)
        if not rest and request.method == "GET":
            return await self._collection(request, plural, namespace)
        assert namespace is not None, request.path
        return await self._object(request, plural, namespace, rest)

    def _discovery(self, path: str) -> Manifest | None:
        groups: dict[str, list[str]] = {}
        for plural, (api_version, _) in _KINDS.items():
            if plural not in self.hidden:
                groups.setdefault(api_version, []).append(plural)
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            named = [version for version in groups if "/" in version]
            return {
                "groups": [
                    {"name": version.split("/")[0], "preferredVersion": {"version": version.split("/")[1]},
                     "versions": [{"version": version.split("/")[1]}]}
                    for version in named
                ]
            }  # fmt: skip
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version not in groups:
            return None
        resources = [
            {"name": plural, "kind": _KINDS[plural][1], "namespaced": plural != "namespaces",
             "singularName": plural[:-1], "verbs": ["get", "list", "watch", "patch", "create", "delete"]}
            for plural in groups[version]
        ]  # fmt: skip
        return {"groupVersion": version, "resources": resources}

    async def _collection(self, request: web.Request, plural: str, namespace: str | None) -> web.StreamResponse:
        chosen = _selector(request.query.get("labelSelector"))
        field = _selector(request.query.get("fieldSelector")).get("metadata.name")

        def wanted(manifest: Manifest) -> bool:
            labels = manifest["metadata"].get("labels") or {}
            inside = namespace is None or manifest["metadata"]["namespace"] == namespace
            named = field in {None, manifest["metadata"]["name"]}
            return inside and named and all(labels.get(key) == value for key, value in chosen.items())

        if request.query.get("watch") != "true":
            items = [manifest for manifest in self.objects[plural].values() if wanted(manifest)]
            if "as=PartialObjectMetadataList" in request.headers["Accept"]:
                items = [{"kind": "PartialObjectMetadata", "metadata": manifest["metadata"]} for manifest in items]
                return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items or None})
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        queue: asyncio.Queue[Manifest] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for manifest in self.objects[plural].values():
            if int(manifest["metadata"]["resourceVersion"]) > since and plural not in self.deaf:
                queue.put_nowait({"type": "ADDED", "object": manifest})
        self._watches[plural].append(queue)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        try:
            while True:
                event = await queue.get()
                if wanted(event["object"]):
                    await answer.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches[plural].remove(queue)

    async def _object(self, request: web.Request, plural: str, namespace: str, rest: list[str]) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        if request.method == "POST":
            return web.json_response(self.put(plural, body), status=201)
        key = (namespace, rest[0])
        held = self.objects[plural].get(key)
        if request.method == "DELETE":
            if held is None:
                return _status(404, f"{plural} {rest[0]} not found")
            if body.get("preconditions", {}).get("uid") not in {None, held["metadata"]["uid"]}:
                return _status(409, "the UID in the precondition does not match the UID in record")
            self.drop(plural, *key)
            return web.json_response({"kind": "Status", "status": "Success"})
        applies = request.headers["Content-Type"] == "application/apply-patch+yaml"
        if request.method != "PATCH" or not applies or not request.query.get("fieldManager"):
            return _status(405, "this server takes server-side apply only")
        return self._apply(plural, key, held, body, rest[1:])

    def _apply(
        self, plural: str, key: tuple[str, str], held: Manifest | None, body: Manifest, subresource: list[str]
    ) -> web.Response:
        version, uid = body["metadata"].pop("resourceVersion", None), body["metadata"].pop("uid", None)
        if subresource == ["status"] and held is None:
            return _status(404, f"{plural} {key[1]} not found")
        if uid is not None and (held is None or held["metadata"]["uid"] != uid):
            return _status(409 if held is None else 422, f"{plural} {key[1]}: metadata.uid: field is immutable")
        if version is not None and held is not None and held["metadata"]["resourceVersion"] != version:
            return _status(409, f"{plural} {key[1]} changed meanwhile")
        if subresource == ["status"] and held is not None:
            body = {**held, "metadata": dict(held["metadata"]), "status": body["status"]}
        elif held is not None and "status" in held:
            body = {**body, "status": held["status"]}
        return web.json_response(self.put(plural, body))


def _selector(text: str | None) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",")) if text else {}


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code)
