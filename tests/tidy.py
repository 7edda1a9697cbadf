"""The house rules that a program can check: each is a function from a file to complaints.

A complaint is a `path:line what` string that says which rule was broken; an empty list is a tidy file. The limits and
what may exceed them for now are in `test_tidy`.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
ARCHITECTURE_LINES_MAX = 250

_VAGUE_NAME = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")
_FOREIGN_TEXT = (
    (re.compile(r"(?<![\w.~])/(?:home|root|Users|work)/\w"), "a path of one machine"),
    (re.compile(r"pypi\.org|pythonhosted\.org|artifactor[y]|/simple/?(\s|$)"), "a registry's host"),
)
_CLAIMING_CALL = re.compile(r"^(assert|check|expect|verify|wait|eventually|raises|warns|fail)(_|$)")
_SKIPPED_FOLDERS = {".git", ".venv", "__pycache__", "build", "dist", "wavekv-local"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """A Python file: its path from the root with forward slashes, and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def project_files(root: Path) -> list[Path]:
    """Return the files that belong to the project: those git knows or would add, all of them outside a checkout."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
        return sorted(root / name for name in set(listed.split("\0")) if name and (root / name).is_file())
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not _SKIPPED_FOLDERS.intersection(path.relative_to(root).parts))


def long_functions(module: Module) -> dict[str, int]:
    """Return the lines of each function over the limit, by `path::name`."""
    sizes = {f"{module.path}::{name}": _lines(node) for name, node in _functions(module.tree)}
    return {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES_MAX}


def long_module(module: Module) -> dict[str, int]:
    """Return the module's lines by its path, if they are over the limit."""
    lines = len(module.text.splitlines())
    return {module.path: lines} if lines > MODULE_LINES_MAX else {}


def missing_docstring(module: Module) -> list[str]:
    """Complain unless the module begins with a sentence about what it owns."""
    docstring = ast.get_docstring(module.tree) or ""
    first = docstring.partition("\n\n")[0]
    return [] if re.search(r"\w.*[.:?](\s|$)", first, re.DOTALL) else [f"{module.path}:1 no sentence says what it owns"]


def vague_names(path: str) -> list[str]:
    """Complain about folders and modules named for nothing in particular, and a package that hides `operator`."""
    complaints = [
        f"{path}: {part!r} says nothing" for part in path.split("/") if _VAGUE_NAME.search(part.split(".")[0])
    ]
    if re.search(r"(^|/)operator/__init__\.py$", path):
        complaints.append(f"{path}: a package named operator shadows the standard library's")
    return complaints


def broad_excepts(module: Module) -> dict[str, int]:
    """Return the line of each `except` that catches everything and does not raise it again, by `path::function`."""
    found: dict[str, int] = {}
    for name, function in [("<module>", module.tree), *_functions(module.tree)]:
        for node in _own_nodes(function):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node):
                found[f"{module.path}::{name}"] = node.lineno
    return found


def foreign_text(path: str, text: str) -> list[str]:
    """Complain about text that holds on one machine only."""
    return [
        f"{path}:{number} {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, what in _FOREIGN_TEXT
        if pattern.search(line)
    ]


def lock_complaints(text: str) -> list[str]:
    """Complain about a lock that names where packages come from, or pins one without a hash."""
    complaints = [f"{n}: names a source" for n, line in enumerate(text.splitlines(), 1) if _names_source(line)]
    requirements = re.findall(r"^([\w.\[\]-]+)==(?:.*\\\n)*.*$", text, re.MULTILINE)
    hashed = re.findall(r"^([\w.\[\]-]+)==[^\n]*\\\n\s+--hash=", text, re.MULTILINE)
    return complaints + [f"{name}: no hash" for name in requirements if name not in hashed]


def sleeps(module: Module) -> list[str]:
    """Complain about calls that wait for time to pass; `sleep(0)` only lets others run."""
    return [
        f"{module.path}:{node.lineno} sleeps"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _name(node.func) == "sleep" and not _is_zero(node.args)
    ]


def claimless_tests(module: Module) -> list[str]:
    """Complain about tests that cannot fail: none of the functions they call here asserts, raises or waits."""
    functions = [(name.rpartition(".")[2], node) for name, node in _functions(module.tree)]
    claiming: set[str] = set()
    while grown := {n for n, node in functions if n not in claiming and _claims(node, claiming)}:
        claiming |= grown
    return [
        f"{module.path}:{node.lineno} {name} asserts nothing"
        for name, node in functions
        if name.startswith("test_") and name not in claiming
    ]


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Function):
            yield prefix + node.name, node
            yield from _functions(node, f"{prefix}{node.name}.")
        else:
            yield from _functions(node, f"{prefix}{node.name}." if isinstance(node, ast.ClassDef) else prefix)


def _own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without the functions inside it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, _Function):
            yield node
            yield from _own_nodes(node)


def _lines(node: _Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _catches_all(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False  # it cleans up
    if handler.type is None:
        return True
    caught: Iterable[ast.expr] = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_name(kind) in {"Exception", "BaseException"} for kind in caught)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_zero(arguments: list[ast.expr]) -> bool:
    return bool(arguments) and isinstance(arguments[0], ast.Constant) and arguments[0].value == 0


def _claims(function: _Function, claiming: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = _name(node.func)
            if name in claiming or _CLAIMING_CALL.match(name):
                return True
    return False


def _names_source(line: str) -> bool:
    return "://" in line or " @ " in line or line.lstrip().startswith(("-i ", "--index-url", "--extra-index", "--find"))
