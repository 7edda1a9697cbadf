"""Mutated inputs without a fuzzing engine, the same for the same seed: a test of some thousand is repeatable."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

INPUT_BYTES_MAX: Final = 1 << 16
_NUMBERS: Final = tuple(
    number.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for number in (0, 1, 127, 128, 255, (1 << 8 * width) - 1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1)
    if number < 1 << 8 * width
    for order in ("little", "big")
)


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], count: int, rng: random.Random) -> Iterator[bytes]:
    """Yield `count` inputs, each made of a seed by a few changes; `words` are what a format is full of."""
    pool = list(seeds) or [b""]
    for _ in range(count):
        data = bytearray(rng.choice(pool))
        for _change in range(rng.randint(1, 4)):
            _change_one(data, pool, words, rng)
        yield bytes(data[:INPUT_BYTES_MAX])


def _change_one(data: bytearray, pool: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 2, 4, 16, 256)))
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at:end] = rng.randbytes(end - at)
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        data[at:at] = data[at:end] * rng.choice((1, 2, 50))
    elif kind == 4:
        number = rng.choice(_NUMBERS)
        data[at : at + len(number)] = number
    elif kind == 5 and words:
        data[at:at] = rng.choice(words)
    elif kind == 6:
        other = rng.choice(pool)
        begin = rng.randrange(len(other) + 1)
        data[at:end] = other[begin : begin + rng.choice((4, 64, 1024))]
    else:
        del data[at:]
