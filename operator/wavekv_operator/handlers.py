"""Carries kopf's watches into the view, and each change to the cluster it concerns; runs the operator's parts together.

Events only: no create or update handlers, so kopf sets no finalizer and no annotation on a WaveKVCluster, and
`kubectl delete` works while the operator is gone (G10). Children are watched by the operator's label alone.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import kopf

from wavekv_operator import names
from wavekv_operator.audit import Audit
from wavekv_operator.errors import ApiError
from wavekv_operator.health import HealthServer
from wavekv_operator.keepers import Keepers
from wavekv_operator.kube import Kube
from wavekv_operator.metrics import Metrics
from wavekv_operator.reconcile import Reconciler
from wavekv_operator.settings import Settings
from wavekv_operator.sidecar_client import MemberClient
from wavekv_operator.spec import Manifest
from wavekv_operator.view import Key, View, cluster_of

log = logging.getLogger(__name__)

_WATCHED: Mapping[str, tuple[str, str, str]] = {
    names.KIND: (names.GROUP, names.VERSION, names.PLURAL),
    "StatefulSet": ("apps", "v1", "statefulsets"),
    "Pod": ("", "v1", "pods"),
    "Service": ("", "v1", "services"),
    "ConfigMap": ("", "v1", "configmaps"),
    "Secret": ("", "v1", "secrets"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
}
_SEED_RETRY_SECONDS = 3.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the operator until `stop` is set.

    Raises:
        UsageError: no way to the API, or the port is taken.
    """
    metrics, view = Metrics(), View()
    async with AsyncExitStack() as stack:
        kube = await Kube.connect(metrics)
        stack.push_async_callback(kube.close)
        members = MemberClient(
            metrics,
            timeout_seconds=settings.member_timeout_seconds,
            requests_max=settings.member_requests_max,
            cluster_requests_max=settings.cluster_requests_max,
            answer_bytes_max=settings.member_answer_bytes_max,
        )
        stack.push_async_callback(members.close)
        reconciler = Reconciler(kube, members, view, settings, lambda: datetime.now(UTC))
        keepers = Keepers(reconciler.reconcile, settings, metrics)
        stack.push_async_callback(keepers.stop)
        wiring = _Wiring(view, keepers, metrics, lambda key: members.forget(names.cluster_id(*key)))
        grace = settings.relist_grace_seconds
        audit = Audit(kube, view, settings.namespaces, metrics, wiring.changed, grace_seconds=grace)
        health = HealthServer(metrics, lambda: audit.deaf, wiring.opened.is_set)
        await health.start(settings.listen_host, settings.listen_port)
        stack.push_async_callback(health.stop)
        await _run_tasks(settings, stop, wiring, audit)


async def _run_tasks(settings: Settings, stop: asyncio.Event, wiring: "_Wiring", audit: Audit) -> None:
    """Run watches and audit until told to stop; whichever ends by itself takes the process with it.

    The watches begin when every kind can be listed, because kopf leaves out for good what is not there at its start.
    """
    opening = asyncio.ensure_future(wiring.open(audit))
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), opening]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            opening.result()
            watches = kopf.operator(
                registry=wiring.registry(settings),
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
                stop_flag=stop,
            )
            running = [asyncio.ensure_future(watches), asyncio.ensure_future(audit.run(settings.relist_seconds))]
            tasks += running
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for ended in running:
                if ended.done():
                    ended.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Wiring:
    """Events go into the view at once; passes begin when the first lists have arrived."""

    def __init__(self, view: View, keepers: Keepers, metrics: Metrics, gone: Callable[[Key], None]) -> None:
        self._view = view
        self._gone = gone
        self._keepers = keepers
        self._metrics = metrics
        self._wishes: dict[Key, tuple[Any, ...]] = {}
        """What of each resource a pass was last woken for."""
        self.opened = asyncio.Event()

    def registry(self, settings: Settings) -> kopf.OperatorRegistry:
        """Return the handlers for kopf."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(_configured(settings))
        kopf.on.login(registry=registry)(_login)
        for kind, (group, version, plural) in _WATCHED.items():
            kopf.on.event(group, version, plural, id=kind.lower(), registry=registry)(self._handler(kind))
        return registry

    def _handler(self, kind: str) -> Any:
        async def handle(event: Mapping[str, Any], **_: Any) -> None:
            self._metrics.watch_event(kind)
            manifest: Manifest = dict(event["object"])
            if event["type"] == "DELETED":
                self._view.drop(kind, manifest)
            else:
                self._view.put(kind, manifest)
            if kind != names.KIND or self._is_new_wish(event["type"], manifest):
                self.changed(kind, manifest)

        return handle

    def _is_new_wish(self, what: str | None, manifest: Manifest) -> bool:
        """Tell whether more of a resource changed than its status, which is the operator's own word.

        Passes that woke each other would follow a member that says something else each time as fast as they can.
        """
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if what == "DELETED":
            self._wishes.pop(key, None)
            return True
        wish = tuple(metadata.get(field) for field in ("uid", "generation", "annotations", "deletionTimestamp"))
        is_new = self._wishes.get(key) != wish
        self._wishes[key] = wish
        return is_new

    def changed(self, kind: str, manifest: Manifest) -> None:
        """Have a pass done over the cluster that `manifest` is or belongs to."""
        namespace = manifest["metadata"]["namespace"]
        cluster = manifest["metadata"]["name"] if kind == names.KIND else cluster_of(manifest)
        if cluster is None or not self.opened.is_set():
            return
        if self._view.get(names.KIND, (namespace, cluster)) is None:
            self._keepers.forget((namespace, cluster))
            self._gone((namespace, cluster))
        else:
            self._keepers.wake((namespace, cluster))

    async def open(self, audit: Audit) -> None:
        """Begin passes once every object that is there was read: a pass that misses children would make them anew."""
        while True:
            try:
                await audit.seed()
            except ApiError as error:
                log.warning("the API does not list what is needed yet: %s", error.detail)
                await asyncio.sleep(_SEED_RETRY_SECONDS)
            else:
                break
        self.opened.set()
        for manifest in self._view.all(names.KIND):
            self.changed(names.KIND, manifest)


def _configured(settings: Settings) -> Any:
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # events are the operator's own, with stable reasons
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
        settings.persistence.finalizer = f"{names.GROUP}/unused"
        settings.scanning.disabled = scanning_disabled
        for kind, (group, _version, plural) in _WATCHED.items():
            if kind != names.KIND:
                key = f"{plural}.{group}" if group else plural
                settings.watching.label_selectors[key] = names.MANAGED_SELECTOR

    scanning_disabled = bool(settings.namespaces)  # it needs rights on CRDs, which a namespaced install has not
    return configure


async def _login(**kwargs: Any) -> Any:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
