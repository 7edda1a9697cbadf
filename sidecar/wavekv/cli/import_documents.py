"""Inputs of an import that are one document: an array of JSON, what Consul and etcd export, `.env` files and flat YAML.

A document is read and understood as a whole before its first record is stored; what does not have the shape of its
format is refused as a whole. Records are counted from 1 where lines are otherwise.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from wavekv.cli.import_reader import BINARY, BOM, Reading, Skipped, Style, Unit, checked
from wavekv.cli.import_redis import aof_units, rdb_units
from wavekv.cli.records import Parsed, from_base64, parse_json, parse_record, shown, utf8
from wavekv.errors import InvalidParameter, UsageError

DOCUMENT_BYTES_MAX: Final = 256 << 20
"""Longest document: it is held in memory, several times its size. What is longer goes as JSON lines."""

_CONSUL: Final = ("key", "flags", "value")
_ETCD: Final = ("key", "value", "create_revision", "mod_revision", "version", "lease")
_ENV_LINE: Final = re.compile(
    r"""[ \t]*+(?:export[ \t]++)?
    (?P<key>[A-Za-z_][A-Za-z0-9_.\-]*+)[ \t]*+=[ \t]*+
    (?: '(?P<single>[^']*+)' | "(?P<double>(?:[^"\\]|\\.)*+)" | (?P<bare>[^\r\n'"]*?) )
    [ \t]*+(?:(?<=[ \t])\#[^\r\n]*+)?(?=\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_ENV_SKIPPED: Final = re.compile(r"[ \t]*+(?P<comment>#[^\n]*+)?(?=\r?\n|\Z)")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "'": "'"}


def document_units(source: BinaryIO, reading: Reading) -> Iterator[Unit]:
    """Return the units of a document.

    Raises:
        UsageError: it is too long, or has not the shape of its format.
    """
    text = source.read(DOCUMENT_BYTES_MAX + 1)
    if len(text) > DOCUMENT_BYTES_MAX:
        raise UsageError(
            f"the document has more than {DOCUMENT_BYTES_MAX} bytes; turn it into JSON lines "
            "(jq -c '.[]' FILE) and give --format jsonl"
        )
    if reading.style in BINARY:
        return iter(list((rdb_units if reading.style == "rdb" else aof_units)(text, reading)))
    text = text.removeprefix(BOM)
    if b"\0" in text:
        raise UsageError(f"the document holds a NUL byte at {text.index(0)}; text has none: it is damaged, or binary")
    try:
        units = list(_FORMATS[reading.style](text, reading))
    except InvalidParameter as error:
        raise UsageError(f"the input is no {reading.style}: {error.detail}") from error
    return iter(units)


def _json(text: bytes, reading: Reading) -> Iterator[Unit]:
    found = parse_json(text)
    if isinstance(found, dict) and "kvs" in found:
        raise UsageError("the input is an object with kvs, as etcdctl writes; give --format etcd")
    if not isinstance(found, list):
        raise UsageError(
            'the input is no array of objects with "key" and "value"; JSON lines are --format jsonl, '
            "and --format yaml reads one flat object"
        )
    if found and isinstance(found[0], dict) and "flags" in found[0]:
        raise UsageError("the input is an array with flags, as consul kv export writes; give --format consul")
    for number, item in enumerate(found, 1):
        yield _item(number, item, reading, lambda item=item: parse_record(item, reading.dropped))  # type: ignore[misc]


def _consul(text: bytes, reading: Reading) -> Iterator[Unit]:
    found = parse_json(text)
    if not isinstance(found, list) or not all(isinstance(item, dict) and "flags" in item for item in found):
        raise UsageError("the input is no array of objects with key, flags and value, as consul kv export writes")
    for number, item in enumerate(found, 1):
        yield _item(number, item, reading, lambda item=item: _of_consul(item, reading.dropped))  # type: ignore[misc]


def _of_consul(item: dict[str, Any], dropped: tuple[str, ...]) -> Parsed:
    _refuse_others(item, _CONSUL, dropped)
    if item["flags"] and "flags" not in dropped:
        raise InvalidParameter("its flags are not 0, and there is no place for them; --drop flags leaves them out")
    key, value = item.get("key"), item.get("value")
    if not isinstance(key, str) or not isinstance(value, str | None):
        raise InvalidParameter("key has to be a string, and value one in base64 or null")
    return Parsed(key, from_base64(value or ""))


def _etcd(text: bytes, reading: Reading) -> Iterator[Unit]:
    found = parse_json(text)
    if not isinstance(found, dict) or not isinstance(found.get("header"), dict):
        raise UsageError("the input is no object with header and kvs, as etcdctl get -w json writes")
    items = found.get("kvs", [])
    if found.get("more") or not isinstance(items, list):
        raise UsageError("the input holds a part of what was asked for (more); get it without --limit")
    if isinstance(found.get("count"), int) and found["count"] != len(items):
        raise UsageError(f"the input says it holds {found['count']} keys and has {len(items)}; get it without --limit")
    for number, item in enumerate(items, 1):
        yield _item(number, item, reading, lambda item=item: _of_etcd(item, reading.dropped))  # type: ignore[misc]


def _of_etcd(item: Any, dropped: tuple[str, ...]) -> Parsed:
    if not isinstance(item, dict) or not all(isinstance(item.get(name, ""), str) for name in ("key", "value")):
        raise InvalidParameter("not an object with key and value in base64")
    _refuse_others(item, _ETCD, dropped)
    if item.get("lease") and "lease" not in dropped:
        raise InvalidParameter("it has a lease, whose end the input does not tell; --drop lease keeps it for good")
    key = from_base64(item.get("key", ""))
    return Parsed(key.decode("utf-8", "surrogateescape"), from_base64(item.get("value", "")))


def _refuse_others(item: dict[str, Any], known: tuple[str, ...], dropped: tuple[str, ...]) -> None:
    for name in item:
        if name not in known and name not in dropped:
            raise InvalidParameter(f"the field {shown(name)} is unknown; --drop leaves it out by name")


def _env(text: bytes, reading: Reading) -> Iterator[Unit]:
    content = _decoded(text)
    place, line = 0, 1
    seen: set[str] = set()
    while place < len(content):
        if (blank := _ENV_SKIPPED.match(content, place)) is not None:
            end = blank.end()
            yield Skipped(line, "comment" if blank["comment"] else "blank")
        elif (found := _ENV_LINE.match(content, place)) is not None:
            end = found.end()
            if found["key"] in seen:
                raise UsageError(f"line {line}: {shown(found['key'])} is given twice")
            seen.add(found["key"])
            record = Parsed(found["key"], _env_value(found, line).encode())
            yield checked(line, reading, found[0].encode(), lambda record=record: record)  # type: ignore[misc]
        else:
            raise UsageError(f"line {line} is no NAME=VALUE with a value bare, in single or in double quotes")
        following = content.find("\n", end)
        line += content.count("\n", place, following + 1)
        place = len(content) if following < 0 else following + 1


def _env_value(found: re.Match[str], line: int) -> str:
    if found["single"] is not None:
        return found["single"]
    text = found["bare"].rstrip() if found["bare"] is not None else found["double"]
    if re.search(r"(?<!\\)(?:\\\\)*\$[A-Za-z_{(]|`", text):
        raise UsageError(f"line {line} names a variable or a command, which is not filled in; use single quotes")
    if found["bare"] is not None:
        if "\\" in text:
            raise UsageError(f"line {line} has a backslash in a bare value, which shells read in two ways; quote it")
        return text

    def plain(escape: re.Match[str]) -> str:
        if escape[1] not in _ESCAPED:
            raise UsageError(f"line {line}: the escape \\{escape[1]} is unknown; use single quotes")
        return _ESCAPED[escape[1]]

    return re.sub(r"\\(.)", plain, text, flags=re.DOTALL)


def _yaml(text: bytes, reading: Reading) -> Iterator[Unit]:
    try:
        import yaml  # noqa: PLC0415 - of the extra `import`
    except ImportError as error:
        raise UsageError("reading YAML needs PyYAML: pip install 'wavekv-operator[import]'") from error
    try:
        documents = list(yaml.compose_all(_decoded(text), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"the input is no YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], yaml.MappingNode):
        raise UsageError("the input is no single YAML mapping of names to values")
    seen: set[str] = set()
    for name, node in documents[0].value:
        line = name.start_mark.line + 1
        for part in (name, node):
            if not isinstance(part, yaml.ScalarNode):
                # Not shown: a node may hold itself, or others ten to the power of ten times.
                raise UsageError(f"line {line} is nested; flat names with values are read")
        if name.value in seen:
            raise UsageError(f"line {line}: {shown(name.value)} is given twice")
        seen.add(name.value)
        record = Parsed(name.value, _yaml_value(node, line))
        yield checked(line, reading, record.value, lambda record=record: record)  # type: ignore[misc]


def _yaml_value(node: Any, line: int) -> bytes:
    """Return a scalar as it is written; nothing is taken for a number or a date."""
    if node.tag == "tag:yaml.org,2002:null":
        raise UsageError(f'line {line} has no value; write "" for an empty one')
    if node.tag == "tag:yaml.org,2002:binary":
        return from_base64("".join(node.value.split()))
    if not node.tag.startswith("tag:yaml.org,2002:"):
        raise UsageError(f"line {line}: the tag {shown(node.tag)} is unknown")
    try:
        return utf8(node.value)
    except InvalidParameter as error:
        raise UsageError(f"line {line}: {error.detail}") from error


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the input is not UTF-8 ({error}); name its --encoding, such as latin-1") from error


def _item(number: int, item: Any, reading: Reading, parse: Callable[[], Parsed]) -> Unit:
    return checked(number, reading, json.dumps(item, separators=(",", ":")).encode(), parse)


_FORMATS: Final[dict[Style, Callable[[bytes, Reading], Iterator[Unit]]]] = {
    "json": _json,
    "consul": _consul,
    "etcd": _etcd,
    "env": _env,
    "yaml": _yaml,
}
