"""No acknowledged write is lost: a member killed under load from eight clients (G1, G3)."""

import http.client
import threading
import time
from dataclasses import dataclass, field

from tests.integration.member_process import Cluster, MemberProcess

CLIENTS = 8


@dataclass
class Client:
    """Writes its own keys, one after the other, and remembers what was acknowledged and what was in doubt."""

    member: MemberProcess
    number: int
    stop: threading.Event
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    refused: int = 0

    def run(self) -> None:
        count = 0
        connection: http.client.HTTPConnection | None = None
        while not self.stop.is_set():
            key, value = f"c{self.number}-{count % 50}", f"{self.number}:{count}".encode()
            count += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.member.http, timeout=10)
                connection.request("PUT", f"/v1/kv/{key}", value)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.doubtful.add(key)
                connection = None
                time.sleep(0.02)
                continue
            if answer.status in {200, 201}:
                self.acknowledged[key] = value
                self.doubtful.discard(key)
            else:
                self.refused += 1
        if connection is not None:
            connection.close()


def later_or_equal(found: bytes | None, acknowledged: bytes) -> bool:
    """A write in doubt may have happened after the last acknowledged one, never before it."""
    return found is not None and int(found.split(b":")[1]) >= int(acknowledged.split(b":")[1])


def test_no_acknowledged_write_is_lost_when_a_member_is_killed_under_load(three: Cluster) -> None:
    stop = threading.Event()
    clients = [Client(three[number % 3], number, stop) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.5)
        three[0].kill()
        time.sleep(0.2)
        three[0].start().wait_ready()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert sum(len(client.acknowledged) for client in clients) > CLIENTS * 10, "the load was real"
    three.wait_converged()
    for client in clients:
        for key, value in client.acknowledged.items():
            found = {member.get(key) for member in three.members}
            assert len(found) == 1, (key, found)
            if key in client.doubtful:
                assert later_or_equal(found.pop(), value), key
            else:
                assert found == {value}, key
