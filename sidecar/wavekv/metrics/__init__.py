"""What a member tells Prometheus and the kubelet: its metric families, and the probes.

`families` owns the names, `observer` counts what log and runtime report, `gauges` reads the member's status at scrape
time, `health` serves both over plain HTTP. Only this package imports prometheus_client.
"""

from wavekv.metrics.health import HealthServer
from wavekv.metrics.observer import Metrics

__all__ = ["HealthServer", "Metrics"]
