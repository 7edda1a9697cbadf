"""The prose of the project, and what a program can check of it: each check is a function from a text to complaints.

Prose is the Markdown files, and in Python files docstrings, comments and other strings. A complaint is `path:line
what`; a text without one has references that all lead somewhere. `test_docs_are_true` runs the checks over the tree.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tests import tidy

ROOT = Path(__file__).resolve().parents[2]
RULES_DEFINED_IN = ("README.md", "docs/replication.md")
_BASES = ("", "sidecar/wavekv/", "sidecar/wavekv/core/", "operator/wavekv_operator/", "docs/", "tests/")
"""Where a path in prose may begin, beside the folder of the file it stands in."""

_PATH = re.compile(r"(?<![\w/.$}{:*-])(?:[\w.-]+/)*[\w-]+\.(?:py|md|tpl|toml)\b(?![\w(*])")
_QUOTED_PATH = re.compile(r"`((?:tests|bench|docs|sidecar|operator|charts|manifests|\.ci)/[\w./*-]*)`")
_HEADING = re.compile(r'([\w/-]+\.md),\s+"([^"]+)"')
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_DECISION = re.compile(r"\b[Dd]ecision (\d{1,4})\b")
_RULE = re.compile(r"(?<![\w.])([RGIU])(\d{1,2})([a-d]?)\b(?!_)")
_INTEGER_TYPES = {"U16", "U32", "U64", "I32", "I64"}
_DEFINITION = re.compile(r"^(?:\| |- \*\*)([RGIU]\d{1,2}[a-d]?)\b", re.MULTILINE)
_DOTTED = re.compile(r"`((?:[a-z_]+\.)+[A-Za-z_]\w*|[A-Z]\w*[a-z]\w*\.[a-z_]\w*)(?:\([^`]*\))?`")
_SUFFIXES = {"py", "md", "tpl", "yaml", "json", "wal", "snapshot", "spare", "tmp", "io", "sock", "lock", "toml", "pem"}
"""What stands behind the last point of a file's or a host's name."""


class Line(NamedTuple):
    """A line of prose: its number in the file, and its text."""

    number: int
    text: str


class Tree:
    """The files of the project by path, and what of them prose may refer to."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    @classmethod
    def of_project(cls) -> "Tree":
        """Return the tree that git knows, or would add; golden files that are no text have an empty one."""
        texts = {}
        for path in tidy.project_files(ROOT):
            try:
                texts[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                texts[path.relative_to(ROOT).as_posix()] = ""
        return cls(texts)

    @cached_property
    def prose(self) -> dict[str, list[Line]]:
        """The lines of each file that has prose."""
        found = {path: _document_lines(text) for path, text in self.texts.items() if path.endswith(".md")}
        return found | {path: list(_python_lines(self.texts[path], tree)) for path, tree in self._parsed.items()}

    @cached_property
    def _parsed(self) -> dict[str, ast.Module]:
        return {path: ast.parse(text) for path, text in self.texts.items() if path.endswith(".py")}

    @cached_property
    def folders(self) -> set[str]:
        return {parent.as_posix() for path in self.texts for parent in PurePosixPath(path).parents}

    @cached_property
    def file_names(self) -> set[str]:
        return {PurePosixPath(path).name for path in self.texts}

    @cached_property
    def rules(self) -> set[str]:
        """The numbers of guarantees, rules, invariants and non-guarantees that a document defines."""
        return {rule for path in RULES_DEFINED_IN for rule in _DEFINITION.findall(self.texts.get(path, ""))}

    @cached_property
    def python(self) -> "Names":
        return Names(self._parsed)

    def has(self, path: str, beside: str) -> bool:
        """Tell whether `path`, as it stands in the file `beside`, is there; `*` stands for part of a name."""
        bases = (*_BASES, f"{PurePosixPath(beside).parent.as_posix()}/")
        return any(self._is_there(_joined(base, path.rstrip("/"))) for base in bases)

    def _is_there(self, path: str) -> bool:
        if "*" in path:
            return any(PurePosixPath(known).match(path) for known in self.texts)
        return path in self.texts or path in self.folders

    def headings(self, path: str) -> list[str]:
        """Return the headings of a Markdown file, as they are written."""
        return re.findall(r"^#+ (.+?) *$", self.texts.get(path, ""), re.MULTILINE)


class Names:
    """What Python files define: modules by their dotted path, classes with their attributes, and other names."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self._modules: dict[str, set[str]] = {}
        """What the modules of a name define; each goes by its dotted path, whole or from some package on."""
        self.classes: dict[str, set[str]] = {}
        self._bases: dict[str, set[str]] = {}
        for path, tree in trees.items():
            dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            parts = dotted.split(".")
            for at in range(len(parts)):
                self._modules.setdefault(".".join(parts[at:]), set()).update(_defined(tree.body))
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, set()).update(_attributes(node))
                    self._bases.setdefault(node.name, set()).update(
                        base.id for base in node.bases if isinstance(base, ast.Name)
                    )

    @cached_property
    def packages(self) -> set[str]:
        """The folders that hold modules: what a dotted reference begins with; `spec.template` is no such one."""
        return {part for known in self._modules for part in known.split(".")[:-1]}

    def has(self, dotted: str) -> bool:
        """Tell whether `dotted` is a module, a name in one, or an attribute of a class (in one)."""
        front, _, last = dotted.rpartition(".")
        return (
            dotted in self._modules
            or last in self._modules.get(front, set())
            or last in self.attributes(front.rpartition(".")[2])
        )

    def attributes(self, name: str) -> set[str]:
        """Return the attributes of the class `name` and of those it inherits from here."""
        found: set[str] = set()
        left, seen = [name], set()
        while left:
            name = left.pop()
            seen.add(name)
            found |= self.classes.get(name, set())
            left += self._bases.get(name, set()) - seen
        return found


def missing_paths(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of files and folders that are not there; a bare name may be that of any file."""
    return [
        f"{path}:{line.number} no file {found}"
        for line in lines
        for found in (*_PATH.findall(line.text), *_QUOTED_PATH.findall(line.text))
        if not tree.has(found, path) and ("/" in found or found not in tree.file_names)
    ]


def missing_headings(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of a quoted heading behind the name of a document that lacks it; it may go on in the next line."""
    complaints = []
    for line, after in zip(lines, [*lines[1:], Line(0, "")], strict=True):
        for found in _HEADING.finditer(f"{line.text} {after.text.strip()}"):
            if found.start() >= len(line.text):
                continue  # it stands in the next line, whose turn comes
            wanted = [base + found[1] for base in _BASES if base + found[1] in tree.texts]
            if not any(found[2] in tree.headings(document) for document in wanted):
                complaints.append(f'{path}:{line.number} {found[1]} has no heading "{found[2]}"')
    return complaints


def dead_links(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of links in a Markdown file whose file, or whose heading by its anchor, is not there."""
    complaints = []
    for line in lines if path.endswith(".md") else []:
        for target, anchor in _LINK.findall(line.text):
            where = _joined(f"{PurePosixPath(path).parent.as_posix()}/", target.rstrip("/")) if target else path
            anchors = {_anchor(heading) for heading in tree.headings(where)}
            if (where not in tree.texts and where not in tree.folders) or (anchor and anchor not in anchors):
                complaints.append(f"{path}:{line.number} the link {target}#{anchor} leads nowhere".replace("# ", " "))
    return complaints


def missing_decisions(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of numbers of decisions that there is no record of."""
    known = {PurePosixPath(file).name[:4] for file in tree.texts if file.startswith("docs/decisions/")}
    return [
        f"{path}:{line.number} there is no decision {number}"
        for line in lines
        for number in _DECISION.findall(line.text)
        if number.zfill(4) not in known
    ]


def undefined_rules(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of numbers of guarantees, rules, invariants and non-guarantees that no document defines."""
    complaints = []
    for line in lines:
        for kind, number, part in _RULE.findall(line.text):
            rule = kind + number
            if rule not in _INTEGER_TYPES and rule + part not in tree.rules:
                complaints.append(f"{path}:{line.number} {rule}{part} is defined nowhere")
    return complaints


def missing_names(tree: Tree, path: str, lines: list[Line]) -> list[str]:
    """Complain of `Class.attribute`, and in Python files of `package.module`, that do not exist here.

    In documents a dotted name may as well be a field of the API or of the custom resource.
    """
    complaints = []
    for line in lines:
        for found in _DOTTED.findall(line.text):
            front = found.split(".")[0]
            if front[0].isupper():
                ours = front in tree.python.classes
            else:
                ours = path.endswith(".py") and front in tree.python.packages
            if ours and found.rpartition(".")[2] not in _SUFFIXES and not tree.python.has(found):
                complaints.append(f"{path}:{line.number} no {found}")
    return complaints


def _document_lines(text: str) -> list[Line]:
    return [Line(number, line) for number, line in enumerate(text.splitlines(), 1)]


def _python_lines(text: str, tree: ast.Module) -> Iterator[Line]:
    """Yield the lines of strings, and what stands behind a number sign: comments, and some strings once more."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield Line(node.lineno + offset, line)
    for number, line in enumerate(text.splitlines(), 1):
        if "#" in line:
            yield Line(number, line.partition("#")[2])


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    yield from _defined(node.body)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self":
            yield inner.attr


def _joined(folder: str, target: str) -> str:
    """Return `target` as seen from `folder`, with `..` and `.` worked out."""
    parts: list[str] = []
    for part in f"{folder}{target}".split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts) or "."


def _anchor(heading: str) -> str:
    """Return the anchor that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
