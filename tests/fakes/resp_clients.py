"""What tests of the Redis plane ask of a real client."""

from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError


async def said(client: redis.Redis, *words: Any) -> str:
    """Return the text of the error that a command is answered with."""
    with pytest.raises(ResponseError) as refused:
        await client.execute_command(*words)
    return str(refused.value)
