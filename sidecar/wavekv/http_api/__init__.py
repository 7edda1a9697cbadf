"""The HTTP data plane: `/v1/kv/{key}`, `/v1/kv` and `/v1/status` on loopback and a unix socket."""

from wavekv.http_api.server import HttpApi

__all__ = ["HttpApi"]
