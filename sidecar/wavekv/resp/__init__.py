"""The Redis data plane: the commands that fit a last-writer-wins store, in RESP2 and RESP3, on loopback."""

from wavekv.resp.server import RespServer

__all__ = ["RespServer"]
