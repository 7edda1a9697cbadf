"""The check of the watches: what they missed is found, named and mended; what is merely late is not."""

import pytest

from wavekv_operator import names
from wavekv_operator.audit import Audit
from wavekv_operator.errors import ApiError
from wavekv_operator.spec import Manifest
from wavekv_operator.view import View

POD = "Pod"


def pod(name: str, version: int, uid: str = "u") -> Manifest:
    return {
        "kind": POD,
        "metadata": {"name": name, "namespace": "ns", "uid": uid + name, "resourceVersion": str(version)},
    }


class Listed:
    """An API whose lists are given one after the other; the last one stays."""

    def __init__(self, *lists: list[Manifest] | ApiError) -> None:
        self.lists = list(lists)
        self.asked: list[tuple[str, str | None, str | None]] = []

    async def list(self, kind: str, namespace: str | None, selector: str | None) -> list[Manifest]:
        self.asked.append((kind, namespace, selector))
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, ApiError):
            raise found
        return found

    def watch_deaf(self, kind: str, deaf: bool) -> None:
        pass


def audit(api: Listed, view: View, *namespaces: str) -> tuple[Audit, list[str]]:
    changed: list[str] = []
    made = Audit(
        api, view, namespaces, api, lambda kind, manifest: changed.append(manifest["metadata"]["name"]), grace_seconds=0
    )
    return made, changed


async def test_a_watch_that_is_up_to_date_is_fine() -> None:
    view = View()
    view.put(POD, pod("a", 5))
    checked, changed = audit(Listed([pod("a", 5)]), view)
    await checked.check(POD)
    assert (checked.deaf, changed) == (set(), [])


async def test_a_watch_that_misses_a_version_is_deaf_until_it_hears_again() -> None:
    view = View()
    view.put(POD, pod("a", 5))
    checked, changed = audit(Listed([pod("a", 6)]), view)
    await checked.check(POD)
    assert (checked.deaf, changed) == ({POD}, ["a"])
    assert view.get(POD, ("ns", "a")) == pod("a", 6)

    await checked.check(POD)
    assert checked.deaf == set()


async def test_what_was_deleted_while_the_list_was_read_is_not_missed() -> None:
    view = View()
    checked, changed = audit(Listed([pod("a", 5)], []), view)
    await checked.check(POD)
    assert (checked.deaf, changed) == (set(), [])
    assert view.get(POD, ("ns", "a")) is None


async def test_a_deletion_that_was_missed_is_mended() -> None:
    view = View()
    view.put(POD, pod("a", 5))
    checked, changed = audit(Listed([]), view)
    await checked.check(POD)
    assert (checked.deaf, changed) == (set(), ["a"])
    assert view.get(POD, ("ns", "a")) is None


async def test_an_object_made_anew_under_its_name_is_seen() -> None:
    view = View()
    view.put(POD, pod("a", 5, uid="old"))
    checked, _ = audit(Listed([pod("a", 4, uid="new")]), view)
    await checked.check(POD)
    assert checked.deaf == {POD}
    assert view.get(POD, ("ns", "a")) == pod("a", 4, uid="new")


async def test_an_api_that_does_not_answer_says_nothing_about_watches() -> None:
    checked, _ = audit(Listed(ApiError("down", 503)), View())
    await checked.check(POD)
    assert checked.deaf == set()


async def test_only_what_the_operator_made_is_listed_and_only_where_it_serves() -> None:
    api = Listed([])
    checked, _ = audit(api, View(), "one", "two")
    await checked.check(POD)
    await checked.check(names.KIND)
    assert api.asked == [
        (POD, "one", names.MANAGED_SELECTOR),
        (POD, "two", names.MANAGED_SELECTOR),
        (names.KIND, "one", None),
        (names.KIND, "two", None),
    ]


async def test_the_view_is_filled_before_the_first_pass_or_the_failure_is_told() -> None:
    view = View()
    checked, _ = audit(Listed([pod("a", 1)]), view)
    await checked.seed()
    assert view.get(POD, ("ns", "a")) == pod("a", 1)

    broken, _ = audit(Listed(ApiError("no such kind", 404)), view)
    with pytest.raises(ApiError):
        await broken.seed()
