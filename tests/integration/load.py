"""Writers of a cluster that remember what each key may hold: puts, deletes, expiring puts and batches.

A key has one writer, which goes on through one member after the other. Two members may stamp two of its writes within
a millisecond the other way round, so what counts is the greatest stamp answered, not the last answer. A request that
was cut off may take effect at any later moment: a stopped process reads it when it goes on.
"""

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.integration.member_process import MemberProcess, Unmet

_TIMEOUT_SECONDS = 1.0
_PACE_SECONDS = 0.002
_STAY_REQUESTS = (5, 60)
"""Requests through one member before the writer goes to another one."""
_NOT_STORED = {404, 429, 503}

Stamp = tuple[int, int, int]
Listing = dict[str, tuple[str, str]]
"""Key → etag and value."""


def stamp_of(etag: str) -> Stamp:
    """Return timestamp, origin and sequence of an entity tag."""
    timestamp, origin, seq = etag.strip('"').split(".")
    return int(timestamp), int(origin), int(seq)


class Written(NamedTuple):
    """An answered write: None deletes; `expires_at` in ms."""

    stamp: Stamp
    value: str | None
    expires_at: int | None = None


@dataclass
class Key:
    """What one key may hold: the winner of all answered writes, or what was sent without an answer."""

    winner: Written | None = None
    doubtful: set[str | None] = field(default_factory=set)

    def answered(self, written: Written) -> None:
        if self.winner is None or written.stamp > self.winner.stamp:
            self.winner = written

    def complaint(self, held: tuple[str, str] | None, asked_ms: float, answered_ms: float) -> str | None:
        """Return what is wrong with `held`, an etag and a value read between two times; None if it may be there.

        What expires between the two may have been there or not.
        """
        winner = self.winner
        if held is None:
            return None if self._gone(answered_ms) or None in self.doubtful else f"lost {winner}"
        etag, value = held
        if winner is not None and stamp_of(etag) == winner.stamp:
            return f"{winner} is still there" if self._gone(asked_ms) or value != winner.value else None
        if winner is not None and stamp_of(etag) < winner.stamp:
            return f"{etag} came back over {winner}"
        return None if value in self.doubtful else f"{etag} holds what nobody wrote; answered was {winner}"

    def _gone(self, now_ms: float) -> bool:
        """Tell whether the key held nothing at `now_ms` by what was answered."""
        winner = self.winner
        return winner is None or winner.value is None or (winner.expires_at or now_ms + 1) <= now_ms


@dataclass
class Tally:
    """What the writers met."""

    puts: int = 0
    deletes: int = 0
    expiring: int = 0
    batches: int = 0
    refused: int = 0
    unanswered: int = 0


