"""The same commands for a member and for redis-server, and what they answer differently: a seed says which.

    python -m tests.integration.redis_differential --redis 6379 --member 7071 --commands 20000 --seed 1

Both start empty. A difference is printed with the command and both answers; intended ones are in docs/redis.md.
"""

import argparse
import random
import socket
import sys
from collections.abc import Iterator
from typing import Any

KEYS = [b"a", b"b", b"c", b"d", b"user:1", b"user:2", b"user:10", b"\xc3\xa4", b"x y", b"k[1]"]
VALUES = [b"", b"0", b"1", b"-7", b"12345678901234567890", b"text", b"\x00\xff\r\n", b"v" * 60, b"010", b"9" * 19]
NUMBERS = [
    b"0",
    b"1",
    b"-1",
    b"5",
    b"-5",
    b"100",
    b"3",
    b"x",
    b"",
    b"9223372036854775807",
    b"9223372036854775808",
    b"01",
]
FLAGS = [[], [], [b"NX"], [b"XX"], [b"GT"], [b"LT"], [b"XX", b"GT"], [b"GT", b"LT"], [b"FOO"]]
MILLISECONDS = [b"100000", b"5000000", b"0", b"-1", b"x", b"9223372036854775807"]
SECONDS = [b"100", b"1000", b"5000", b"0", b"-1", b"x", b"9223372036854775807"]
PATTERNS = [
    b"*",
    b"user:*",
    b"?",
    b"[a-c]",
    b"[^a]*",
    b"*1*",
    b"a",
    b"k\\[1\\]",
    b"k[[]1]",
    b"",
    b"user:[12]",
    b"[]",
    b"[a",
    b"\\",
    b"**1",
    b"*\xa4",
]
ABOUT_MS = 3000
"""Times left may differ by so much."""


class Failed(Exception):
    """An error reply."""


