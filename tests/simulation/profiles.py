"""Makes a plan from a seed: which members, which network, which operations and faults, all drawn up front.

A profile says which faults may come and how often; each seed picks one unless told. Rates are per cluster-hour.
"""

import random
from dataclasses import dataclass, field

from tests.simulation.hostile import ATTACKS
from tests.simulation.plan import Action, Plan, Setting

MINUTE, HOUR = 60_000, 3_600_000
KEYS = ("hot", "hot", "hot", "warm", "warm", *(f"cold{i}" for i in range(5)))


@dataclass(frozen=True)
class Profile:
    """What a kind of run consists of.

    Attributes:
        hours: least and greatest length, in virtual hours.
        writes: client operations an hour.
        faults: kind → how many an hour.
        members: how many there may be.
        weight: how often a seed picks it.
        static: whether static membership may be drawn.
        hostile: attacks of a hostile member an hour; 0: there is none.
        gates: how many origins contexts may have before dead ones are dropped; none: as in production.
    """

    hours: tuple[float, float]
    writes: int
    faults: dict[str, float] = field(default_factory=dict)
    members: tuple[int, ...] = (2, 3, 3, 3, 4)
    weight: int = 1
    static: bool = False
    hostile: float = 0.0
    gates: tuple[int, ...] = ()


NETWORK = {"partition": 6.0, "slow": 2.0}
CRASHES = {"crash": 12.0, "stop": 2.0, "failed": 2.0, "full": 2.0, "stall": 2.0, "roll": 0.5}
VOLUMES = {"rollback": 3.0, "wipe": 1.0, "corrupt": 1.5, "clone": 0.7, "swap": 0.5}
CLOCKS = {"jump": 5.0, "drift": 3.0, "freeze": 2.0}
PEOPLE = {"remove": 2.0, "admit": 4.0, "join": 1.5, "drain": 3.0, "cancel": 0.7, "wipe": 0.7, "deaf": 1.0, "roll": 1.0}

PROFILES: dict[str, Profile] = {
    "quiet": Profile((0.5, 2), 120, static=True),
    "crashes": Profile((0.3, 1.5), 200, {**CRASHES, "partition": 2.0}, weight=2, static=True),
    "partitions": Profile((0.3, 1.5), 200, {**NETWORK, "partition": 14.0, "crash": 2.0}, weight=2, static=True),
    "volumes": Profile((0.2, 1), 160, {**VOLUMES, "crash": 4.0, "partition": 3.0}, weight=3),
    "clocks": Profile((0.3, 1.5), 160, {**CLOCKS, "crash": 3.0, "rollback": 1.0, "partition": 2.0}, weight=2),
    "membership": Profile((0.3, 1.5), 160, {**PEOPLE, "crash": 3.0, "partition": 3.0}, weight=3),
    "everything": Profile((0.3, 1), 200, {**CRASHES, **NETWORK, **VOLUMES, **CLOCKS, **PEOPLE}, weight=4),
    "large": Profile((0.2, 0.6), 240, {**NETWORK, **VOLUMES, **PEOPLE, "crash": 8.0, "jump": 1.0}, (5, 6, 7)),
    "hostile": Profile((0.2, 1), 160, {"crash": 2.0, "partition": 3.0}, weight=0, hostile=240.0),
    "hostile-volumes": Profile((0.2, 1), 160, {**VOLUMES, "crash": 3.0, "wipe": 1.0}, weight=0, hostile=120.0),
    "origins": Profile(
        (0.3, 1.2),
        200,
        {**VOLUMES, **PEOPLE, "crash": 25.0, "roll": 4.0, "jump": 4.0, "partition": 3.0},
        weight=0,
        gates=(0, 1, 3),
    ),
    "long": Profile((6, 12), 12, {"crash": 0.3, "partition": 0.3, "rollback": 0.05, "drain": 0.1, "admit": 0.3}),
}