class Writer(threading.Thread):
    """Writes keys of its own through members of the cluster until told to stop."""

    def __init__(self, name: str, members: Sequence[MemberProcess], keys: int, rng: random.Random) -> None:
        super().__init__(name=f"writer {name}", daemon=True)
        self.keys = {f"{name}-{number}": Key() for number in range(keys)}
        self.dots: list[tuple[int, int]] = []
        """Origin and sequence of every answered write; no two writes of a cluster share one."""
        self.tally = Tally()
        self.failure: AssertionError | None = None
        self._names = list(self.keys)
        self._members = members
        self._rng = rng
        self._count = 0
        self._over = threading.Event()

    def stop(self) -> None:
        """End the load; raise what the writer found wrong."""
        self._over.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._stay(self._rng.choice(self._members))
        except AssertionError as failure:
            self.failure = failure

    def _stay(self, member: MemberProcess) -> None:
        """Send some requests through one member, fewer if one goes without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", member.http, timeout=_TIMEOUT_SECONDS)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.connect()
                for _ in range(self._rng.randint(*_STAY_REQUESTS)):
                    if self._over.wait(_PACE_SECONDS):
                        return
                    self._write(connection)
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPConnection) -> None:
        drawn = self._rng.random()
        key = self._rng.choice(self._names)
        self._count += 1
        value = f"{self.name} {self._count}"
        if drawn < 0.15:
            self._batch(connection, value)
        elif drawn < 0.5:
            self._one(connection, "DELETE", key, None)
        elif drawn < 0.65:
            self._one(connection, "PUT", key, value, ttl=self._rng.choice((0.2, 1, 3, 3600)))
        else:
            self._one(connection, "PUT", key, value)

    def _one(
        self, connection: http.client.HTTPConnection, method: str, name: str, value: str | None, ttl: float = 0
    ) -> None:
        key = self.keys[name]
        path = f"/v1/kv/{name}" + (f"?ttl={ttl}" if ttl else "")
        doubt = {value, None} if ttl else {value}
        answer, _ = self._ask(connection, method, path, value, {name: doubt})
        if answer.status in {200, 201}:
            expires = answer.getheader("Wavekv-Expires-At")
            self._note(key, Written(stamp_of(answer.headers["ETag"]), value, int(expires) if expires else None))
            self.tally.expiring += bool(ttl)
            self.tally.puts += value is not None
            self.tally.deletes += value is None

    def _batch(self, connection: http.client.HTTPConnection, value: str) -> None:
        names = self._rng.sample(self._names, 5)
        changes = {name: value if self._rng.random() < 0.5 else None for name in names}
        operations: list[dict[str, str]] = [
            {"op": "delete", "key": name} if change is None else {"op": "put", "key": name, "value": change}
            for name, change in changes.items()
        ]
        body = json.dumps({"operations": operations})
        doubt: dict[str, set[str | None]] = {name: {change} for name, change in changes.items()}
        answer, text = self._ask(connection, "POST", "/v1/batch", body, doubt)
        if answer.status == 200:
            self.tally.batches += 1
            for name, result in zip(names, json.loads(text)["results"], strict=True):
                if "etag" in result:
                    self._note(self.keys[name], Written(stamp_of(result["etag"]), changes[name]))

    def _note(self, key: Key, written: Written) -> None:
        self.dots.append(written.stamp[1:])
        key.answered(written)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: str | None,
        doubt: Mapping[str, set[str | None]],
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            headers = {"Content-Type": "application/json"} if method == "POST" else {}
            connection.request(method, path, None if body is None else body.encode(), headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.tally.unanswered += 1
            for name, changes in doubt.items():
                self.keys[name].doubtful |= changes
            raise
        assert answer.status in {200, 201} | _NOT_STORED, (method, path, answer.status, text)
        self.tally.refused += answer.status in {429, 503}
        return answer, text


def listing(member: MemberProcess, store: str = "") -> Listing:
    """Return all that a member holds."""
    held: Listing = {}
    after = ""
    while True:
        page: dict[str, Any] = member.request("GET", f"/v1/{store}kv?limit=1000&after={after}").json()
        held |= {entry["key"]: (entry["etag"], entry["value"]) for entry in page["entries"]}
        if page["next"] is None:
            return held
        after = page["next"]


def unsettled(members: Sequence[MemberProcess]) -> list[str]:
    """Return what still keeps `members` from having converged, collected deletes and healed."""
    statuses = {member.name: member.status() for member in members}
    found = [f"{name} is not converged" for name, status in statuses.items() if not status["converged"]]
    found += [f"{name} heals" for name, status in statuses.items() if status["healing"]]
    for name, status in statuses.items():
        waiting = status["collection"]["waiting"]
        if waiting or status["store"]["entries"] != status["store"]["live"]:
            found.append(f"{name} keeps {waiting} deletes: {status['store']}, {status['collection']['pinned_by']}")
    contexts = [status["context"] for status in statuses.values()]
    if any(context != contexts[0] for context in contexts):
        found.append(f"contexts differ: {contexts}")
    return found


def wait_settled(members: Sequence[MemberProcess], deadline: float) -> None:
    """Wait until `members` have converged, hold no deletes and cover the same.

    Raises:
        Unmet: with what is missing.
    """
    ends = time.monotonic() + deadline
    while True:
        try:
            found = unsettled(members)
        except (OSError, http.client.HTTPException) as error:
            found = [repr(error)]
        if not found:
            return
        if time.monotonic() > ends:
            raise Unmet(f"not settled within {deadline} s: " + "; ".join(found))
        time.sleep(0.05)
