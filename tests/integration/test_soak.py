"""The soak runs, loses nothing among enemies, and lets no page in; how long it takes and holds is for its hour."""

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.member_process import ROOT


def test_a_few_seconds_among_enemies_lose_no_acknowledged_write(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [
        sys.executable,
        "-m",
        "bench.soak",
        "--minutes",
        "0.12",
        "--kill-minutes",
        "0.06",
        "--pace",
        "0.1",
        "--json",
        str(report),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert report.exists(), done.stderr[-2000:]
    found = json.loads(report.read_text())
    assert found["writes"]["acknowledged"] > 50
    assert (found["writes"]["lost"], found["writes"]["wrong"]) == (0, [])
    counted = {name for counts in found["refusals"].values() for name in counts}
    assert [name for name in counted if "HOLE" in name] == []
    assert any(": 40" in name for name in found["refusals"]["peer"]), "nothing of the hostile peer was refused"
    assert sum(member["kills"] for member in found["memory"].values()) >= 1
    failures = [line for line in found["failed"] if not line.startswith(("memory of", "99 of 100"))]
    assert failures == []
