"""Clusters of real processes for the tests of this folder."""

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
