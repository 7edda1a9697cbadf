"""The recipe of docs/api.md for a cache, unchanged, under Node's package eventsource, over a restart on another volume.

Not under Node's own EventSource: that of Node 20 asks no more once a connection was refused.
"""

import json
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from tests.integration.clients import install, needed
from tests.integration.member_process import MemberProcess

RECIPE = re.search(r"```js\n(.*?)```", (Path(__file__).parents[2] / "docs" / "api.md").read_text(), re.DOTALL)
SYNCED = "the cache holds all\n"


class Lines:
    """What a program writes, line by line, each within a deadline."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._lines.put(line)

    def next(self, seconds: float = 60) -> str:
        return self._lines.get(timeout=seconds)


def test_the_recipe_keeps_a_cache_over_a_member_that_lost_its_past(one: MemberProcess, tmp_path: Path) -> None:
    node, npm = needed("node"), needed("npm")
    install([npm, "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "eventsource@2.0.2"], tmp_path)
    assert RECIPE is not None
    one.wait_ready()
    one.put("flags/old", b"1")
    one.put("flags/kept", "a\u2028b".encode())
    program = "globalThis.EventSource = require('eventsource');" + RECIPE[1].replace("http://127.0.0.1:7070", one.url)
    program += 'events.addEventListener("synced", () => console.log(JSON.stringify(Object.fromEntries(cache))));'
    command = [node, "-e", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as browser:
        try:
            assert browser.stdout is not None
            told = Lines(browser.stdout)
            assert told.next() == SYNCED
            assert json.loads(told.next()) == {"flags/old": "1", "flags/kept": "a\u2028b"}
            one.kill()
            shutil.rmtree(one.data_dir)
            one.start().wait_ready()
            one.put("flags/new", b"2")
            assert told.next() == SYNCED, "the watch gave up"
            # It came back before the write did, and hears of that as a change, or behind it.
            assert json.loads(told.next()) in ({}, {"flags/new": "2"})
        finally:
            browser.kill()
