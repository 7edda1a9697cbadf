"""Clusters of real processes for the tests of this folder."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.member_process import Cluster, MemberProcess


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three started members that know each other."""
    with Cluster(3, tmp_path) as cluster:
        yield cluster.start()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[MemberProcess]:
    """One started member without peers."""
    with Cluster(1, tmp_path) as cluster:
        yield cluster.start()[0]


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Children that SIGINT ends, as from a terminal.

    A shell without job control lets what it starts with `&` ignore SIGINT, and with a test run all its children.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
