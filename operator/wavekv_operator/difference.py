"""Tells whether an object has to be applied: only on a difference, so that a quiet cluster costs no writes.

Two questions: was something else applied last time (a digest in an annotation notices fields that are no longer
wanted), and does the live object still say what is wanted (somebody edited it). The second compares only wanted fields,
because the API server fills in the rest, and compares quantities by value, because it writes them its own way.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from wavekv_operator import names
from wavekv_operator.spec import Manifest

_KEYS = ("name", "mountPath", "containerPort", "topologyKey", "key", "uid")
"""Fields by which the API server tells the items of a list apart."""


def marked(wanted: Manifest) -> Manifest:
    """Return `wanted` with the digest of itself in an annotation."""
    body = {**wanted, "metadata": {k: v for k, v in wanted["metadata"].items() if k != "resourceVersion"}}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    annotations = {**(wanted["metadata"].get("annotations") or {}), names.APPLIED_ANNOTATION: digest}
    return {**wanted, "metadata": {**wanted["metadata"], "annotations": annotations}}


def differs(wanted: Manifest, live: Manifest | None) -> bool:
    """Tell whether `wanted` (marked) has to be applied over `live`."""
    if live is None:
        return True
    body = {**wanted, "metadata": {k: v for k, v in wanted["metadata"].items() if k != "resourceVersion"}}
    return not _within(body, live)


def _within(wanted: Any, live: Any) -> bool:
    """Tell whether `live` says all that `wanted` says."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            _within(value, live[key]) if key in live else _is_empty(value) for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(live, Sequence) and not isinstance(live, str) and _list_within(wanted, live)
    return bool(wanted == live) or _same_quantity(wanted, live)


def _is_empty(value: Any) -> bool:
    """Tell whether the API server may leave `value` out."""
    return value is None or value is False or value in ("", 0) or (isinstance(value, Mapping | list) and not value)


def _list_within(wanted: Sequence[Any], live: Sequence[Any]) -> bool:
    key = next((key for key in _KEYS if _tells_apart(key, wanted)), None)
    if key is None:
        return len(wanted) == len(live) and all(map(_within, wanted, live))
    by_key = {item.get(key): item for item in live if isinstance(item, Mapping)}
    return all(item[key] in by_key and _within(item, by_key[item[key]]) for item in wanted)


def _tells_apart(key: str, items: Sequence[Any]) -> bool:
    """Tell whether every item has `key`, each with a value of its own."""
    values = [item[key] for item in items if isinstance(item, Mapping) and key in item]
    return bool(items) and len({str(value) for value in values}) == len(items)


def _same_quantity(wanted: Any, live: Any) -> bool:
    try:
        return bool(parse_quantity(str(wanted)) == parse_quantity(str(live)))
    except ValueError:
        return False
