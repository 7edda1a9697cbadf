"""Peers by DNS: which addresses become peers, under which name, and what answers of a resolver may not do."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from tests.fakes.key_values import FakeClock
from wavekv.config import Address, DiscoverySettings, GossipSettings, PeerAddress
from wavekv.runtime.discovery import Discovery
from wavekv.runtime.link import Link, PushQueue

SETTINGS = DiscoverySettings(addresses_max=10, timeout_ms=20)
SETTINGS_OF_GOSSIP = GossipSettings()
NAME = Address("peers.example", 7072)


class Dns:
    """A resolver whose answer the test sets: addresses, or the error to raise."""

    def __init__(self, *answer: str) -> None:
        self.answer: list[str] | Exception = list(answer)
        self.held: asyncio.Event | None = None
        self.asked = 0

    async def __call__(self, name: Address) -> list[str]:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    def __init__(self, *answer: str, secure: bool = True) -> None:
        self.dns = Dns(*answer)
        self.clock = FakeClock()
        self.discovery = Discovery(NAME, SETTINGS, self.clock, secure=secure, resolver=self.dns)
        self.links: dict[str, Link] = {}

    async def resolve(self, *answer: str) -> None:
        self.dns.answer = list(answer)
        await self.discovery.refresh()

    def answers(self, address: str, name: str) -> None:
        """Let a peer of `name` answer at `address`."""
        link = self.link(address)
        link.answered(self.clock.seconds, name)
        self.discovery.look(self.links)

    def link(self, address: str) -> Link:
        return self.links.setdefault(address, Link(address, url(address), PushQueue(1), address, contact=True))

    def peers(self) -> dict[str, str]:
        return {peer.name: peer.url for peer in self.discovery.peers()}


def url(address: str, scheme: str = "https") -> str:
    return f"{scheme}://{address}:7072"


async def test_addresses_are_contacts_until_they_tell_their_name() -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1", "10.0.0.2", "10.0.0.1", "fd00::1")
    assert bench.discovery.peers() == tuple(
        PeerAddress(f"{host}:7072", url(host), contact=True) for host in ("10.0.0.1", "10.0.0.2", "[fd00::1]")
    )
    bench.answers("10.0.0.2", "m2")
    assert PeerAddress("m2", url("10.0.0.2")) in bench.discovery.peers()
    assert len(bench.peers()) == 3


async def test_the_own_address_is_asked_no_more() -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1", "10.0.0.2")
    bench.link("10.0.0.1").leads_back = True
    bench.discovery.look(bench.links)
    assert set(bench.peers().values()) == {url("10.0.0.2")}
    await bench.resolve("10.0.0.1", "10.0.0.2")
    assert set(bench.peers().values()) == {url("10.0.0.2")}


async def test_of_two_addresses_of_one_peer_the_last_that_answered_is_used_and_the_other_when_it_fails() -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1", "fd00::1")
    bench.answers("10.0.0.1", "m1")
    bench.answers("[fd00::1]", "m1")
    assert bench.peers() == {"m1": url("[fd00::1]")}
    for _ in range(3):
        bench.link("[fd00::1]").failed(0.0, "gone", SETTINGS_OF_GOSSIP, 1.0)
    bench.discovery.look({"m1": bench.link("[fd00::1]")})
    assert bench.peers() == {"m1": url("[fd00::1]"), "10.0.0.1:7072": url("10.0.0.1")}
    bench.links["10.0.0.1"] = Link("10.0.0.1:7072", url("10.0.0.1"), PushQueue(1), "10.0.0.1:7072", contact=True)
    bench.answers("10.0.0.1", "m1")
    assert bench.peers() == {"m1": url("10.0.0.1")}


async def test_an_address_goes_after_its_grace_and_one_that_came_back_stays() -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1", "10.0.0.2", "10.0.0.3")
    bench.clock.seconds = SETTINGS.grace_ms / 1000
    await bench.resolve("10.0.0.1", "10.0.0.2")
    assert len(bench.peers()) == 3
    bench.clock.seconds += 0.001
    await bench.resolve("10.0.0.1")
    assert set(bench.peers().values()) == {url("10.0.0.1"), url("10.0.0.2")}


async def test_no_error_of_the_resolver_takes_an_address_away_and_each_is_told_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1")
    with caplog.at_level(logging.WARNING):
        for second in range(0, 301):
            bench.clock.seconds = float(second)
            bench.dns.answer = OSError(-2, "Name or service not known")
            await bench.discovery.refresh()
    assert set(bench.peers().values()) == {url("10.0.0.1")}
    assert len(caplog.records) == 6, "once a minute"
    assert "peers.example does not resolve: Name or service not known" in caplog.text
    assert bench.discovery.told() == {
        "name": "peers.example:7072",
        "addresses": 1,
        "error": "Name or service not known",
    }
    await bench.resolve("10.0.0.1")
    assert bench.discovery.error is None


async def test_a_name_no_resolver_takes_is_an_error_like_any_other() -> None:
    bench = Bench()
    bench.dns.answer = UnicodeError("label too long")
    await bench.discovery.refresh()
    assert (bench.discovery.error, bench.discovery.resolved) == ("label too long", False)


async def test_a_resolver_that_hangs_is_waited_for_and_asked_no_second_time() -> None:
    bench = Bench("10.0.0.1")
    bench.dns.held = asyncio.Event()
    for _ in range(3):
        await bench.discovery.refresh()
    assert (bench.dns.asked, bench.discovery.error) == (1, "no answer in time")
    bench.dns.held.set()
    await bench.discovery.refresh()
    assert (bench.dns.asked, len(bench.peers()), bench.discovery.error) == (1, 1, None)


async def test_of_ten_thousand_addresses_a_bounded_number_is_used_and_known_ones_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    await bench.resolve("10.1.0.1")
    many = [f"10.{high}.{low}.9" for high in range(50) for low in range(200)]
    await bench.resolve(*many, "10.1.0.1")
    assert len(bench.peers()) == SETTINGS.addresses_max
    assert url("10.1.0.1") in bench.peers().values()
    assert "peers.example resolves to 10001 addresses; 10 are used" in caplog.text


async def test_without_tls_only_loopback_is_used() -> None:
    bench = Bench(secure=False)
    await bench.resolve("127.0.0.1", "::1", "10.0.0.1", "fe80::1%eth0")
    assert set(bench.peers().values()) == {url("127.0.0.1", "http"), url("[::1]", "http")}


async def test_the_certificate_has_to_carry_the_name_where_dns_gave_the_address() -> None:
    bench = Bench()
    await bench.resolve("10.0.0.1")
    assert bench.discovery.server_name(url("10.0.0.1")) == "peers.example"
    assert bench.discovery.server_name(url("10.0.0.2")) is None


async def test_whoever_follows_hears_of_the_first_answer_even_if_it_names_nobody() -> None:
    bench = Bench()
    bench.dns.answer = []
    heard = asyncio.Event()
    links: Mapping[str, Link] = {}
    following = asyncio.ensure_future(bench.discovery.run(lambda: links, heard.set))
    await asyncio.wait_for(heard.wait(), 10)
    following.cancel()
    assert bench.discovery.resolved
