"""Mutated files through `wavekv import`'s reading: nothing may come out of one that was not in it.

    python -m tests.fuzz.imports [--files 5000] [--seed 0]

Files of every format, plain and packed, are cut, spliced, overwritten and mixed; each is read to its end. A record that
comes out has to stand in the mutated text: its key and its value, as they are or as the format escapes them. Any end
but a refusal is a failure, and prints the seed of its file.
"""

import argparse
import base64
import gzip
import json
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from wavekv.cli.import_reader import Reading, Record, Style
from wavekv.cli.import_source import opened
from wavekv.cli.import_units import units
from wavekv.errors import UsageError

ENTRIES: Final = {"a": b"1", "dir/b": b"two words", "ä": "ü".encode(), "n": b"", "bin": b"\xff\x00\x80", "t": b"a,b;c"}
WORDS: Final = [*(letter.encode() for letter in "\0\n\r\t\"',;{}[]\\=:#"), b"\xff"]


def _jsonl() -> bytes:
    lines = (
        {"key": key, **({"value": value.decode()} if value.isascii() else {"value_base64": _base64(value)})}
        for key, value in ENTRIES.items()
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _texts() -> dict[str, str]:
    return {key: value.decode() for key, value in ENTRIES.items() if key != "bin"}


def _csv() -> bytes:
    return ("key,value,ttl\r\n" + "".join(f'"{key}","{value}",\r\n' for key, value in _texts().items())).encode()


def _consul() -> bytes:
    items = [{"key": key, "flags": 0, "value": _base64(value)} for key, value in ENTRIES.items()]
    return json.dumps(items, indent=1, ensure_ascii=False).encode()


def _etcd() -> bytes:
    kvs = [{"key": _base64(key.encode()), "version": 1, "value": _base64(value)} for key, value in ENTRIES.items()]
    return json.dumps({"header": {"revision": 3}, "kvs": kvs, "count": len(kvs)}).encode()


SEEDS: Final[dict[Style, Callable[[], bytes]]] = {
    "jsonl": _jsonl,
    "json": lambda: b"[" + _jsonl().strip().replace(b"\n", b",") + b"]",
    "csv": _csv,
    "lines": lambda: "\n".join(_texts()).encode() + b"\n// note\n",
    "consul": _consul,
    "etcd": _etcd,
    "env": lambda: b"# note\nexport A=1\nB='two words'\nC=\"three\nlines\"\nD=\n",
    "yaml": lambda: b'a: 1\n"b c": "two words"\nd: |\n  three\n  lines\ne: ""\n',
}
"""A whole file of each format."""
ENCODINGS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda text: text,
    lambda text: text,
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.decode("utf-8", "ignore").encode("utf-16"),
    gzip.compress,
)
"""How a file may be packed; mutated before or after."""


_NUMBERED: Final = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))")
_ESCAPE: Final = re.compile(r"\\[0abefnrtvNLP_]")
"""Escapes of what is no printable letter, in JSON and YAML."""


class Outcome(NamedTuple):
    """How the files ended, and how many records came of them."""

    files: int
    records: int
    ends: Counter[str]


def mutated(content: bytes, chooser: random.Random) -> bytes:
    """Return `content` after some changes of random kinds."""
    found = bytearray(content)
    for _ in range(chooser.randint(1, 6)):
        at = chooser.randint(0, len(found))
        match chooser.randrange(6):
            case 0:
                del found[at:]
            case 1:
                del found[at : at + chooser.randint(1, 8)]
            case 2:
                found[at:at] = chooser.choice(WORDS[1:])
            case 3:
                found[at : at + 1] = bytes([chooser.randrange(256)])
            case 4:
                start = chooser.randint(0, len(found))
                found[at:at] = found[start : start + chooser.randint(1, 40)]
            case _:
                found[at:at] = bytes(chooser.choice((1, 200))) if chooser.random() < 0.1 else chooser.choice(WORDS[1:])
    return bytes(found)


def run(files: int, seed: int, folder: Path) -> Outcome:
    """Read `files` mutated files. Raises AssertionError with the seed of one that gave what was not in it."""
    ends: Counter[str] = Counter()
    records = 0
    for number in range(files):
        chooser = random.Random(f"{seed}:{number}")
        style = chooser.choice(list(SEEDS))
        packed = chooser.choice(ENCODINGS)
        text = SEEDS[style]()
        inside = chooser.random() < 0.7
        content = packed(mutated(text, chooser)) if inside else mutated(packed(text), chooser)
        read_as = style if chooser.random() < 0.9 else chooser.choice(list(SEEDS))
        path = folder / "input"
        path.write_bytes(content)
        found, end = _read(path, read_as)
        ends[end] += 1
        records += len(found)
        seen = _text_of(content) if found else b""
        for record in found:
            assert stands(record, seen, read_as), (seed, number, read_as, record, seen)
    return Outcome(files, records, ends)


def _read(path: Path, style: Style) -> tuple[list[Record], str]:
    try:
        with opened(str(path), None, binary=False) as source:
            return [unit for unit in units(source.stream, Reading(style)) if isinstance(unit, Record)], "read"
    except UsageError:
        return [], "refused"


def _text_of(content: bytes) -> bytes:
    """Return the text that a mutated file holds; it was read, so it can be unpacked."""
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "ignore").encode()
    return content


def stands(record: Record, text: bytes, style: Style) -> bool:
    """Tell whether a record stands in `text`, by means of its own: every way of the format to write its two parts."""
    return all(_part_stands(part, text, style) for part in (record.key.encode(), record.value))


def _part_stands(part: bytes, text: bytes, style: Style) -> bool:
    # The last letter of base64 has bits that no byte takes up.
    spellings = {part, base64.b64encode(part).rstrip(b"=")[:-1]}
    if style == "csv":
        spellings.add(part.replace(b'"', b'""'))
    if any(spelling in text for spelling in spellings):
        return True
    # Escapes, folded lines and indents change bytes: what is left of both without them has to agree.
    return _bare(part) in _bare(text) if style in {"jsonl", "json", "yaml", "env", "consul"} else False


def _bare(text: bytes) -> bytes:
    """Return `text` as escapes of JSON, YAML and shells leave it, without white space and marks of quoting."""
    undone = _NUMBERED.sub(lambda found: chr(int(found[1] or found[2], 16)), text.decode("utf-8", "backslashreplace"))
    undone = _ESCAPE.sub("", undone)
    return "".join(letter for letter in undone if letter.isprintable() and letter not in " \"'\\").encode()


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(given.files, given.seed, Path(folder))
    print(f"{outcome.files} files, {dict(outcome.ends)}, {outcome.records} records, none that was not in its file")  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
