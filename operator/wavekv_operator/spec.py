"""Reads a WaveKVCluster: the one place that knows the field names of its `spec`.

The API server checks the resource against the CRD and fills in defaults; what is read here again is what a pass needs,
with the same defaults (a test compares), so that a resource stored under an older CRD still works.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wavekv_operator import names
from wavekv_operator.amounts import whole_amount
from wavekv_operator.errors import InvalidSpec

Manifest = dict[str, Any]
"""A Kubernetes object as decoded JSON."""

REPLICAS_MAX = 1000
EPOCH_MAX = 2**53
"""Greatest epoch that members take."""
EPOCH_JUMP_MAX = 1_000_000
"""How far above the epoch it knows a member takes another; further only as an override. The member's own bound."""
OVERRIDE_EPOCH_MAX = EPOCH_MAX - EPOCH_JUMP_MAX
"""Greatest epoch that an override may set, so that there is room above it."""
RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
"""What the member's container asks for unless the resource says otherwise."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The volume of each member."""

    size: str = "1Gi"
    storage_class: str | None = None
    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """What members are started with."""

    gossip_interval_ms: int = 1000
    fsync_mode: str = "thread"
    log_level: str = "info"
    log_format: str = "json"


@dataclass(frozen=True, slots=True)
class MemberLimits:
    """How much each member takes: entries, and bytes of all of them, of one key, of one value."""

    entries: int = 1_000_000
    size_bytes: int = 1 << 30
    key_bytes: int = 1024
    value_bytes: int = 1 << 20


LIMIT_FIELDS = {"entries": "entries", "size_bytes": "bytes", "key_bytes": "keyBytes", "value_bytes": "valueBytes"}
"""The field of `spec.limits` behind each attribute."""
LEAST = MemberLimits(entries=1, size_bytes=1 << 20, key_bytes=1, value_bytes=1)
MOST = MemberLimits(entries=10_000_000, size_bytes=64 << 30, key_bytes=1024, value_bytes=1 << 20)
"""The bounds of these limits, which are the member's own."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One WaveKVCluster as it is wanted."""

    namespace: str
    name: str
    uid: str
    generation: int
    replicas: int = 3
    image: str | None = None
    image_pull_policy: str | None = None
    storage: Storage = Storage()
    resources: Mapping[str, Any] = field(default_factory=lambda: RESOURCES)
    options: MemberOptions = MemberOptions()
    limits: MemberLimits = MemberLimits()
    disruption_budget: bool = True
    template: Mapping[str, Any] | None = None
    paused: bool = False
    forced: str | None = None
    """Member that may be removed although its drain cannot finish."""
    prevented: bool = False
    """The last pass found that a drain cannot finish."""
    override: int | None = None
    """Epoch that members have to take although it is out of their reach, or below what they know."""
    overridden: int | None = None
    """The last override that the status says was carried out."""
    manifest: Manifest = field(default_factory=dict, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)

    @property
    def cluster_id(self) -> str:
        """The UUID by which members know their cluster."""
        return names.cluster_id(self.namespace, self.name)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The member names of the wanted size, in order."""
        return tuple(names.member(self.name, ordinal) for ordinal in range(self.replicas))


def read_cluster(manifest: Manifest) -> Cluster:
    """Return what `manifest` wants.

    Raises:
        InvalidSpec: a field is not what it has to be; only where the CRD of another version let it through.
    """
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    storage, member = spec.get("storage") or {}, spec.get("member") or {}
    annotations = metadata.get("annotations") or {}
    replicas = spec.get("replicas", Cluster.__dataclass_fields__["replicas"].default)
    if not isinstance(replicas, int) or not 1 <= replicas <= REPLICAS_MAX:
        raise InvalidSpec("spec.replicas", f"has to be a whole number in 1 … {REPLICAS_MAX}")
    default_storage, default_options = Storage(), MemberOptions()
    return Cluster(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        replicas=replicas,
        image=spec.get("image"),
        image_pull_policy=spec.get("imagePullPolicy"),
        storage=Storage(
            size=storage.get("size", default_storage.size),
            storage_class=storage.get("storageClassName"),
            when_deleted=storage.get("whenDeleted", default_storage.when_deleted),
            when_scaled=storage.get("whenScaled", default_storage.when_scaled),
        ),
        resources=spec.get("resources", RESOURCES),
        options=MemberOptions(
            gossip_interval_ms=member.get("gossipIntervalMs", default_options.gossip_interval_ms),
            fsync_mode=member.get("fsyncMode", default_options.fsync_mode),
            log_level=member.get("logLevel", default_options.log_level),
            log_format=member.get("logFormat", default_options.log_format),
        ),
        limits=_limits(spec.get("limits") or {}),
        disruption_budget=(spec.get("disruptionBudget") or {}).get("enabled", True),
        template=spec.get("template"),
        paused=annotations.get(names.PAUSED_ANNOTATION) == "true",
        forced=annotations.get(names.FORCE_ANNOTATION),
        prevented=_is_true(manifest, "ScaleDownPrevented"),
        override=_override(annotations),
        overridden=((manifest.get("status") or {}).get("epochOverride") or {}).get("epoch"),
        manifest=manifest,
    )


def _override(annotations: Mapping[str, str]) -> int | None:
    text = annotations.get(names.OVERRIDE_ANNOTATION)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    if not 1 <= number <= OVERRIDE_EPOCH_MAX:
        path = f"metadata.annotations.{names.OVERRIDE_ANNOTATION}"
        raise InvalidSpec(path, f"has to be a whole number in 1 … {OVERRIDE_EPOCH_MAX}")
    return number


def _limits(given: Mapping[str, Any]) -> MemberLimits:
    """Read the limits as plain numbers, so that another spelling of the same amount rolls nothing."""
    read = {}
    for attribute, name in LIMIT_FIELDS.items():
        least, most = getattr(LEAST, attribute), getattr(MOST, attribute)
        value = whole_amount(given[name]) if name in given else getattr(MemberLimits(), attribute)
        if value is None or not least <= value <= most:
            raise InvalidSpec(f"spec.limits.{name}", f"has to be a whole amount in {least} … {most}")
        read[attribute] = value
    return MemberLimits(**read)


def _is_true(manifest: Manifest, condition: str) -> bool:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return any(item["type"] == condition and item["status"] == "True" for item in conditions)
