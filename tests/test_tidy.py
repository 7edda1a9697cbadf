"""The tree keeps the house rules, and each rule is seen to fail on a small offender."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tidy
from tests.tidy import Module

ROOT = Path(__file__).resolve().parents[1]

OVERSIZED: dict[str, str] = {}
"""Functions (`path::name`) and modules (`path`) over their limit, each with the reason. It may only shrink."""

SUPERVISORS: dict[str, str] = {
    "operator/wavekv_operator/keepers.py::Keepers._one_pass": "logs, counts, and the cluster is tried again",
    "sidecar/wavekv/http_api/fast.py::FastConnection._get": "answers 500 and logs, as aiohttp does for its handlers",
    "sidecar/wavekv/http_api/fast.py::FastConnection._put": "answers 500 and logs, as aiohttp does for its handlers",
    "sidecar/wavekv/resp/connection.py::Connection._attempt": "answers an internal error and logs",
}
"""Functions (`path::name`) that may catch everything, each with what it does with it. It may only shrink."""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Return the text of every text file of the project, by path."""
    texts = {}
    for path in tidy.project_files(ROOT):
        try:
            texts[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # bytes: a golden file
    return texts


@pytest.fixture(scope="module")
def modules(files: dict[str, str]) -> list[Module]:
    return [Module(path, text) for path, text in files.items() if path.endswith(".py")]


@pytest.fixture(scope="module")
def product(modules: list[Module]) -> list[Module]:
    """Return what is shipped."""
    return [module for module in modules if module.path.startswith(("sidecar/", "operator/"))]


# ---- the tree ------------------------------------------------------------------------------------------------------


def test_functions_and_modules_keep_their_size_but_for_a_list_that_only_shrinks(modules: list[Module]) -> None:
    oversized: dict[str, int] = {}
    for module in modules:
        oversized |= tidy.long_functions(module) | tidy.long_module(module)
    assert {name: lines for name, lines in oversized.items() if name not in OVERSIZED} == {}
    assert [name for name in OVERSIZED if name not in oversized] == [], "take these off the list"


def test_every_module_says_what_it_owns(modules: list[Module]) -> None:
    assert [complaint for module in modules for complaint in tidy.missing_docstring(module)] == []


def test_files_and_folders_are_named_for_what_they_hold(files: dict[str, str]) -> None:
    assert [complaint for path in files for complaint in tidy.vague_names(path)] == []


def test_only_supervisors_catch_everything(product: list[Module]) -> None:
    broad: dict[str, int] = {}
    for module in product:
        broad |= tidy.broad_excepts(module)
    assert {name: line for name, line in broad.items() if name not in SUPERVISORS} == {}
    assert [name for name in SUPERVISORS if name not in broad] == [], "take these off the list"


def test_no_file_speaks_of_one_machine(files: dict[str, str]) -> None:
    assert [complaint for path, text in files.items() for complaint in tidy.foreign_text(path, text)] == []


def test_the_lock_names_no_source_and_pins_every_hash(files: dict[str, str]) -> None:
    assert "==" in files["requirements.lock"]
    assert tidy.lock_complaints(files["requirements.lock"]) == []


def test_the_architecture_stays_short(files: dict[str, str]) -> None:
    assert len(files.get("ARCHITECTURE.md", "").splitlines()) <= tidy.ARCHITECTURE_LINES_MAX


def test_unit_and_property_tests_do_not_sleep(modules: list[Module]) -> None:
    quick = [module for module in modules if module.path.startswith(("tests/unit/", "tests/property/"))]
    assert quick
    assert [complaint for module in quick for complaint in tidy.sleeps(module)] == []


def test_every_test_can_fail(modules: list[Module]) -> None:
    tests = [module for module in modules if Path(module.path).name.startswith("test_")]
    assert [complaint for module in tests for complaint in tidy.claimless_tests(module)] == []


# ---- the rules -----------------------------------------------------------------------------------------------------


def module(text: str) -> Module:
    return Module("a.py", text)


def lines(count: int, head: str = "", line: str = "x = 1\n") -> str:
    return head + line * (count - head.count("\n"))


@pytest.mark.parametrize(
    ("rule", "tidy_text", "offender"),
    [
        (tidy.long_module, lines(500), lines(501)),
        (tidy.long_functions, lines(70, "def f():\n", " x = 1\n"), lines(71, "def f():\n", " x = 1\n")),
        (
            tidy.long_functions,
            lines(71, "class A:\n async def f():\n", "  x = 1\n"),
            lines(72, "class A:\n async def f():\n", "  x = 1\n"),
        ),
        (tidy.missing_docstring, '"""Owns one rule."""\n', ""),
        (tidy.missing_docstring, '"""Owns one\nrule.\n\nMore."""\n', '"""TODO"""\n'),
        (tidy.broad_excepts, "try: x()\nexcept OSError: pass\n", "try: x()\nexcept: pass\n"),
        (tidy.broad_excepts, "try: x()\nexcept (OSError, E): pass\n", "try: x()\nexcept (OSError, Exception): pass\n"),
        (
            tidy.broad_excepts,
            "try: x()\nexcept BaseException:\n  y()\n  raise\n",
            "def f():\n try: x()\n except BaseException: y()\n",
        ),
        (tidy.sleeps, "await asyncio.sleep(0)\n", "await asyncio.sleep(0.1)\n"),
        (tidy.sleeps, "clock.advance(1)\n", "time.sleep(delay)\n"),
        (tidy.claimless_tests, "def test_a():\n assert x\n", "def test_a():\n x()\n"),
        (tidy.claimless_tests, "def test_a():\n with pytest.raises(E): x()\n", "async def test_a():\n await x()\n"),
        (
            tidy.claimless_tests,
            "def test_a():\n agree(x)\ndef agree(x):\n same(x)\ndef same(x):\n assert x\n",
            "def test_a():\n agree(x)\ndef agree(x):\n pass\n",
        ),
    ],
)
def test_a_rule_of_modules_fails_an_offender_only(
    rule: Callable[[Module], object], tidy_text: str, offender: str
) -> None:
    assert not rule(module(tidy_text))
    assert rule(module(offender))


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("sidecar/wavekv/ports.py", True),
        ("operator/wavekv_operator/__init__.py", True),
        ("tests/unit/wavekv/test_commonality.py", True),
        ("sidecar/wavekv/utils.py", False),
        ("sidecar/wavekv/http_helpers.py", False),
        ("sidecar/wavekv/common/a.py", False),
        ("tests/operator/__init__.py", False),
        ("operator/__init__.py", False),
    ],
)
def test_vague_or_shadowing_names_are_refused(path: str, kept: bool) -> None:
    assert (tidy.vague_names(path) == []) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("run /run/wavekv/wavekv.sock, then a/work/b or ~/home/x", True),
        ("see https://prometheus.io/docs", True),
        ("open /" + "home/ann/wavekv", False),
        ("cd /" + "work/main", False),
        ("from https://py" + "pi.org/simple", False),
        ("https://files.python" + "hosted.org/x", False),
    ],
)
def test_paths_and_hosts_of_one_machine_are_refused(text: str, kept: bool) -> None:
    assert (tidy.foreign_text("a.md", f"first\n{text}\n") == []) == kept


@pytest.mark.parametrize(
    ("lock", "kept"),
    [
        ("a==1 \\\n    --hash=sha256:00\nb==2 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n", True),
        ("a==1\n", False),
        ("a==1 \\\n    --hash=sha256:00\nb==2\n", False),
        ("--index-url https://example.org/simple\na==1 \\\n    --hash=sha256:00\n", False),
        ("a @ https://example.org/a.whl \\\n    --hash=sha256:00\n", False),
    ],
)
def test_a_lock_with_a_source_or_without_a_hash_is_refused(lock: str, kept: bool) -> None:
    assert (tidy.lock_complaints(lock) == []) == kept


def test_outside_a_checkout_every_file_but_caches_is_looked_at(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.md", "sub/__pycache__/c.pyc", ".venv/lib/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tidy.project_files(tmp_path)] == ["a.py", "sub/b.md"]
