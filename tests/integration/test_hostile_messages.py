"""A member that is sent the worst messages there are goes on answering its clients, and holds no more memory (G11)."""

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.fakes.hostile_messages import REFUSED, TAKEN
from tests.integration.member_process import MemberProcess, fetch, free_ports
from wavekv.core.codec.envelope import decode_envelope, pack
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry

READ_SECONDS_MAX = 2.0
"""The longest read meanwhile. A turn takes some 20 ms, but the machine of a test is busy with other things."""
GROWTH_KIB_MAX = 192 << 10
"""One body, its inflated form and what it decodes to, and what the allocator keeps of them."""
CONTENT_TYPE = {"Content-Type": "application/x-msgpack-gz"}


def peak_kib(member: MemberProcess) -> int:
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


class Reads:
    """Reads one key again and again, and remembers the longest."""

    def __init__(self, member: MemberProcess) -> None:
        self.longest, self.count = 0.0, 0
        self._member, self._done = member, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Reads":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            began = time.monotonic()
            assert self._member.get("honest") == b"value"
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1


def bodies() -> list[bytes]:
    worst = [gzip.compress(make(), 1, mtime=0) for make in REFUSED.values()]
    return worst + [pack(replace(decode_envelope(make()), name="m1", inc=1, members=None)) for make in TAKEN.values()]


def test_the_worst_messages_hold_up_no_reader_and_leave_no_memory(one: MemberProcess) -> None:
    one.terminate()
    one.extra_args = ("--peer", f"m1=http://127.0.0.1:{free_ports(1)[0]}")
    one.start().wait_ready()
    one.put("honest", b"value")
    messages = bodies()
    before = peak_kib(one)
    with Reads(one) as reads:
        for route in ("/wavekv/sync2/persistent", "/wavekv/push/persistent"):
            for body in messages:
                answer = fetch(one.peer, "POST", route, body, CONTENT_TYPE)
                assert answer.status in {200, 400}, answer.body[:200]
    assert reads.count > len(messages)
    assert reads.longest < READ_SECONDS_MAX
    assert peak_kib(one) - before < GROWTH_KIB_MAX
    assert one.put("alive", b"yes").status == 201
    assert one.status()["name"] == "m0", "its status is whole"


def test_many_large_messages_at_once_are_not_all_held_inflated(one: MemberProcess) -> None:
    one.terminate()
    one.extra_args = ("--peer", f"m1=http://127.0.0.1:{free_ports(1)[0]}")
    one.start().wait_ready()
    entries = tuple(Entry(f"k{at}", bytes(1900), 1, 902, at + 1) for at in range(8192))
    body = pack(Envelope(sender_id=902, name="m1", inc=1, entries=entries))
    fetch(one.peer, "POST", "/wavekv/sync2/persistent", body, CONTENT_TYPE)
    before = peak_kib(one)
    with ThreadPoolExecutor(32) as pool:
        asked = [
            pool.submit(fetch, one.peer, "POST", "/wavekv/sync2/persistent", body, CONTENT_TYPE) for _ in range(32)
        ]
        assert {answer.result().status for answer in asked} == {200}
    assert peak_kib(one) - before < GROWTH_KIB_MAX