def plan_of(seed: int, profile_name: str | None = None) -> Plan:
    """Return the plan of a seed; the profile is drawn unless it is named."""
    rng = random.Random(seed)
    names = list(PROFILES)
    drawn = rng.choices(names, [PROFILES[name].weight for name in names])[0]
    name = profile_name or drawn
    profile = PROFILES[name]
    hours = rng.uniform(*profile.hours)
    horizon = int(hours * HOUR)
    members = rng.choice(profile.members)
    static = profile.static and rng.random() < 0.3
    harsh = name not in ("quiet", "long")
    latency = rng.choice(((1, 3), (1, 50), (20, 400), (1, 5000))) if harsh else (1, 5)
    paged = name == "crashes" and rng.random() < 0.2
    setting = Setting(
        profile=name,
        seed=seed,
        members=members,
        membership="static" if static else "operator",
        interval_ms=30_000 if name == "long" else rng.choice((2000, 5000, 10_000, 20_000)),
        fanout=rng.choice((1, 1, 2)),
        horizon_ms=horizon,
        latency_ms=latency,
        sync_ms=rng.choice(((1, 2), (1, 20), (5, 500))),
        loss=rng.choice((0.0, 0.02, 0.2)) if harsh else 0.0,
        duplicates=rng.choice((0.0, 0.05)) if harsh else 0.0,
        late=rng.choice((0.0, 0.02, 0.05)) if harsh else 0.0,
        late_ms=rng.choice((MINUTE, HOUR, 5 * HOUR)),
        wire=rng.choice((0.02, 0.1)),
        disk="paged" if paged else "memory",
        # A hostile member makes more ranges than tiny limits let members tell each other: contexts then stay apart.
        limits="tiny" if harsh and rng.random() < 0.3 and not profile.hostile else "production",
        skew_ms=rng.choice((0, 0, 50, 5000)),
        hostile=1 if profile.hostile else 0,
        gate=rng.choice(profile.gates) if profile.gates else Setting.gate,
    )
    actions = _Drawing(rng, setting).draw(profile)
    return Plan(setting, tuple(sorted(actions, key=lambda action: action.at)))