class Client:
    """One connection; `ask` returns a value in which errors are exceptions and everything else is plain."""

    def __init__(self, port: int, proto: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._sock.makefile("rb")
        self.ask([b"HELLO", b"%d" % proto])

    def ask(self, words: list[bytes]) -> Any:
        self._sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
        return self._value()

    def _value(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            return ("error", rest)
        if kind in b"+:,#(":
            return (kind.decode(), rest)
        if kind == b"_":
            return ("null", b"")
        if int(rest) < 0:
            return ("null", kind)
        if kind in {b"$", b"="}:
            return ("$", self._file.read(int(rest) + 2)[:-2])
        count = int(rest) * (2 if kind == b"%" else 1)
        return (kind.decode(), [self._value() for _ in range(count)])

    def close(self) -> None:
        self._file.close()
        self._sock.close()


def commands(seed: int) -> Iterator[list[bytes]]:
    """Yield commands without end."""
    rng = random.Random(seed)
    one = rng.choice
    made = _Made(rng)
    while True:
        words = made.simple() if rng.random() < 0.93 else made.odd()
        if rng.random() < 0.05:
            words[0] = words[0].lower()
        yield words
        if rng.random() < 0.02:
            yield from (
                [b"MULTI"],
                *(made.queued() for _ in range(one([0, 1, 3, 8]))),
                [one([b"EXEC", b"DISCARD"])],
            )
        if rng.random() < 0.01:
            yield from (
                [b"WATCH", one(KEYS)],
                [b"SET", one(KEYS), one(VALUES)],
                [b"MULTI"],
                [b"GET", one(KEYS)],
                [b"EXEC"],
            )


class _Made:
    """What a generator makes, command by command."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def simple(self) -> list[bytes]:
        """A command with arguments of the right number, mostly of the right kind."""
        name = self._rng.choice(_NAMES)
        return [name, *self._arguments(name)]

    def queued(self) -> list[bytes]:
        """One that may be part of a transaction here."""
        words = self.simple()
        while words[0] in {b"KEYS", b"DBSIZE", b"OBJECT"}:
            words = self.simple()
        return words

    def _arguments(self, name: bytes) -> list[bytes]:
        one, some = self._rng.choice, range(self._rng.randint(1, 4))
        key, value = one(KEYS), one(VALUES)
        if name in {b"MGET", b"DEL", b"UNLINK", b"EXISTS", b"TOUCH"}:
            return [one(KEYS) for _ in some]
        if name in {b"MSET", b"MSETNX"}:
            return [word for _ in some for word in (one(KEYS), one(VALUES))]
        of_key = {
            b"SET": [value, *self._options(name)], b"GETEX": self._options(name),
            b"SETNX": [value], b"GETSET": [value], b"APPEND": [value], b"RENAME": [one(KEYS)], b"RENAMENX": [one(KEYS)],
            b"SETEX": [one(SECONDS), value], b"PSETEX": [one(MILLISECONDS), value],
            b"EXPIRE": [one(SECONDS), *one(FLAGS)], b"PEXPIRE": [one(MILLISECONDS), *one(FLAGS)],
            b"EXPIREAT": [one([b"4102444800", b"1", b"-1", b"x"])],
            b"PEXPIREAT": [one([b"4102444800000", b"1", b"x"])],
            b"COPY": [one(KEYS), *one([[], [b"REPLACE"], [b"DB", b"0"], [b"DB", b"x"], [b"FOO"]])],
            b"GETRANGE": [one(NUMBERS), one(NUMBERS)], b"SUBSTR": [one(NUMBERS), one(NUMBERS)],
            b"SETRANGE": [one([b"0", b"1", b"5", b"100", b"-1", b"x"]), value],
        }  # fmt: skip
        if name in of_key:
            return [key, *of_key[name]]
        if name == b"OBJECT":
            return [one([b"ENCODING", b"REFCOUNT", b"FREQ"]), key]
        if name == b"KEYS":
            return [one(PATTERNS)]
        return [key] if name in _OF_A_KEY else []

    def _options(self, name: bytes) -> list[bytes]:
        one = self._rng.choice
        if name == b"GETEX":
            return one(
                [[], [b"PERSIST"], [b"EX", one(SECONDS)], [b"PX", b"500000"], [b"EXAT", b"1"], [b"EX"], [b"FOO"]]
            )
        known = [[b"NX"], [b"XX"], [b"GET"], [b"KEEPTTL"], [b"EX", one(SECONDS)], [b"PX", b"500000"], [b"PXAT", b"1"]]
        known += [[b"EXAT", b"4102444800"], [b"FOO"], [b"EX"]]
        return [word for _ in range(one([0, 0, 1, 1, 2, 3])) for word in one(known)]

    def odd(self) -> list[bytes]:
        """A command with too few or too many arguments, an unknown one, or one about the connection."""
        one = self._rng.choice
        words = one([*_NAMES, b"FOO", b"hgetnothing", b"SCAN", b"ECHO", b"SELECT", b"AUTH"])
        return one(
            [
                [words], [words, b"a"], [words, b"a", b"b"], [words, *[b"a"] * 9], [b"ECHO", one(VALUES)], [b"PING"],
                [b"PING", one(VALUES)], [b"SELECT", one([b"0", b"99", b"x"])], [b"AUTH", b"p"], [b"AUTH", b"u", b"p"],
                [b"AUTH", b"default", b"p"], [b"SCAN", b"x"], [b"SCAN", b"0", b"COUNT", one([b"0", b"-1", b"x"])],
                [b"SCAN", b"0", b"FOO", b"1"], [b"CLIENT", b"GETNAME"], [b"CLIENT", b"SETNAME", b"a b"],
                [b"CLIENT", b"TRACKING"], [b"CLIENT", b"CACHING", b"YES"], [b"CLIENT", b"FOO"], [b"UNWATCH"],
                [b"EXEC"], [b"DISCARD"], [b"OBJECT", b"FOO", b"a"], [b"OBJECT", b"ENCODING"], [b"HELLO", b"9"],
                [b"HELLO", b"3", b"FOO"], [b"FLUSHDB", b"FOO"], [b"CLIENT", b"TRACKING", b"ON", b"PREFIX", b"a"],
            ]
        )  # fmt: skip


_OF_A_KEY = {b"GET", b"STRLEN", b"TTL", b"PTTL", b"EXPIRETIME", b"PERSIST", b"TYPE", b"GETDEL"}
_NAMES = sorted(
    {
        *_OF_A_KEY, b"SET", b"SETNX", b"SETEX", b"PSETEX", b"GETSET", b"GETEX", b"APPEND", b"EXPIRE", b"PEXPIRE",
        b"EXPIREAT", b"PEXPIREAT", b"MGET", b"DEL", b"UNLINK", b"EXISTS", b"TOUCH", b"MSET", b"MSETNX", b"RENAME",
        b"RENAMENX", b"COPY", b"GETRANGE", b"SUBSTR", b"SETRANGE", b"KEYS", b"OBJECT", b"DBSIZE", b"GET",
    }
)  # fmt: skip


def same(words: list[bytes], ours: Any, theirs: Any) -> bool:
    """Tell whether two answers mean the same."""
    name = words[0].upper()
    if name == b"EXEC" and ours[0] == theirs[0] == "*":
        return len(ours[1]) == len(theirs[1]) and all(map(_alike, ours[1], theirs[1]))
    return _alike(ours, theirs) or (name in _TIMES and _near(ours, theirs))


def _alike(ours: Any, theirs: Any) -> bool:
    if ours == theirs:
        return True
    if ours[0] == theirs[0] == "*":  # keys come in another order
        return sorted(map(repr, ours[1])) == sorted(map(repr, theirs[1]))
    return _near(ours, theirs)


_TIMES = {b"TTL", b"PTTL", b"EXPIRETIME"}


def _near(ours: Any, theirs: Any) -> bool:
    if ours[0] != ":" or theirs[0] != ":":
        return False
    mine, yours = int(ours[1]), int(theirs[1])
    return mine > 50 and yours > 50 and abs(mine - yours) <= ABOUT_MS


def intended(words: list[bytes], ours: Any, theirs: Any) -> str | None:
    """Return why two answers differ, None if they should not."""
    name, numbers = words[0].upper(), ours[0] == theirs[0] == ":"
    reasons = {
        "a time to live has a hundred years at most": name in _WITH_EXPIRY and b"9223372036854775807" in words,
        "a key has one byte at least": ours[0] == "error" and ours[1].startswith(b"ERR invalid_key: the key is empty"),
        "redis counts keys whose time is over until it comes across them": name == b"DBSIZE"
        and numbers
        and int(ours[1]) < int(theirs[1]),
        "redis keeps raw what was changed in place": [name, *words[1:2]] == [b"OBJECT", b"ENCODING"]
        and theirs == ("$", b"raw")
        and ours[0] == "$",
        "small numbers are not shared objects": [name, *words[1:2]] == [b"OBJECT", b"REFCOUNT"] and numbers,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


_WITH_EXPIRY = {b"SET", b"SETEX", b"PSETEX", b"GETEX", b"EXPIRE", b"PEXPIRE"}


def differences(member: int, redis: int, *, count: int, seed: int, proto: int) -> list[str]:
    """Return what is answered differently by both ports to `count` commands, as lines to print."""
    ours, theirs = Client(member, proto), Client(redis, proto)
    found: list[str] = []
    try:
        for client in (ours, theirs):
            client.ask([b"FLUSHALL"])
        for number, words in enumerate(commands(seed)):
            if number >= count:
                break
            mine, yours = ours.ask(words), theirs.ask(words)
            if not same(words, mine, yours) and intended(words, mine, yours) is None:
                found.append(f"{number} {words!r}: member {mine!r}, redis {yours!r}")
    finally:
        ours.close()
        theirs.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("--redis", 6379), ("--member", 7071), ("--commands", 20_000), ("--seed", 1)):
        parser.add_argument(name, type=int, default=default)
    asked = parser.parse_args()
    found = []
    for proto in (2, 3):
        found += differences(asked.member, asked.redis, count=asked.commands, seed=asked.seed, proto=proto)
    sys.stdout.write("\n".join(found) + f"\n{len(found)} differences\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
