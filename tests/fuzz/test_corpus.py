"""The corpus and every input that once failed, and some thousand mutations of them, the same in every run."""

import logging
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.budget import CPU_SECONDS_MAX, OverBudget, check_within, forget_peak
from tests.fuzz.mutation import mutated
from tests.fuzz.seeds import CORPUS, MAKERS, REGRESSIONS, SEED_BYTES_MAX, corpus_of
from tests.fuzz.targets import TARGETS

EXECUTIONS = 5000
COSTLY_EXECUTIONS = 1000
CORPUS_BYTES_MAX = 1 << 20


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep lines of the log, which pytest gathers, out of what an input is said to hold."""
    logger = logging.getLogger("wavekv")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_every_input_that_once_failed_hold(name: str) -> None:
    seeds = corpus_of(name)
    assert seeds, f"there is no corpus of {name}; make it: python -m tests.fuzz.seeds"
    for seed in seeds:
        check_within(TARGETS[name].run, TARGETS[name].prepare(seed))


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_the_corpus_hold(name: str) -> None:
    target, rng = TARGETS[name], random.Random(f"corpus {name}")
    count = COSTLY_EXECUTIONS if target.costly else EXECUTIONS
    for data in mutated(corpus_of(name), target.words, count, rng):
        try:
            check_within(target.run, target.prepare(data))
        except Exception as error:
            error.add_note(f"the input, for tests/fuzz/regressions/{name}: {data[:2000]!r}")
            raise


def test_the_corpus_is_small_and_that_of_the_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS) == set(MAKERS)
    assert {folder.name for folder in REGRESSIONS.iterdir() if folder.is_dir()} <= set(TARGETS)
    files = [path for folder in (CORPUS, REGRESSIONS) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES_MAX
    assert all(path.stat().st_size <= SEED_BYTES_MAX for path in CORPUS.rglob("*") if path.is_file())


def test_an_input_that_costs_too_much_time_or_memory_fails() -> None:
    def slow(_: bytes) -> None:
        sum(number * number for number in range(2_000_000))

    def wide(_: bytes) -> None:
        bytearray(100 << 20).count(b"x")

    with pytest.raises(OverBudget, match="ms of processor time"):
        check_within(slow, b"x")
    forget_peak()
    with pytest.raises(OverBudget, match="MiB of memory"):
        check_within(wide, b"x")
    check_within(lambda _: None, b"x")


def test_what_is_slow_once_is_tried_again() -> None:
    calls: Iterator[int] = iter((10_000_000, 1, 1))
    check_within(lambda _: [None for _ in range(next(calls))] and None, b"")
    assert CPU_SECONDS_MAX < 1


def test_mutations_are_the_same_for_the_same_seed_and_differ_from_their_seeds() -> None:
    seeds = [b"one seed of some length", b"and another one"]
    first = list(mutated(seeds, [b"word"], 200, random.Random(5)))
    assert first == list(mutated(seeds, [b"word"], 200, random.Random(5)))
    assert len({*first}) > 150
    assert any(b"word" in data for data in first)
