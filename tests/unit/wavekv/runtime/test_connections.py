"""The book of a plane: who comes in, who makes room, who is cut for what it owes or holds."""

import pytest

from wavekv.plane_settings import PlaneSettings
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import LOOPBACK, Connections, Owed, Reason, Slot, address_of

SETTINGS = PlaneSettings(
    connections_max=4, per_address_max=2, evicted_ms_idle=1000, head_ms_max=5000, body_ms_grace=10_000,
    bytes_per_second_min=100, free_bytes=10,
)  # fmt: skip


class Client:
    """A connection that stands as the test says."""

    def __init__(self) -> None:
        self.idle: float | None = None
        self.brought = 0
        self.ended: list[str] = []

    def idle_since(self) -> float | None:
        return self.idle

    def progress(self, owed: Owed) -> int:
        return self.brought

    def cut(self, reason: Reason) -> None:
        self.ended.append(reason)


class World:
    """A book over a clock that the test moves."""

    def __init__(self, settings: PlaneSettings = SETTINGS, bytes_max: int = 100) -> None:
        self.seconds = 100.0
        self.budget = ByteBudget("http", bytes_max)
        self.book = Connections("http", settings, self.budget, lambda: self.seconds)
        self.stopped: list[str] = []

    def open(self, address: str) -> tuple[Slot, Client]:
        slot = self.book.admit(address, lambda: self.stopped.append(address))
        assert slot is not None
        client = Client()
        self.book.serve(slot, client)
        self.book.settle(slot, "first_byte")
        return slot, client


def test_the_last_place_is_given_and_one_more_is_refused_and_counted() -> None:
    world = World()
    for address in "abcd":
        world.open(address)
    assert world.book.admit("e", lambda: None) is None
    assert (world.book.count, dict(world.book.closed)) == (4, {"full": 1})


def test_a_place_that_is_given_back_is_free_again() -> None:
    world = World()
    slots = [world.open(address)[0] for address in "abcd"]
    world.book.leave(slots[0])
    world.book.leave(slots[0])
    assert world.book.count == 3
    world.open("e")


def test_one_address_gets_its_bound_and_others_still_come_in() -> None:
    world = World()
    world.open("a")
    world.open("a")
    assert world.book.admit("a", lambda: None) is None
    assert world.book.closed["address_full"] == 1
    world.open("b")


@pytest.mark.parametrize(("idle_ms", "makes_room"), [(999, False), (1000, True)])
def test_a_connection_that_was_idle_long_enough_makes_room(idle_ms: int, makes_room: bool) -> None:
    world = World()
    _, client = world.open("a")
    for address in "bcd":
        world.open(address)
    client.idle = world.seconds - idle_ms / 1000
    assert (world.book.admit("e", lambda: None) is not None) == makes_room
    assert client.ended == (["evicted"] if makes_room else [])


def test_who_makes_room_is_of_the_address_that_has_most() -> None:
    """A stranger who fills the plane evicts himself, however long the kubelet has been idle."""
    world = World()
    _, kubelet = world.open("kubelet")
    _, first = world.open("stranger")
    _, second = world.open("stranger")
    world.open("other")
    kubelet.idle, first.idle, second.idle = 1.0, 60.0, 50.0
    assert world.book.admit("prometheus", lambda: None) is not None
    assert (kubelet.ended, first.ended, second.ended) == ([], [], ["evicted"])


def test_a_handshake_in_progress_counts_and_makes_room_first() -> None:
    world = World()
    slot = world.book.admit("a", lambda: world.stopped.append("a"), handshake=True)
    assert slot is not None
    for address in "bcd":
        world.open(address)
    world.seconds += 1
    assert world.book.admit("e", lambda: None) is not None
    assert world.stopped == ["a"]
    late = Client()
    world.book.serve(slot, late)
    assert late.ended == ["evicted"], "a handshake that ends nevertheless is ended too"


def test_handshakes_are_bounded_and_the_oldest_gives_way_once_it_had_its_time() -> None:
    settings = PlaneSettings(10, 10, handshakes_max=2, handshake_ms_least=250)
    world = World(settings)
    for name in ("first", "second"):
        assert world.book.may_shake_hands()
        world.book.admit("a", lambda name=name: world.stopped.append(name), handshake=True)  # type: ignore[misc]
    world.seconds += 0.2
    assert not world.book.may_shake_hands()
    world.seconds += 0.05
    assert world.book.may_shake_hands()
    assert (world.stopped, world.book.closed["handshake"], world.book.count) == (["first"], 1, 1)


# ---- deadlines -------------------------------------------------------------------------------------------------------


