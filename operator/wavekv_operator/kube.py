"""All requests to the Kubernetes API but the watches, through the dynamic client of `kubernetes.aio`.

Paths are built from static resource descriptions, so nothing is discovered at start. Objects are applied on the server
side under one field manager, which is the owner of what it applies: another manager's edit of the same field is taken
back, its other fields are left alone. An apply says which object it means: none that is there yet, or the one with a
uid. So nothing is taken over that came into its place in between.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.dynamic import DynamicClient, Resource

from wavekv_operator import names
from wavekv_operator.errors import ApiConflict, ApiError, ApiNotFound, UsageError
from wavekv_operator.spec import Manifest

log = logging.getLogger(__name__)

REQUEST_SECONDS_MAX = 20.0
"""One request to the API, answer included."""
_PAGE_OBJECTS = 500
_UNPROCESSABLE = 422
_NO_VERSION = "1"
"""A version that no object can have: etcd's first revision is the empty one. An apply that names it creates, or is
answered 409; seen on Kubernetes 1.34."""
_METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path

_RESOURCES: Mapping[str, Resource] = {
    kind: Resource(
        prefix="apis" if group else "api", group=group, api_version=version, kind=kind, namespaced=True, name=plural
    )
    for kind, group, version, plural in (
        (names.KIND, names.GROUP, names.VERSION, names.PLURAL),
        ("StatefulSet", "apps", "v1", "statefulsets"),
        ("Pod", None, "v1", "pods"),
        ("Service", None, "v1", "services"),
        ("ConfigMap", None, "v1", "configmaps"),
        ("Secret", None, "v1", "secrets"),
        ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
        ("PersistentVolumeClaim", None, "v1", "persistentvolumeclaims"),
        ("Event", "events.k8s.io", "v1", "events"),
    )
}


class RequestCounter(Protocol):
    """Who is told of each request."""

    def api_request(self, verb: str, kind: str, code: str) -> None:
        """Count one request; `code` is the HTTP status, `none` without an answer."""
        ...


class Kube:
    """A connection to the API; close it when done."""

    def __init__(self, client: ApiClient, counter: RequestCounter) -> None:
        self._client = client
        self._dynamic = DynamicClient(client)
        self._counter = counter

    @classmethod
    async def connect(cls, counter: RequestCounter) -> "Kube":
        """Connect as the pod's service account, else as `KUBECONFIG` says.

        Raises:
            UsageError: there is neither.
        """
        configuration = Configuration()
        try:
            kubeconfig = os.environ.get("KUBECONFIG")
            if kubeconfig or not os.environ.get("KUBERNETES_SERVICE_HOST"):
                await load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
            else:
                load_incluster_config(client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise UsageError(f"no way to the Kubernetes API: {error}; run in a pod, or set KUBECONFIG") from error
        return cls(ApiClient(configuration), counter)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def create(self, manifest: Manifest) -> Manifest:
        """Apply `manifest` where nothing of its name is there yet, and return what it became.

        Raises:
            ApiConflict: there is an object of this name.
            ApiError: refused, or no answer.
        """
        metadata = {**manifest["metadata"], "resourceVersion": _NO_VERSION}
        return await self._apply(manifest["kind"], {**manifest, "metadata": metadata}, "")

    async def update(self, manifest: Manifest, uid: str) -> Manifest:
        """Apply `manifest` to the object of its name with this uid, and return it as it is now.

        Fields that others set are taken back.

        Raises:
            ApiConflict: the object is gone or another, or the manifest names a version that is no longer the newest.
            ApiError: refused, or no answer.
        """
        metadata = {**manifest["metadata"], "uid": uid}
        try:
            return await self._apply(manifest["kind"], {**manifest, "metadata": metadata}, "")
        except ApiError as error:
            if error.status == _UNPROCESSABLE and "metadata.uid" in error.detail:
                raise ApiConflict(error.detail, error.status) from error
            raise

    async def apply_status(self, cluster: Manifest, status: Mapping[str, Any]) -> Manifest:
        """Make `status` the status of a WaveKVCluster. Raises as `apply`; ApiNotFound if it is gone."""
        metadata = cluster["metadata"]
        # The uid keeps a resource that was made anew under the name from getting its predecessor's status.
        target = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": target, "status": status}
        return await self._apply(names.KIND, body, "/status")

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid; one that is gone already is fine.

        Raises ApiError; ApiConflict where another has its name.
        """
        path = _RESOURCES[kind].path(name=name, namespace=namespace)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._request("delete", kind, path, options)
        except ApiNotFound:
            log.debug("%s %s/%s was gone already", kind, namespace, name)

    async def metadata(self, kind: str, namespace: str, name: str | None = None) -> list[Manifest]:
        """Return the metadata of the objects of a kind, or of the one of a name: none of what is in them.

        Labels do not matter: it is how an object of somebody else is looked at. Raises ApiError.
        """
        path, token, found = _RESOURCES[kind].path(namespace=namespace), None, list[Manifest]()
        field = None if name is None else f"metadata.name={name}"
        while True:
            options: dict[str, Any] = {"limit": _PAGE_OBJECTS, "field_selector": field, "_continue": token}
            page = await self._request("get", kind, path, header_params=dict(_METADATA_ONLY), **options)
            found += page.get("items") or ()  # null where there are none
            token = page["metadata"].get("continue")
            if not token:
                return found

    async def list(self, kind: str, namespace: str | None, selector: str | None) -> list[Manifest]:
        """Return all objects of a kind in a namespace (None: in all), read in pages. Raises ApiError."""
        path, token, found = _RESOURCES[kind].path(namespace=namespace), None, list[Manifest]()
        while True:
            page = await self._request("get", kind, path, limit=_PAGE_OBJECTS, label_selector=selector, _continue=token)
            typed = {"apiVersion": page.get("apiVersion"), "kind": kind}  # which the items of a list do not say
            found += [{**typed, **item} for item in page.get("items") or ()]
            token = page["metadata"].get("continue")
            if not token:
                return found

    async def review_token(self, token: str, audience: str) -> Manifest:
        """Return what the API server says of a token: the status of a TokenReview. Raises ApiError."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        review = await self._request("post", "TokenReview", _TOKEN_REVIEWS, body)
        status: Manifest = review.get("status") or {}
        return status

    async def post_event(self, cluster: Manifest, reason: str, message: str, *, warning: bool) -> None:
        """Post an event about a WaveKVCluster. Raises ApiError."""
        metadata, now = cluster["metadata"], datetime.now(UTC)
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name']}.{int(now.timestamp() * 1e6):x}",
                "namespace": metadata["namespace"],
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": names.FIELD_MANAGER,
            "reportingInstance": os.uname().nodename[:128],
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": "Reconcile",
            "note": message[:1024],
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        await self._request("post", "Event", _RESOURCES["Event"].path(namespace=metadata["namespace"]), body)

    async def _apply(self, kind: str, body: Manifest, subresource: str) -> Manifest:
        metadata = body["metadata"]
        path = _RESOURCES[kind].path(name=metadata["name"], namespace=metadata["namespace"]) + subresource
        return await self._request(
            "patch",
            kind,
            path,
            body,
            content_type="application/apply-patch+yaml",
            field_manager=names.FIELD_MANAGER,
            force_conflicts=True,
        )

    async def _request(self, verb: str, kind: str, path: str, body: Manifest | None = None, **params: Any) -> Manifest:
        code = "none"
        try:
            answer = await self._dynamic.request(
                verb, path, body=body, serialize=False, _request_timeout=REQUEST_SECONDS_MAX, query_params=[], **params
            )
            code = str(answer.status)
            decoded: Manifest = await answer.json()
        except ApiException as error:
            code = str(error.status)
            raise _api_error(verb, path, error) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(f"no answer to {verb} {path}: {error or type(error).__name__}") from error
        finally:
            self._counter.api_request(verb, kind, code)
        return decoded


def _api_error(verb: str, path: str, error: ApiException) -> ApiError:
    kinds = {404: ApiNotFound, 409: ApiConflict}
    text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body)
    return kinds.get(error.status, ApiError)(f"{verb} {path} was answered {error.status}: {text[:500]}", error.status)
