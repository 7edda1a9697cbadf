"""A watcher of a real member: reads Server-Sent Events from a raw connection."""

import http.client
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self


class Event(NamedTuple):
    kind: str
    id: str | None
    data: Any


class Watcher:
    """One watch; each `event` waits up to `timeout` seconds."""

    def __init__(self, port: int, query: str = "", *, path: str = "/v1/watch", timeout: float = 15) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._connection.request("GET", path + query)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.token: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._answer.close()
        self._connection.close()

    def event(self) -> Event:
        """Return the next event; comments and the hint are passed over."""
        fields: dict[str, str] = {}
        while True:
            line = self._answer.readline().decode()
            assert line, "the stream ended"
            if line == "\n" and "data" in fields:
                self.token = fields.get("id", self.token)
                return Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Return the events up to the first wanted one."""
        found = [self.event()]
        while not wanted(found[-1]):
            found.append(self.event())
        return found

    def until_synced(self) -> list[Event]:
        return self.until(lambda event: event.kind == "synced")

    def problem(self) -> dict[str, Any]:
        """Return the problem document of a refused watch."""
        problem: dict[str, Any] = json.loads(self._answer.read())
        return problem
