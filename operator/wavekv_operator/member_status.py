"""Reads what a member says of itself, within bounds: a hostile one may say anything, and some of it ends in a status.

An answer that is no member's is no answer at all: the member counts as silent.
"""

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from wavekv_operator.membership import Drain, MemberView
from wavekv_operator.spec import EPOCH_MAX, REPLICAS_MAX

_NODE_ID_MAX = 2**32 - 1
_PROCESS_MAX = 2**63 - 1
_NAME_CHARACTERS_MAX = 63
"""Longest name of a pod of a StatefulSet whose labels fit."""
_PHASE = re.compile("[a-z_]{1,32}")


def read_view(status: Mapping[str, Any], drain: Mapping[str, Any] | None) -> MemberView:
    """Return what a member's status says.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not the status of a member.
    """
    membership = status["membership"]
    name, epoch, admitted = _name(status["name"]), membership["epoch"], membership["admitted_epoch"]
    # A member that was removed lists itself all the same.
    listed = _names(membership["members"])
    members = tuple(item for item in listed if item != name or membership["included"])
    phase = str(status["phase"])
    if not _PHASE.fullmatch(phase):
        raise ValueError("the phase is none")
    return MemberView(
        name=name,
        node_id=_whole(status["node_id"], _NODE_ID_MAX),
        uuid=str(uuid.UUID(status["uuid"])),
        phase=phase,
        ready=bool(status["ready"]),
        healing=bool(status["healing"]),
        draining=bool(status["draining"]),
        converged=bool(status["converged"]),
        inc=_whole(status["process"]["inc"], _PROCESS_MAX),
        epoch=None if epoch is None else _whole(epoch, EPOCH_MAX),
        members=members,
        admitted_epoch=None if admitted is None else _whole(admitted, EPOCH_MAX),
        drain=None if drain is None else _read_drain(drain),
    )


def _read_drain(raw: Mapping[str, Any]) -> Drain:
    covered = raw["covered_by"]
    return Drain(
        draining=bool(raw["draining"]),
        complete=bool(raw["complete"]),
        healing=bool(raw["healing"]),
        covered_by={name: _whole(covered[name], _PROCESS_MAX) for name in _names(covered)},
        waiting_for=_names(raw["waiting_for"]),
    )


def _names(listed: Iterable[Any]) -> tuple[str, ...]:
    found = tuple(_name(item) for item in listed)
    if len(found) > REPLICAS_MAX:
        raise ValueError(f"more than {REPLICAS_MAX} names")
    return found


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _NAME_CHARACTERS_MAX or not value.isprintable():
        raise ValueError("a name is none")
    return value


def _whole(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is no number in 0 … {most}")
    return value
