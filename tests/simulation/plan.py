"""A plan: the setting of a world and an explicit list of timed actions. A seed makes one, a scenario is one in words.

    members 3
    gossip off
    0 put m0 k
    100 push m0 m1 k

A line with a word in front is a setting, one with a number is an action at that millisecond. `#` begins a comment.
Any subset of a plan's actions is a plan again, which is what shrinking needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple


class Action(NamedTuple):
    """`what` with `args`, all words, at virtual millisecond `at`."""

    at: int
    what: str
    args: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((str(self.at), self.what, *self.args))


@dataclass(frozen=True)
class Setting:
    """What holds for a whole run.

    Attributes:
        profile: where it came from, for people.
        seed: of everything that happens in the world; the plan itself is explicit.
        members: how many there are at first: m0, m1, …
        membership: "operator" (epochs) or "static" (peers by flags).
        gossip: "on", or "off": members talk only when an action says so.
        interval_ms, fanout: of the periodic exchange.
        horizon_ms: when the faults end and the members heal.
        latency_ms, sync_ms: least and greatest; a sync is drawn for each group.
        loss, duplicates, late: shares of messages; a late one takes up to `late_ms`.
        wire: share of messages that are serialised on their way.
        limits: "production", or "tiny": pages of two entries, few remembered changes, dots and queued keys.
        disk: "memory", or "paged": the real log on a disk that loses pages.
        skew_ms: by how much clocks may differ from the start on.
        gate: origins in a context above which the dead ones are dropped (R15).
        hostile: 1 with a hostile member h0 beside the honest ones (`hostile`), else 0.
    """

    profile: str = "scenario"
    seed: int = 0
    members: int = 3
    membership: str = "operator"
    gossip: str = "on"
    interval_ms: int = 10_000
    fanout: int = 1
    horizon_ms: int = 600_000
    latency_ms: tuple[int, int] = (1, 1)
    sync_ms: tuple[int, int] = (1, 1)
    loss: float = 0.0
    duplicates: float = 0.0
    late: float = 0.0
    late_ms: int = 3_600_000
    wire: float = 1.0
    limits: str = "production"
    disk: str = "memory"
    skew_ms: int = 0
    gate: int = 4096
    hostile: int = 0


@dataclass(frozen=True)
class Plan:
    """A setting and the actions, in order of time."""

    setting: Setting = field(default_factory=Setting)
    actions: tuple[Action, ...] = ()

    def with_actions(self, actions: Iterable[Action]) -> "Plan":
        """Return this plan with other actions."""
        return replace(self, actions=tuple(actions))

    def text(self) -> str:
        """Return the plan in words; settings as they are by default are left out."""
        lines = []
        for each in fields(Setting):
            value = getattr(self.setting, each.name)
            if value != each.default:
                words = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                lines.append(f"{each.name} {words}")
        return "\n".join([*lines, *map(str, self.actions)]) + "\n"


def parse(text: str) -> Plan:
    """Return the plan that `text` says.

    Raises:
        ValueError: a line is neither a setting, an action nor a comment; it names the line.
    """
    known = {each.name: each.default for each in fields(Setting)}
    given: dict[str, Any] = {}
    actions: list[Action] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0].isdigit() and len(words) > 1:
            actions.append(Action(int(words[0]), words[1], tuple(words[2:])))
        elif words[0] in known and len(words) > 1:
            given[words[0]] = _value(known[words[0]], words[1:])
        else:
            raise ValueError(f"line {number} is neither 'MILLISECOND ACTION …' nor 'SETTING VALUE': {line.strip()}")
    return Plan(Setting(**given), tuple(sorted(actions, key=lambda action: action.at)))


def _value(default: object, words: list[str]) -> object:
    if isinstance(default, tuple):
        return tuple(int(word) for word in words)
    return type(default)(words[0])
