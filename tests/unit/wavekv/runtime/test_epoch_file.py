"""The membership document: what is accepted, what is refused by field, and what a directory keeps."""

import json
from pathlib import Path
from typing import Any

import pytest

from wavekv.config import PeerAddress
from wavekv.core.membership import Epoch
from wavekv.errors import UsageError
from wavekv.runtime.epoch_file import (
    MEMBERS_MAX,
    EpochFile,
    Kept,
    addresses,
    parse_document,
    read_document,
)

GOOD: dict[str, Any] = {
    "cluster_id": "6F9F2A3E-1D1F-4F5E-9A44-3B6F0D4F7A01",
    "epoch": 3,
    "members": ["demo-0", "demo-1"],
    "admitted": {"demo-0": 1, "demo-1": 3},
    "peer_url": "https://{name}.demo-peers.default.svc:7072",
}


def test_a_document_names_members_and_how_to_reach_them() -> None:
    document = parse_document(GOOD, "here")
    assert document.epoch == Epoch(3, ("demo-0", "demo-1"), admitted={"demo-0": 1, "demo-1": 3})
    assert document.cluster_id == "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
    assert addresses(Epoch(4, ("demo-7",)), document.peer_url) == (
        PeerAddress("demo-7", "https://demo-7.demo-peers.default.svc:7072"),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", 0),
        ("epoch", "3"),
        ("epoch", True),
        ("members", []),
        ("members", "demo-0"),
        ("members", ["demo-0", "demo-0"]),
        ("members", [""]),
        ("members", [f"m{index}" for index in range(MEMBERS_MAX + 1)]),
        ("peer_url", "https://nobody:7072"),
        ("peer_url", "ftp://{name}"),
        ("bootstrap", "yes"),
        ("cluster_id", "demo"),
        ("cluster_id", 7),
    ],
)
def test_a_bad_field_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        parse_document({**GOOD, field: value}, "here")


@pytest.mark.parametrize(
    "admitted",
    [
        [],
        {"demo-0": 1},
        {"demo-0": 1, "demo-1": 0},
        {"demo-0": 1, "demo-1": 4},
        {"demo-0": 1, "demo-1": True},
        {"demo-0": 1, "demo-1": "3"},
    ],
)
def test_admissions_name_every_member_with_an_epoch_up_to_the_document_s_own(admitted: object) -> None:
    with pytest.raises(UsageError, match=r"admitted.*1 … 3"):
        parse_document({**GOOD, "admitted": admitted}, "here")


def test_admissions_of_names_that_are_no_members_are_dropped_and_none_are_needed() -> None:
    more = {"demo-0": 1, "demo-1": 3, "demo-9": 2}
    assert parse_document({**GOOD, "admitted": more}, "here") == parse_document(GOOD, "here")
    assert parse_document({**GOOD, "admitted": None}, "here").epoch.admitted is None


def test_a_file_that_is_no_document_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "membership.json"
    for content in (None, "{", "[]"):
        if content is not None:
            path.write_text(content)
        with pytest.raises(UsageError, match="membership"):
            read_document(path)


def test_a_directory_keeps_the_epoch_and_the_standing_it_was_given(tmp_path: Path) -> None:
    file = EpochFile(tmp_path)
    assert file.load() is None
    file.save(Kept(Epoch(3, ("a", "b"), bootstrap=True), healed_epoch=3))
    last = Kept(Epoch(4, ("a",), admitted={"a": 2}, inferred=True), "https://{name}:1", healed_epoch=0, draining=2)
    file.save(last)
    assert file.load() == last
    assert [path.name for path in tmp_path.iterdir()] == ["MEMBERSHIP"]


@pytest.mark.parametrize("field", ["healed_epoch", "draining", "inferred"])
def test_a_damaged_standing_is_refused_by_its_field(tmp_path: Path, field: str) -> None:
    (tmp_path / "MEMBERSHIP").write_text(json.dumps({**GOOD, field: "soon"}))
    with pytest.raises(UsageError, match=field):
        EpochFile(tmp_path).load()
