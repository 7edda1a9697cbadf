"""Conversations recorded with the original system, held with this one: merge order, deltas, pages, limits.

Compared are the entries and pages of the answers and the entries left at the end. What differs on purpose is not
compared: acks by dots, members, collection, local writes at a limit, equal stamps. The merge-order recordings use one
dot for several keys, case after case; a dot names one write here (I2), so each case meets a member of its own.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry

FOLDER = Path(__file__).parents[1] / "vectors" / "transcripts"
NOW = 1_800_000_000_000
FLAGS = {
    "max_delta_entries": "page_entries_max",
    "max_delta_bytes": "page_bytes_max",
    "max_key_bytes": "key_bytes_max",
    "max_value_bytes": "value_bytes_max",
    "max_keys": "entries_max",
    "max_total_bytes": "bytes_max",
}
HELD = ["delta-filter", "paging-by-bytes", "paging-by-count", "paging-oversized", "limit-total-bytes"]
CASES = ["lww-order", "lww-within-one-batch"]


def entry(raw: dict[str, Any]) -> Entry:
    value = None if raw["value"] is None else bytes.fromhex(raw["value"])
    return Entry(raw["key"], value, raw["ts"], raw["node"], raw["seq"])


def shown(entries: list[dict[str, Any]]) -> list[Entry]:
    return [entry(raw) for raw in entries]


def envelope(raw: dict[str, Any]) -> Envelope:
    resume = raw.get("resume_from")
    return Envelope(
        sender_id=raw["sender_id"],
        acks={int(origin): ack for origin, ack in raw.get("acks", {}).items()},
        entries=tuple(shown(raw.get("entries", []))),
        resume_from=tuple(resume) if resume else None,
        reset_acks=raw.get("reset_acks", False),
        push_only=raw.get("push_only", False),
    )


@pytest.mark.parametrize("name", HELD)
def test_the_conversation_goes_as_it_went_with_the_crate(name: str) -> None:
    transcript = json.loads((FOLDER / f"{name}.json").read_text())
    limits = replace(LIMITS, **{FLAGS[flag]: value for flag, value in transcript["flags"].items()})
    member = MemoryMember(transcript["node"] - 1, tuple(f"m{i}" for i in range(transcript["node"])), limits)
    member.configure_crates(*(f"c{index}" for index in range(4)))
    compared = 0
    for step in transcript["steps"]:
        sent, received = step["send"], step["recv"].get("r", {})
        match sent["cmd"]:
            case "push_merge":
                exchange.receive_push(member.replica, envelope(sent["env"]), NOW)
            case "handle":
                request = envelope(sent["env"])
                exchange.receive_request(member.replica, request, NOW)
                member.commit()
                answer = exchange.answer(member.replica, request, NOW)
                expected = received["env"]
                assert list(answer.entries) == shown(expected["entries"])
                assert (answer.page and list(answer.page.cursor)) == (expected["page"] and expected["page"]["cursor"])
                compared += 1
            case "dump":
                member.commit()
                held = sorted(member.store.entries.values(), key=lambda item: item.key)
                assert held == sorted(shown(received["data"]), key=lambda item: item.key)
                compared += 1
        member.commit()
    assert compared


@pytest.mark.parametrize("name", CASES)
def test_the_same_entry_wins_as_with_the_crate(name: str) -> None:
    transcript = json.loads((FOLDER / f"{name}.json").read_text())
    *cases, dump = transcript["steps"]
    held: list[Entry] = []
    decided_by_content: set[str] = set()
    for case in cases:
        member = MemoryMember(0, ("m0",))
        sent = case["send"]
        entries = shown(sent["entries"] if "entries" in sent else sent["env"]["entries"])
        if len({item.stamp for item in entries}) < len(entries):
            decided_by_content |= {item.key for item in entries}
            continue
        member.replica.merge(entries, NOW)
        member.commit()
        held += member.store.entries.values()
    expected = [item for item in shown(dump["recv"]["r"]["data"]) if item.key not in decided_by_content]
    assert len(expected) > 1
    assert sorted(held, key=lambda item: item.key) == sorted(expected, key=lambda item: item.key)