def test_what_is_owed_is_cut_at_its_deadline_and_not_before() -> None:
    world = World()
    slot, client = world.open("a")
    world.book.owe(slot, "head", 5.0)
    world.seconds += 4.9
    world.book.owe(slot, "head", 5.0)  # a byte more does not put it off
    world.book.look()
    assert client.ended == []
    world.seconds += 0.1
    world.book.look()
    assert (client.ended, world.book.count) == (["head"], 0)


def test_what_was_brought_is_not_cut() -> None:
    world = World()
    slot, client = world.open("a")
    world.book.owe(slot, "head", 5.0)
    world.book.settle(slot, "head")
    world.seconds += 60
    world.book.look()
    assert client.ended == []


@pytest.mark.parametrize("owed", ["body", "unread"])
def test_who_brings_enough_a_second_goes_on_and_who_does_not_is_cut(owed: Owed) -> None:
    world = World()
    slot, client = world.open("a")
    world.book.owe(slot, owed, 10.0)
    for second in range(1, 61):
        world.seconds += 1
        client.brought = 100 * max(second - 9, 0)
        world.book.look()
    assert client.ended == [], "100 bytes a second behind the grace"
    for _ in range(20):
        world.seconds += 1
        world.book.look()
    assert client.ended == [owed]


def test_a_connection_that_says_nothing_is_cut() -> None:
    world = World()
    slot = world.book.admit("a", lambda: None)
    assert slot is not None
    client = Client()
    world.book.serve(slot, client)
    world.seconds += SETTINGS.first_byte_ms_max / 1000
    world.book.look()
    assert client.ended == ["first_byte"]


# ---- bytes -----------------------------------------------------------------------------------------------------------


def test_a_small_request_is_not_counted() -> None:
    world = World()
    slot, _ = world.open("a")
    assert world.book.hold(slot, 6, 4)
    assert world.budget.used == 0
    assert world.book.hold(slot, 7, 4)
    assert world.budget.used == 11


def test_who_is_waited_for_longest_makes_room_for_bytes() -> None:
    world = World()
    (slow, slow_client), (slower, slower_client) = world.open("a"), world.open("b")
    for slot in (slower, slow):
        world.book.owe(slot, "body", 10.0)
        assert world.book.hold(slot, 50, 0)
    honest, _ = world.open("c")
    assert world.book.hold(honest, 40, 0)
    assert (slower_client.ended, slow_client.ended) == (["memory_budget"], [])
    assert world.budget.used == 90


def test_who_asks_does_not_take_from_those_that_came_later() -> None:
    world = World()
    attacker, _ = world.open("a")
    assert world.book.hold(attacker, 60, 0)
    world.book.owe(attacker, "body", 10.0)
    honest, honest_client = world.open("b")
    assert world.book.hold(honest, 40, 0)
    world.book.owe(honest, "body", 10.0)
    assert not world.book.hold(attacker, 70, 0)
    assert honest_client.ended == []
    assert world.budget.used == 100


def test_a_connection_that_works_for_its_client_is_not_cut_for_bytes() -> None:
    world = World()
    busy, busy_client = world.open("a")
    assert world.book.hold(busy, 90, 0)
    other, _ = world.open("b")
    assert not world.book.hold(other, 20, 0)
    assert busy_client.ended == []


def test_bytes_are_given_back_when_a_connection_leaves() -> None:
    world = World()
    slot, _ = world.open("a")
    assert world.book.hold(slot, 90, 0)
    world.book.leave(slot)
    assert world.budget.used == 0


# ---- words -----------------------------------------------------------------------------------------------------------


def test_what_was_closed_is_told_now_and_then_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for address in "abcd":
        world.open(address)
    for _ in range(1000):
        world.book.admit("e", lambda: None)
        world.book.look()
    assert len(caplog.records) == 1
    world.seconds += 30
    world.book.look()
    assert "full 999" in caplog.records[1].getMessage()


def test_addresses_of_one_place_count_together() -> None:
    assert address_of(("127.0.0.1", 1)) == address_of(("127.8.9.1", 2)) == address_of(("::1", 1, 0, 0)) == LOOPBACK
    assert address_of(("2001:db8::1", 1, 0, 0)) == address_of(("2001:db8::ffff:2", 9, 0, 0))
    assert address_of(("2001:db8:0:1::1", 1, 0, 0)) != address_of(("2001:db8::1", 1, 0, 0))
    assert address_of(("10.0.0.1", 1)) != address_of(("10.0.0.2", 1))
    assert address_of("") == address_of(b"") == "unix"
