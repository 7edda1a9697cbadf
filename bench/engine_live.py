"""What of `bench.engine` needs a member at work: stalls of its event loop, and writes, while it compacts.

A member with a snapshot of all keys and a compaction age of a few seconds is asked for a key every millisecond from
another process, first idle, then through its first compaction. Then redis-benchmark's SETs run in short turns until
the second compaction is over; a turn counts where it lies wholly inside it, or wholly outside.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.engine_servers import children, member_on, pid_of
from tests.integration.member_process import ROOT, MemberProcess, eventually

COMPACT_AGE_SECONDS = 8
CONNECTIONS = 16
_TURN_WRITES = 2000
_IDLE_SECONDS = 3.0
_SPAWN_SECONDS = 0.1
"""Before the worker was seen, and after it was gone: starting it and taking its result belong to the compaction."""
_COMPACTED_SECONDS_MAX = 120.0


class Live(NamedTuple):
    """One round."""

    idle: "Answers"
    compacting: "Answers"
    compaction_seconds: float
    writes_without: float
    writes_compacting: float


class Answers(NamedTuple):
    """Milliseconds that GETs took; `stall`: less the time that client or loop waited for a processor."""

    longest: float
    p999: float
    stall_longest: float
    stall_p999: float


class Span(NamedTuple):
    """From when to when, by the monotonic clock."""

    begin: float
    end: float

    def holds(self, other: "Span") -> bool:
        return self.begin <= other.begin and other.end <= self.end

    def meets(self, other: "Span") -> bool:
        return self.begin <= other.end and other.begin <= self.end


class Probe(NamedTuple):
    """One GET, and the seconds of it that went into waiting for a processor."""

    span: Span
    queued: float


class Watch:
    """Sees a member's workers come and go."""

    def __init__(self, pid: int) -> None:
        self.compactions: list[Span] = []
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        begun = last = 0.0
        while not self._stop.wait(0.01):
            now = time.monotonic()
            if children(self._pid):
                begun, last = begun or now, now
            elif begun and now - last > 1:  # the merge and the making of spares are two processes
                self.compactions.append(Span(begun - _SPAWN_SECONDS, last + _SPAWN_SECONDS))
                begun = 0.0

    def wait(self, count: int) -> Span:
        """Wait for a compaction to be over."""
        eventually(lambda: len(self.compactions) >= count, _COMPACTED_SECONDS_MAX, f"{count} compactions are done")
        return self.compactions[count - 1]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def measure_live(stored: Path, folder: Path, key: str) -> Live:
    """Measure one round on a copy of the directory `stored`."""
    shutil.copytree(stored, folder, ignore=shutil.ignore_patterns("*.sock"))
    with member_on(folder, {"WAVEKV_COMPACT_AGE": str(COMPACT_AGE_SECONDS)}) as member:
        member.wait_ready(60)
        watch = Watch(pid_of(member))
        try:
            with probing(member, key) as probes:
                idle = Span(time.monotonic(), time.monotonic() + _IDLE_SECONDS)
                first = watch.wait(1)
            turns: list[Span] = []
            while len(watch.compactions) < 2:
                turns.append(_turn(member))
        finally:
            watch.stop()
    shutil.rmtree(folder)
    second = watch.compactions[1]
    return Live(
        _answers(probes, idle),
        _answers(probes, first),
        first.end - first.begin,
        _rate([turn for turn in turns[1:] if not second.meets(turn)]),
        _rate([turn for turn in turns if second.holds(turn)]),
    )


@contextmanager
def probing(member: MemberProcess, key: str) -> Iterator[list[Probe]]:
    """Ask for a key every millisecond; the list is filled when the block is left."""
    found: list[Probe] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times"
        arguments = [str(member.http), str(pid_of(member)), key, str(file)]
        command = [sys.executable, "-m", "bench.engine_parts", "probe", *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sidecar'}"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as prober:
            try:
                yield found
            finally:
                assert prober.stdin is not None, "it was asked for"
                prober.stdin.close()
                prober.wait(30)
        times = array("d", file.read_bytes())
        found.extend(map(Probe, map(Span, times[0::3], times[1::3]), times[2::3]))


def _answers(probes: Sequence[Probe], during: Span) -> Answers:
    met = [probe for probe in probes if during.meets(probe.span)]
    if not met:
        raise RuntimeError("no probe fell into the time that counts")
    taken = [(probe.span.end - probe.span.begin) * 1000 for probe in met]
    stalls = [max(0.0, took - probe.queued * 1000) for took, probe in zip(taken, met, strict=True)]
    return Answers(max(taken), _quantile(taken, 0.999), max(stalls), _quantile(stalls, 0.999))


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _turn(member: MemberProcess) -> Span:
    command = ["redis-benchmark", "-p", str(member.resp), "-c", str(CONNECTIONS), "-n", str(_TURN_WRITES), "-t", "set"]
    begun = time.monotonic()
    subprocess.run([*command, "-d", "100", "-r", "1000000", "--csv"], check=True, capture_output=True)
    return Span(begun, time.monotonic())


def _rate(turns: Sequence[Span]) -> float:
    """Return writes a second, the median turn's; nan where no turn counts."""
    return statistics.median(_TURN_WRITES / (turn.end - turn.begin) for turn in turns) if turns else float("nan")
