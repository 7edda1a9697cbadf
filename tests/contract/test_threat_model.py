"""The threat model names tests that exist, and its table of identities is the one that is tried on a real member."""

import re
from pathlib import Path

from tests.integration.test_identities import NO_TLS, ROWS
from tests.simulation.hostile import BEYOND

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
POLICY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_its_table_of_identities_is_the_one_that_is_tried() -> None:
    table = DOCUMENT.partition("| identity | messages | admin routes |")[2].partition("\n\n")[0]
    told = [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    assert told == [(row.who, row.message, row.admin) for row in ROWS]
    assert NO_TLS in {message for _, message, _ in told}


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`((?:tests|bench|docs)/[\w./-]+)`", DOCUMENT))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_it_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []


def test_every_lie_that_is_accepted_is_told() -> None:
    section = DOCUMENT.partition("It **can, and should not be able to**")[2].partition("\n## ")[0]
    assert [lie for lie in BEYOND if f"`{lie}`" not in section] == []


def test_links_of_both_documents_lead_somewhere() -> None:
    for folder, text in ((ROOT / "docs", DOCUMENT), (ROOT, POLICY)):
        targets = re.findall(r"\]\(([\w./-]+)\)", text)
        assert targets
        assert [target for target in targets if not (folder / target).exists()] == []
