"""What the images are made of is told and audited, and nothing in them runs with another user's rights."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOCKS = {"sidecar": "requirements-member.lock", "operator": "requirements-operator.lock"}
BASE = "python:3.11-slim-bookworm"


def bill(tmp_path: Path, image: str, base: str = BASE) -> dict[str, Any]:
    command = [sys.executable, ".ci/sbom.py", "--base", base, "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found: dict[str, Any] = json.loads((tmp_path / f"{image}.cdx.json").read_text())
    return found


@pytest.mark.parametrize("image", LOCKS)
def test_a_bill_of_materials_names_every_package_of_the_lock_and_the_base(image: str, tmp_path: Path) -> None:
    found = bill(tmp_path, image)
    lines = (ROOT / LOCKS[image]).read_text().splitlines()
    locked = {line.split()[0].rstrip("\\") for line in lines if re.match(r"[\w.-]+==", line)}
    told = {f"{one['name']}=={one['version']}" for one in found["components"] if one["type"] == "library"}
    assert {name.replace("_", "-") for name in told} == {name.lower().replace("_", "-") for name in locked}
    assert [one["name"] for one in found["components"] if one["type"] == "container"] == ["python"]
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    references = [one["bom-ref"] for one in found["components"]]
    assert len(set(references)) == len(references)
    assert found["dependencies"] == [{"ref": f"wavekv-{image}", "dependsOn": references}]


def test_a_bill_is_the_same_for_the_same_lock_and_tells_a_pinned_base(tmp_path: Path) -> None:
    assert bill(tmp_path, "sidecar") == bill(tmp_path, "sidecar")
    digest = "a" * 64
    pinned = bill(tmp_path, "sidecar", f"registry.example.org:5000/python:3.12@sha256:{digest}")["components"][-1]
    assert (pinned["name"], pinned["version"]) == ("registry.example.org:5000/python", "3.12")
    assert pinned["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_an_audit_without_a_data_base_says_so_in_a_line_and_is_no_failure() -> None:
    nowhere = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, ".ci/audit.py"]
    done = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "nothing was audited" in done.stdout


def stages() -> dict[str, str]:
    """Return the text of each stage of the Dockerfile."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("image", ["sidecar", "operator"])
def test_an_image_runs_as_nobody_and_is_not_built_with_a_file_of_anothers_rights(image: str) -> None:
    stage = stages()[image]
    check = 'test -z "$(find / -xdev -type f -perm /6000)"'
    assert check in stage
    assert stage.index(check) < stage.index("USER 65532:65532")
    assert "ADD " not in stage
    assert "USER" not in stage.replace("USER 65532:65532", "")
    assert "find / -xdev -type f -perm /6000 -exec chmod a-s {} +" in stages()["stripped"]


def test_every_dependency_of_an_image_comes_with_a_hash_and_as_a_wheel() -> None:
    for name in ("libraries", "operator-libraries"):
        assert "--only-binary :all: --require-hashes" in stages()[name]
