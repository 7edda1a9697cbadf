"""A watcher ends with the store's state, whatever happens between its reads, and from whichever token it resumes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.cluster import LIMITS
from tests.fakes.watched import Client, Watched
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import KeyNotFound, WatchExpired
from wavekv.runtime import watching

KEYS = st.sampled_from(("a", "a/1", "a/2", "b", "b/1", "c"))
VALUES = st.binary(max_size=2)
EXPIRIES = st.none() | st.integers(1, 400)
WRITES = st.lists(
    st.one_of(
        st.builds(lambda key, value, ttl: (key, value, ttl), KEYS, VALUES, EXPIRIES),
        st.builds(lambda key: (key, None, None), KEYS),
    ),
    min_size=1,
    max_size=4,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), WRITES),
        st.tuples(st.just("batch"), WRITES),
        st.tuples(st.just("merge"), WRITES),
        st.tuples(st.just("stage"), WRITES),
        st.tuples(st.just("commit"), st.just(None)),
        st.tuples(st.just("time"), st.integers(-150, 300)),
        st.tuples(st.just("tick"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.just(None)),
        st.tuples(st.just("resume"), st.just(None)),
        st.tuples(st.just("restart"), st.just(None)),
    ),
    max_size=25,
)
SELECTORS = st.sampled_from((("", True), ("a", True), ("a/", True), ("b", False), ("z", True)))


class Walk:
    """One run: the world, a watcher of one selector, and every state that a token stands for."""

    def __init__(self, selector: str, *, prefix: bool, changes_max: int) -> None:
        self.world = Watched(replace(LIMITS, changes_max=changes_max))
        self.selector, self.prefix = selector, prefix
        self.seq = 0
        self.resumable: list[tuple[str, dict[str, bytes | None]]] = []
        self.client = self.opened(None, {})

    def opened(self, since: str | None, state: dict[str, bytes | None]) -> Client:
        return Client(self.world.hub.watch(self.selector, prefix=self.prefix, since=since), dict(state))

    def write(self, key: str, value: bytes | None, ttl: int | None) -> None:
        world = self.world
        if value is not None:
            expires_at = None if ttl is None else world.now_ms + ttl
            world.member.replica.put(key, value, world.now_ms, expires_at=expires_at)
        else:
            with suppress(KeyNotFound):
                world.member.replica.delete(key, world.now_ms)

    def merged(self, key: str, value: bytes | None, ttl: int | None) -> Entry:
        self.seq += 1
        now = self.world.now_ms
        return Entry(key, value, now + self.seq % 3 - 1, 9, self.seq, now + ttl - 100 if ttl and value else None)

    async def step(self, kind: str, what: object) -> None:
        world = self.world
        if kind in {"write", "stage", "batch", "merge"}:
            assert isinstance(what, list)
            if kind == "batch":
                now = world.now_ms
                world.batch(
                    *(Delete(key) if value is None else Put(key, value, ttl and now + ttl) for key, value, ttl in what)
                )
            elif kind == "merge":
                world.merge(*(self.merged(*one) for one in what))
            else:
                for one in what:
                    self.write(*one)
        if kind in {"write", "commit"}:
            world.commit()
        elif kind == "time":
            assert isinstance(what, int)
            world.clock.seconds = max(1.0, world.clock.seconds + what / 1000)
        elif kind == "tick":
            assert isinstance(what, int)
            world.tick(0.0, what)
        elif kind == "read":
            await self.client.read_once()
        elif kind == "resume":
            await self.resume()
        elif kind == "restart":
            world.restart()
            self.settle_expiries()
            await self.resume()

    def settle_expiries(self) -> None:
        """As the engine does before it opens its sockets."""
        while self.world.tick():
            pass

    async def resume(self) -> None:
        """The connection broke: go on behind the last token with the state that the client has."""
        token, state = self.client.token, self.client.state
        self.resumable += self.client.history
        self.client.close()
        try:
            self.client = self.opened(token, state if token is not None else {})
            self.client.token = token
        except WatchExpired:
            self.client = self.opened(None, {})

    async def run(self, steps: list[tuple[str, object]]) -> None:
        for kind, what in steps:
            await self.step(kind, what)
        self.world.commit()
        self.world.clock.seconds += 2
        self.settle_expiries()
        await self.client.read()
        assert self.client.synced
        expected = {key: value for key, value in self.world.live().items() if self.client.subscription.selects(key)}
        assert self.client.state == expected
        for token, state in (*self.resumable, *self.client.history):
            try:
                again = self.opened(token, state)
            except WatchExpired:
                continue
            await again.read()
            assert again.state == expected, f"resumed behind {token}"
            again.close()


def run(make: Callable[[], Walk], steps: list[tuple[str, object]]) -> None:
    with patch.object(watching, "PAGE_ENTRIES", 2):

        async def walk() -> None:
            await make().run(steps)

        asyncio.run(walk())


@given(SELECTORS, STEPS, st.sampled_from((5, 10_000)))
def test_a_watcher_ends_with_the_store_s_state_and_so_does_one_that_resumes_at_any_event(
    selector: tuple[str, bool], steps: list[tuple[str, object]], changes_max: int
) -> None:
    run(lambda: Walk(selector[0], prefix=selector[1], changes_max=changes_max), steps)
