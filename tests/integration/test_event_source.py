"""The recipe of docs/api.md for a cache, unchanged, under the EventSource of Node, over a restart on another volume."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.member_process import MemberProcess

NODE = shutil.which("node")
RECIPE = re.search(r"```js\n(.*?)```", (Path(__file__).parents[2] / "docs" / "api.md").read_text(), re.DOTALL)


def _has_event_source() -> bool:
    if NODE is None:
        return False
    asked = [NODE, "--experimental-eventsource", "-e", "process.exit(typeof EventSource === 'function' ? 0 : 1)"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _has_event_source(), reason="there is no node with an EventSource")


def test_the_recipe_keeps_a_cache_over_a_member_that_lost_its_past(one: MemberProcess) -> None:
    assert RECIPE is not None
    assert NODE is not None
    one.put("flags/old", b"1")
    one.put("flags/kept", "a\u2028b".encode())
    program = RECIPE[1].replace("http://127.0.0.1:7070", one.url)
    program += 'events.addEventListener("synced", () => console.log(JSON.stringify(Object.fromEntries(cache))));'
    program += "setInterval(() => {}, 1000);"  # Node ends when nothing but a reconnection is left to do
    command = [NODE, "--experimental-eventsource", "--no-warnings", "-e", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as browser:
        try:
            assert browser.stdout is not None
            assert browser.stdout.readline() == b"the cache holds all\n"
            assert json.loads(browser.stdout.readline()) == {"flags/old": "1", "flags/kept": "a\u2028b"}
            one.kill()
            shutil.rmtree(one.data_dir)
            one.start().wait_ready()
            one.put("flags/new", b"2")
            assert browser.stdout.readline() == b"the cache holds all\n", "the watch gave up"
            # It came back before the write did, and hears of that as a change, or behind it.
            assert json.loads(browser.stdout.readline()) in ({}, {"flags/new": "2"})
        finally:
            browser.kill()
