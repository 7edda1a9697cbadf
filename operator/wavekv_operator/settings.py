"""The operator's settings: frozen, read once at the entry point, passed in."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Settings:
    """All that `wavekv-operator run` is told. Units come last in names."""

    member_image: str
    """Image of the members of clusters that name none. A running cluster keeps the one it was made with."""
    member_image_pull_policy: str | None = None
    namespaces: tuple[str, ...] = ()
    """Namespaces served; none given: all."""
    cluster_domain: str = "cluster.local"
    listen_host: str | None = None
    """Of probes and metrics; None: all addresses, IPv4 and IPv6."""
    listen_port: int = 8080
    resync_seconds: float = 30.0
    """A cluster at which nothing happened is looked at this often: members are asked, certificates checked."""
    allow_unsafe_templates: bool = False
    """Build pods with host access if a template asks for it."""
    certificate_life: timedelta = timedelta(hours=2160)
    """Life of a leaf certificate; it is issued anew after two thirds."""
    authority_life: timedelta = timedelta(days=3650)

    reconcile_seconds_max: float = 120.0
    """One pass over one cluster; a longer one is given up and tried again."""
    busy_seconds: float = 2.0
    """Pause between passes while members come, go or drain."""
    retry_seconds_max: float = 60.0
    """Longest pause after failures."""
    member_timeout_seconds: float = 4.0
    """One request to a member."""
    member_requests_max: int = 64
    """Members asked at once."""
    cluster_requests_max: int = 16
    """Members of one cluster asked at once: those that let requests hang cost other clusters nothing."""
    member_answer_bytes_max: int = 2 << 20
    """Longest answer of a member; in a cluster of a thousand it has under one MiB. A hostile member costs this and what
    it decodes to, once for each request that waits."""
    enrolments_max: int = 64
    """Certificates given in one pass over a cluster, those first whose member has none; each asks the API once."""
    workers_max: int = 8
    """Clusters worked on at once."""
    namespace_workers_max: int = 2
    """Clusters of one namespace worked on at once: a tenant's that hang leave workers to the others."""
    drain_patience_seconds: float = 30.0
    """A drain that is not complete after this is called prevented; it goes on all the same."""
    relist_seconds: float = 60.0
    """How often what the watches saw is compared with the API."""
    relist_grace_seconds: float = 10.0
    """Time in which a watch has to bring what a list showed."""
