"""Finds a watch that went deaf: what the API lists is compared with what the watches brought.

A watch that hangs looks like a quiet cluster. So the objects are listed now and then; what the view lacks is looked
for again a moment later, and if the watch still has not brought it, it is deaf: the view is mended from the list, and
the probe fails so that the process starts anew. Where the API does not answer there is nothing to compare, and nothing
is wrong with the operator. Deletions that a watch missed while it reconnected are only mended.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from wavekv_operator import names
from wavekv_operator.errors import ApiError
from wavekv_operator.spec import Manifest
from wavekv_operator.view import KINDS, View, is_newer

log = logging.getLogger(__name__)


class Lister(Protocol):
    """What is needed of the API."""

    async def list(self, kind: str, namespace: str | None, selector: str | None) -> list[Manifest]:
        """Return all objects of a kind."""
        ...


class DeafCounter(Protocol):
    """Who is told."""

    def watch_deaf(self, kind: str, deaf: bool) -> None:
        """Say whether the watch of a kind misses changes."""
        ...


class Audit:
    """Compares the view with the API."""

    def __init__(
        self,
        api: Lister,
        view: View,
        namespaces: tuple[str, ...],
        counter: DeafCounter,
        changed: Callable[[str, Manifest], None],
        *,
        grace_seconds: float,
    ) -> None:
        self._api = api
        self._view = view
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._counter = counter
        self._changed = changed
        self._grace_seconds = grace_seconds
        self.deaf: set[str] = set()

    async def run(self, period_seconds: float) -> None:
        """Compare for ever."""
        while True:
            await asyncio.sleep(period_seconds)
            for kind in KINDS:
                await self.check(kind)

    async def seed(self) -> None:
        """Fill the view with what the API lists. Raises ApiError, after which it may be tried again."""
        for kind in KINDS:
            for manifest in await self._list(kind):
                self._view.put(kind, manifest)

    async def check(self, kind: str) -> None:
        """Compare one kind, and mend the view where the watch does not catch up."""
        try:
            listed = await self._list(kind)
            missed, gone = self._missed(kind, listed), self._gone(kind, listed)
            if missed or gone:  # on their way, most likely; or changed again while the list was read
                await asyncio.sleep(self._grace_seconds)
                there = {manifest["metadata"]["uid"] for manifest in await self._list(kind)}
                missed = [manifest for manifest in self._missed(kind, missed) if manifest["metadata"]["uid"] in there]
                gone = [manifest for manifest in gone if manifest["metadata"]["uid"] not in there]
        except ApiError as error:
            log.info("the watch of %s is not checked: %s", kind, error.detail)
            return
        for manifest in missed:
            self._view.put(kind, manifest)
            self._changed(kind, manifest)
        for manifest in gone:
            self._view.drop(kind, manifest)
            self._changed(kind, manifest)
        self._judge(kind, missed)

    def _judge(self, kind: str, missed: list[Manifest]) -> None:
        if missed and kind not in self.deaf:
            log.error("the watch of %s is deaf: it missed %d objects", kind, len(missed))
        (self.deaf.add if missed else self.deaf.discard)(kind)
        self._counter.watch_deaf(kind, bool(missed))

    async def _list(self, kind: str) -> list[Manifest]:
        selector = None if kind == names.KIND else names.MANAGED_SELECTOR
        return [item for namespace in self._namespaces for item in await self._api.list(kind, namespace, selector)]

    def _missed(self, kind: str, listed: list[Manifest]) -> list[Manifest]:
        return [item for item in listed if self._view.wants(kind, item) and self._lacks(kind, item)]

    def _lacks(self, kind: str, manifest: Manifest) -> bool:
        held = self._view.get(kind, _key(manifest))
        return held is None or held["metadata"]["uid"] != manifest["metadata"]["uid"] or is_newer(manifest, held)

    def _gone(self, kind: str, listed: list[Manifest]) -> list[Manifest]:
        there = {manifest["metadata"]["uid"] for manifest in listed}
        return [manifest for manifest in self._view.all(kind) if manifest["metadata"]["uid"] not in there]


def _key(manifest: Manifest) -> tuple[str, str]:
    return (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