class _Drawing:
    """Draws the actions of one plan."""

    def __init__(self, rng: random.Random, setting: Setting) -> None:
        self._rng = rng
        self._setting = setting
        self._slots = [f"m{index}" for index in range(setting.members)]
        self._actions: list[Action] = []

    def draw(self, profile: Profile) -> list[Action]:
        """Return operations and faults over the whole run."""
        rng, horizon = self._rng, self._setting.horizon_ms
        hours = horizon / HOUR
        for kind, rate in sorted(profile.faults.items()):
            if kind == "clone" and rng.random() < 0.5:
                continue  # what a clone wrote excuses much: leave it out of every other run
            for _ in range(self._drawn_count(rate * hours)):
                getattr(self, f"_{kind}")(rng.randrange(2000, horizon))
        for _ in range(int(profile.hostile * hours)):
            attack = rng.choice(tuple(ATTACKS))
            self._add(rng.randrange(1000, horizon), "hostile", attack, self._slot())
        bursts = max(1, int(profile.writes * hours / 6))
        for _ in range(bursts):
            at = rng.randrange(1000, horizon)
            for _ in range(rng.randint(1, 11)):
                self._operation(at)
                at += rng.choice((0, 1, 5, 50, 1000, 20_000))
        return self._actions

    def _drawn_count(self, mean: float) -> int:
        whole = int(mean)
        return sum(self._rng.random() < 0.5 for _ in range(2 * whole)) + (self._rng.random() < mean - whole)

    def _add(self, at: int, what: str, *args: object) -> None:
        self._actions.append(Action(at, what, tuple(map(str, args))))

    def _slot(self) -> str:
        return self._rng.choice(self._slots)

    def _operation(self, at: int) -> None:
        rng, slot, key = self._rng, self._slot(), self._rng.choice(KEYS)
        kind = rng.choices(("put", "delete", "ttl", "if", "batch", "read", "token", "k"), (30, 22, 8, 8, 5, 5, 8, 8))[0]
        if kind in ("put", "delete"):
            self._add(at, kind, slot, key)
        elif kind == "ttl":
            self._add(at, "put", slot, key, f"ttl={rng.choice((1000, MINUTE, 10 * MINUTE, 2 * HOUR))}")
        elif kind == "if":
            self._add(at, rng.choice(("put", "delete")), slot, key, f"if={rng.choice(('absent', 'present', 'same'))}")
        elif kind == "batch":
            chosen = [rng.choice(("", "", "-")) + rng.choice(KEYS) for _ in range(rng.randint(1, 4))]
            self._add(at, "batch", slot, *chosen)
        elif kind == "read":
            self._add(at, "read", slot, key)
        elif kind == "token":
            self._add(at, rng.choice(("put", "put", "delete")), slot, key, f"read={self._slot()}")
        else:
            self._add(at, "put", slot, key, f"k={rng.randint(2, len(self._slots))}")

    # ---- faults -----------------------------------------------------------------------------------------------------

    def _crash(self, at: int) -> None:
        self._add(at, "crash", self._slot(), self._rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 12, 20)))

    def _stop(self, at: int) -> None:
        slot = self._slot()
        self._add(at, "stop", slot)
        self._add(at + self._rng.randrange(20 * MINUTE), "start", slot)

    def _failed(self, at: int) -> None:
        self._add(at, "failed", self._slot())

    def _full(self, at: int) -> None:
        self._add(at, "full", self._slot(), self._rng.randrange(1000, 10 * MINUTE))

    def _stall(self, at: int) -> None:
        self._add(
            at, "stall", self._slot(), self._rng.randrange(1000, 5 * MINUTE), self._rng.choice((100, 3000, 15_000))
        )

    def _roll(self, at: int) -> None:
        for slot in self._slots:
            self._add(at, "stop", slot)
            self._add(at + self._rng.randrange(100, 20_000), "start", slot)
            at += self._rng.choice((5000, 30_000, 90_000))

    def _rollback(self, at: int) -> None:
        self._damage(at, "rollback", self._rng.choice((10, 30, 50, 70, 80, 90, 95, 97)))

    def _corrupt(self, at: int) -> None:
        self._damage(at, "corrupt", self._rng.choice((10, 50, 80, 95)))

    def _wipe(self, at: int) -> None:
        self._damage(at, "wipe")

    def _damage(self, at: int, what: str, *args: object) -> None:
        slot = self._slot()
        self._add(at, what, slot, *args)
        self._add(at + self._rng.choice((0, 100, 5000, 5 * MINUTE)), "start", slot)

    def _clone(self, at: int) -> None:
        slot = self._slot()
        if len(slot) == 2:
            twin = f"{slot}x{len(self._slots)}"
            self._add(at, "clone", slot, twin)
            self._slots.append(twin)

    def _swap(self, at: int) -> None:
        self._add(at, "swap", *self._rng.sample(self._slots, 2))

    def _partition(self, at: int) -> None:
        rng = self._rng
        ms = rng.choice((2000, 20_000, 2 * MINUTE, 15 * MINUTE))
        if rng.random() < 0.4:  # one member apart from all
            slot = self._slot()
            for other in self._slots:
                if other != slot:
                    self._add(at, "partition", slot, other, ms)
        else:
            self._add(at, "partition", *rng.sample(self._slots, 2), ms, rng.choice(("both", "to")))

    def _slow(self, at: int) -> None:
        self._add(
            at, "slow", self._slot(), self._rng.randrange(1000, 10 * MINUTE), self._rng.choice((300, 4000, 12_000))
        )

    def _jump(self, at: int) -> None:
        ms = self._rng.choice((-HOUR, -MINUTE, -1000, -5, 5, 1000, MINUTE, 250_000, HOUR))
        slot = self._slot()
        self._add(at, "jump", slot, ms)
        if self._rng.random() < 0.7:
            self._add(at + self._rng.randrange(1000, 20 * MINUTE), "jump", slot, -ms)

    def _drift(self, at: int) -> None:
        self._add(at, "drift", self._slot(), self._rng.choice((-100_000, -200, 200, 100_000)))

    def _freeze(self, at: int) -> None:
        self._add(at, "freeze", self._slot(), self._rng.randrange(1000, 10 * MINUTE))

    # ---- people -----------------------------------------------------------------------------------------------------

    def _remove(self, at: int) -> None:
        slot = self._slot()
        self._add(at, "remove", slot)
        if self._rng.random() < 0.6:
            self._add(at + self._rng.randrange(1000, 20 * MINUTE), "admit", slot)
        elif self._rng.random() < 0.3:
            self._add(at, "destroy", slot)

    def _admit(self, at: int) -> None:
        self._add(at, "admit", self._slot())

    def _join(self, at: int) -> None:
        name = f"m{len(self._slots)}"
        self._add(at, "join", name)
        self._slots.append(name)

    def _drain(self, at: int) -> None:
        self._add(at, "drain", self._slot())

    def _cancel(self, at: int) -> None:
        self._add(at, "cancel", self._slot())

    def _deaf(self, at: int) -> None:
        self._add(at, "deaf", self._rng.randrange(1000, 15 * MINUTE))
