"""The sentences of `wavekv explain`."""

from wavekv.cli.explain import sentences
from wavekv.cli.status import local_time

STATUS = {"name": "m0", "process": {"origin": 7}}
HELD = {"etag": "1700000000000.7.3", "deleted": False, "expired": False, "expires_at": 1_900_000_000_000}
LOSER = {"etag": "1699999999000.9.1", "deleted": False, "value_bytes": 12, "lost_to": "1700000000000.7.3"}


def test_the_winner_its_time_and_its_member_are_told() -> None:
    found = {"held": HELD | {"value_bytes": 5}, "losers": [], "covered_by": {"m1": True, "m2": False}}
    assert sentences("k\n", found, STATUS) == [
        "k\\n: it holds 5 bytes.",
        f"  It was written at {local_time(1_700_000_000)} by this member, m0 (tag 1700000000000.7.3).",
        f"  It expires at {local_time(1_900_000_000)}.",
        "  On m1 too.",
        "  Not reported by m2 yet; `wavekv status` says whether they are reached.",
    ]


def test_what_was_lost_is_told_and_what_to_do() -> None:
    told = "\n".join(sentences("k", {"held": HELD, "losers": [LOSER | {"seen_ms": 1_700_000_001_000}]}, STATUS))
    assert "A write of 12 bytes was lost" in told
    assert "another member or an earlier process, origin 9" in told
    assert f"seen at {local_time(1_700_000_001)}" in told
    assert "write it again" in told


def test_an_answer_with_gaps_is_told_too() -> None:
    assert "never heard" in sentences("k", {}, {})[0]
    assert "deleted" in sentences("k", {"held": {"deleted": True}, "losers": [{}]}, {})[0]
