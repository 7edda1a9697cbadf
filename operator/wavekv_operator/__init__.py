"""WaveKV's operator: runs member clusters on Kubernetes from one `WaveKVCluster` resource."""

__version__ = "0.1.0"
