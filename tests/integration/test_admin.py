"""The admin routes of a real member: who may use them, and which documents are taken."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import Answer
from tests.pki import Leaf


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GovernedCluster]:
    """Two members in epoch 5, which no test of this module changes."""
    with GovernedCluster(2, tmp_path_factory.mktemp("admin")) as cluster:
        cluster.start()
        cluster.govern(cluster.document(5, ["11", "12"]))
        yield cluster


Document = dict[str, Any]


def refused(answer: Answer) -> tuple[int, str]:
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    return answer.status, answer.json()["code"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda d: d | {"epoch": 4}, 409, "stale_epoch"),
        (lambda d: d | {"members": ["11"], "admitted": {"11": 1}}, 409, "epoch_conflict"),
        (lambda d: d | {"admitted": {"11": 1, "12": 5}}, 409, "epoch_conflict"),
        (lambda d: d | {"bootstrap": True}, 409, "epoch_conflict"),
        (lambda d: d | {"peer_url": "https://{name}.elsewhere:7072"}, 409, "epoch_conflict"),
        (lambda d: d | {"cluster_id": "00000000-0000-4000-8000-00000000dead"}, 403, "foreign_cluster"),
        (lambda d: d | {"epoch": 6, "members": []}, 400, "bad_membership"),
        (lambda d: d | {"epoch": 6, "admitted": {"11": 7, "12": 1}}, 400, "bad_membership"),
        (lambda d: d | {"epoch": 6, "cluster_id": None}, 400, "bad_membership"),
        (lambda d: d | {"epoch": 6, "note": "x" * (1 << 20)}, 413, "document_too_large"),
        (lambda d: [d], 400, "bad_membership"),
    ],
)
def test_a_document_that_does_not_follow_is_refused_by_code_and_changes_nothing(
    governed: GovernedCluster, change: Callable[[Document], Document], status: int, code: str
) -> None:
    told = governed.document(5, ["11", "12"])
    assert refused(governed.push(governed[0], change(told))) == (status, code)
    again = governed.push(governed[0], told)
    assert (again.status, again.json()) == (200, {"epoch": 5}), "the document in force may be pushed again"
    assert governed[0].status()["membership"]["epoch"] == 5


def test_a_stale_document_is_told_which_epoch_is_in_force(governed: GovernedCluster) -> None:
    answer = governed.push(governed[0], governed.document(1, ["11", "12"]))
    assert "which is 5" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/v1/admin/membership", 400, "bad_membership"),
        ("DELETE", "/v1/admin/membership", 405, "method_not_allowed"),
        ("POST", "/v1/admin/drain", 405, "method_not_allowed"),
        ("GET", "/v1/admin/nonsense", 404, "unknown_route"),
        ("GET", "/v1/admin/", 404, "unknown_route"),
    ],
)
def test_what_is_no_admin_request_is_refused(
    governed: GovernedCluster, method: str, path: str, status: int, code: str
) -> None:
    assert refused(governed.ask(governed[0], method, path, b"{")) == (status, code)


def test_the_admin_status_is_the_status(governed: GovernedCluster) -> None:
    told, own = governed.ask(governed[0], "GET", "/v1/admin/status").json(), governed[0].status()
    assert told.keys() == own.keys()
    for field in ("name", "node_id", "uuid", "phase", "draining", "membership"):
        assert told[field] == own[field]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "status"), ("PUT", "membership"), ("GET", "drain"), ("PUT", "drain"), ("DELETE", "drain")],
)
def test_only_the_operator_s_certificate_opens_the_admin_routes(
    governed: GovernedCluster, method: str, path: str
) -> None:
    nobody: Leaf = governed.authority.issue("nobody", None)
    foreign = governed.authority.issue("foreign", "00000000-0000-4000-8000-00000000dead", role="operator")
    body = json.dumps(governed.document(6, ["11"])).encode()
    for leaf, code in ((governed.issue("12"), "wrong_role"), (nobody, "wrong_role"), (foreign, "foreign_cluster")):
        answer = governed.ask(governed[0], method, f"/v1/admin/{path}", body, leaf=leaf)
        assert refused(answer) == (403, code)
    assert not governed.drain(governed[0])["draining"]
    assert governed[0].status()["membership"]["epoch"] == 5
