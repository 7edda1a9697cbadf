"""docs/glossary.md has each term once, in few words; its terms are used and its identifiers exist."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.contract.prose import Tree

GLOSSARY = "docs/glossary.md"
WORDS_MAX = 45


class Term(NamedTuple):
    """One term: its group, its name, what it means, and the identifiers that carry it."""

    group: str
    name: str
    meaning: str
    identifiers: list[str]


def terms_in(text: str) -> Iterator[Term]:
    """Yield the terms of a glossary in their order."""
    for group in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        for term in re.split(r"^### ", group, flags=re.MULTILINE)[1:]:
            name, _, body = term.partition("\n")
            meaning, _, code = body.partition("Code: ")
            yield Term(
                group.partition("\n")[0], name, meaning.partition("Elsewhere:")[0], re.findall(r"`([^`]+)`", code)
            )


def is_used(name: str, text: str) -> bool:
    """Tell whether the words of `name` occur in a row in `text`, as words or as an identifier, singular or plural."""
    words = [re.escape(word) for word in name.split()]
    return re.search(r"(?<![a-z])" + r"[\s_]+".join(words) + r"(?:s|es|ed)?(?![a-z])", text, re.IGNORECASE) is not None


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree.of_project()


@pytest.fixture(scope="module")
def terms(tree: Tree) -> list[Term]:
    return list(terms_in(tree.texts[GLOSSARY]))


def test_each_term_stands_once_and_in_the_order_of_its_group(terms: list[Term]) -> None:
    names = [term.name for term in terms]
    assert len(names) > 80
    assert sorted(names) == sorted(set(names))
    for group in {term.group for term in terms}:
        listed = [term.name for term in terms if term.group == group]
        assert listed == sorted(listed), group


def test_each_term_is_said_in_few_words_and_carried_by_an_identifier(terms: list[Term]) -> None:
    for term in terms:
        assert 3 < len(term.meaning.split()) <= WORDS_MAX, term.name
        assert term.identifiers or "Proposed by decision" in term.meaning, term.name


def test_every_identifier_it_names_exists(tree: Tree, terms: list[Term]) -> None:
    assert [(term.name, name) for term in terms for name in term.identifiers if not tree.python.has(name)] == []


def test_every_term_is_used_outside_the_glossary(tree: Tree, terms: list[Term]) -> None:
    used = "\n".join(
        text for path, text in tree.texts.items() if path.endswith((".md", ".py")) and "glossary" not in path
    )
    assert [term.name for term in terms if not is_used(term.name, used)] == []


@pytest.mark.parametrize("text", ["the log\nstates of two", "log_state = 1", "Log state"])
def test_a_term_is_found_as_words_and_as_an_identifier(text: str) -> None:
    assert is_used("log state", text)


@pytest.mark.parametrize("text", ["log of states", "catalog state", "log stately"])
def test_a_term_is_not_found_inside_other_words(text: str) -> None:
    assert not is_used("log state", text)
