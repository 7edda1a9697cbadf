"""A client that openapi-python-client generates from `/openapi.json` speaks with a member."""

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.member_process import MemberProcess

GENERATOR = Path(sys.executable).with_name("openapi-python-client")
pytestmark = pytest.mark.skipif(not GENERATOR.exists(), reason="openapi-python-client is not installed")


@pytest.fixture
def generated(one: MemberProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package that is generated from a running member's description."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(one.request("GET", "/openapi.json").json()))
    out = tmp_path / "generated"
    command = [str(GENERATOR), "generate", "--path", str(document), "--output-path", str(out), "--meta", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("generated")


def test_a_generated_client_puts_gets_and_lists(one: MemberProcess, generated: Any) -> None:
    def api(name: str) -> Any:
        return importlib.import_module(f"generated.api.default.{name}")

    types = importlib.import_module("generated.types")
    with generated.Client(base_url=f"http://127.0.0.1:{one.http}") as client:
        answer = api("put").sync_detailed("a/b", client=client, body=types.File(payload=io.BytesIO(b"\xff\x00")))
        assert answer.status_code == 201
        assert api("get").sync_detailed("a/b", client=client).content == b"\xff\x00"
        assert one.get("a/b") == b"\xff\x00"
        one.put("t", "ü".encode())
        page = api("list_").sync(client=client)
        assert [(entry.key, entry.value or None, entry.value_base64 or None) for entry in page.entries] == [
            ("a/b", None, "/wA="),
            ("t", "ü", None),
        ]
        assert api("get").sync(client=client, key="none").code == "not_found"
