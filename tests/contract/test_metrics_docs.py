"""docs/metrics.md describes exactly the families that a member and the operator expose."""

import re
from pathlib import Path

from wavekv.metrics.families import FAMILIES, Family
from wavekv_operator.metrics import Metrics

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
MEMBER, OPERATOR = DOCUMENT.read_text().split("## The operator")


def row(family: Family) -> str:
    """Return the document's row for a family."""
    labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help} |"


def test_the_document_has_one_row_for_each_family_in_the_order_of_a_scrape() -> None:
    documented = [line for line in MEMBER.splitlines() if line.startswith("| `wavekv_")]
    assert documented == [row(family) for family in FAMILIES]


def test_the_document_names_no_family_that_does_not_exist() -> None:
    exposed = {family.name for family in FAMILIES}
    suffixed = {name + suffix for name in exposed for suffix in ("_bucket", "_count", "_sum")}
    mentioned = set(re.findall(r"\bwavekv_[a-z_]+[a-z]", MEMBER))
    assert mentioned - suffixed <= exposed


def test_names_end_in_their_unit_and_counters_in_total() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"wavekv_[a-z]+(_[a-z]+)*", family.name), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert bool(family.buckets) == (family.kind == "histogram"), family.name
        assert list(family.buckets) == sorted(set(family.buckets)), family.name
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent)(_|$)", family.name), family.name
        assert family.help.endswith("."), family.name


def test_the_operators_families_are_documented_with_their_words() -> None:
    exposed = [family for family in Metrics().registry.collect() if family.name.startswith("wavekv_operator")]
    rows = [line.split(" | ") for line in OPERATOR.splitlines() if line.startswith("| `wavekv_operator")]
    names = [family.name + ("_total" if family.type == "counter" else "") for family in exposed]
    assert [row[0].strip("| `") for row in rows] == names
    assert [(row[1], row[3].removesuffix(" |")) for row in rows] == [(f.type, f.documentation) for f in exposed]
