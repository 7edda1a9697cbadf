"""What documents, docstrings and comments refer to exists: files, headings, links, decisions, rules, names of code."""

import re
from collections.abc import Callable

import pytest

from tests.contract import prose
from tests.contract.prose import Line, Tree

Check = Callable[[Tree, str, list[Line]], list[str]]

OFFENDERS = ("tests/test_tidy.py", "tests/contract/test_docs_are_true.py")
"""Files whose strings are offenders for a check to find."""

CHECKS: list[Check] = [
    prose.missing_paths,
    prose.missing_headings,
    prose.dead_links,
    prose.missing_decisions,
    prose.undefined_rules,
    prose.missing_names,
]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.of_project()


@pytest.mark.parametrize("check", CHECKS)
def test_what_the_project_refers_to_exists(tree: Tree, check: Check) -> None:
    read = [(path, lines) for path, lines in tree.prose.items() if path not in OFFENDERS]
    assert len(read) > 300
    assert [complaint for path, lines in read for complaint in check(tree, path, lines)] == []


def test_guarantees_rules_invariants_and_what_no_rule_keeps_count_on_without_a_gap(tree: Tree) -> None:
    for kind, least in (("R", 14), ("G", 11), ("I", 7), ("U", 9)):
        numbers = {int(rule[1:]) for rule in tree.rules if re.fullmatch(kind + r"\d+", rule)}
        assert numbers == set(range(1, max(numbers) + 1))
        assert max(numbers) >= least


def test_the_index_of_decisions_has_each_once_with_its_title_and_in_order(tree: Tree) -> None:
    folder = "docs/decisions/"
    listed = [line for line in tree.texts[folder + "README.md"].splitlines() if line.startswith("- ")]
    records = sorted(path for path in tree.texts if re.match(folder + r"\d{4}-", path))
    wanted = []
    for path in records:
        number, _, title = tree.headings(path)[0].partition(". ")
        name = path.removeprefix(folder)
        assert name.startswith(number.zfill(4)), f"{path} says it is number {number}"
        wanted.append(f"- [{number.zfill(4)} {title}]({name})")
    assert wanted
    assert listed == wanted


# ---- each check finds an offender, and nothing else ----------------------------------------------------------------

SMALL = Tree(
    {
        "README.md": "# Small\n- **G1 Durable.** It stays.\n",
        "docs/replication.md": "# Rules\n| R3 | says | yes |\n- **R3a** One.\n\n## A round: both sides\n- **I1 C.**\n",
        "docs/decisions/0002-so-be-it.md": "# 2. So be it\n",
        "sidecar/wavekv/core/store.py": '"""A store."""\nLIMIT = 1\nclass Store:\n  def get(self): self.kept = 1\n',
        "sidecar/wavekv/core/view.py": '"""A view."""\nclass View(Store): pass\n',
    }
)


@pytest.mark.parametrize(
    ("check", "text", "offender"),
    [
        (prose.missing_paths, "see core/store.py, store.py, docs/replication.md", "see core/image.py"),
        (prose.missing_paths, "see `docs/decisions/` and `docs/*.md`", "see `docs/figures/`"),
        (prose.missing_paths, "see replication.md", "see `tests/*.py`"),
        (prose.missing_headings, 'docs/replication.md, "A round: both sides"', 'docs/replication.md, "A round"'),
        (prose.missing_headings, '(README.md,\n"Small")', '(README.md,\n"Large")'),
        (prose.dead_links, "[a](replication.md#a-round-both-sides)", "[a](replication.md#a-round)"),
        (prose.dead_links, "[a](../README.md) [b](https://example.org/x)", "[a](README.md)"),
        (prose.missing_decisions, "decision 2, Decision 0002", "decision 3"),
        (prose.undefined_rules, "R3, R3a, G1, I1; U64 and R3_MAX", "R3b"),
        (prose.undefined_rules, "(G1)", "U1"),
        (prose.missing_names, "`core.store`, `core.store.LIMIT`, `Store.get`, `View.kept`", "`core.image`"),
        (prose.missing_names, "`Store.get(key)`, `os.path` and `store.BOUND`", "`core.store.BOUND`"),
        (prose.missing_names, "`Other.put`", "`View.put(key)`"),
    ],
)
def test_a_check_finds_what_is_not_there_and_nothing_else(check: Check, text: str, offender: str) -> None:
    def complaints(written: str) -> list[str]:
        lines = [Line(number, line) for number, line in enumerate(written.splitlines(), 1)]
        return check(SMALL, "docs/a.md" if check is not prose.missing_names else "docs/a.py", lines)

    assert complaints(text) == []
    assert len(complaints(offender)) == 1
