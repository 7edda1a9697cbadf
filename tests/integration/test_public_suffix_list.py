"""Real input: the Public Suffix List written on one member is complete and equal on another, also after SIGKILL."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import publicsuffixlist
import redis

from tests.integration.member_process import Cluster, MemberProcess, eventually

PREFIX = "psl/"
COMMENT = "//"


def rules() -> list[str]:
    """Return the list's rules as a reader that is not WaveKV's sees them."""
    with Path(publicsuffixlist.PSLFILE).open(encoding="utf-8") as lines:
        stripped = [line.strip() for line in lines]
    return [line for line in stripped if line and not line.startswith(COMMENT)]


def import_list(member: MemberProcess) -> str:
    command = [sys.executable, "-m", "wavekv", "import", publicsuffixlist.PSLFILE, "--url", member.url]
    flags = ["--format", "lines", "--comment-prefix", COMMENT, "--key-prefix", PREFIX]
    state = ["--state", str(member.data_dir.with_suffix(".import-state"))]
    done = subprocess.run([*command, *flags, *state], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def over_http(member: MemberProcess) -> dict[str, bytes]:
    """Read all entries of the prefix by paging."""
    found: dict[str, bytes] = {}
    after = ""
    while True:
        page = member.request("GET", f"/v1/kv?prefix={quote(PREFIX)}&limit=1000&after={quote(after)}").json()
        found.update({item["key"]: item["value"].encode() for item in page["entries"]})
        if page["next"] is None:
            return found
        after = page["next"]


def over_resp(member: MemberProcess, keys: Iterable[str]) -> dict[str, bytes]:
    with redis.Redis(port=member.resp, protocol=3) as client, client.pipeline(transaction=False) as pipeline:
        names = list(keys)
        for key in names:
            pipeline.get(key)
        return dict(zip(names, pipeline.execute(), strict=True))


def test_the_list_is_complete_on_another_member_over_both_planes_and_after_sigkill_of_all(three: Cluster) -> None:
    expected = {PREFIX + rule: rule.encode() for rule in rules()}
    assert len(expected) > 9000
    assert any(not key.isascii() for key in expected)
    import_list(three[0])
    eventually(lambda: three[2].status()["store"]["live"] >= len(expected), 20, "m2 holds as many entries")
    assert over_http(three[2]) == expected
    assert over_resp(three[2], expected) == expected
    for member in three.members:
        member.kill()
    three.start()
    for member in three.members:
        assert over_http(member) == expected
    assert over_resp(three[2], expected) == expected


def test_a_write_accepted_while_a_member_is_down_reaches_it_on_return(three: Cluster) -> None:
    three[0].put("before", b"1")
    three.wait_everywhere("before", b"1")
    three[2].kill()
    three[0].put("while-down", b"2")
    three[1].put("before", b"overwritten")
    assert three[0].delete("before").status in {200, 404}
    three[2].start().wait_ready()
    three.wait_everywhere("while-down", b"2")
    eventually(lambda: len({member.get("before") for member in three.members}) == 1, 20, "all agree on `before`")
