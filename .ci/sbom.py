#!/usr/bin/env python3
"""Write what both images are made of, as CycloneDX 1.6: build/sbom/sidecar.cdx.json and operator.cdx.json.

    python .ci/sbom.py [--base IMAGE] [--out build/sbom]

Taken from the locks, which are what the images install, with hashes: so it is known before an image is built, and the
same lock gives the same file. Turned down: reading a built image, which needs one, and a tool of its own.
"""

import argparse
import hashlib
import json
import re
import tomllib
import uuid
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCKS: Final = {"sidecar": "requirements-member.lock", "operator": "requirements-operator.lock"}
PACKAGES: Final = {"sidecar": "sidecar/wavekv", "operator": "operator/wavekv_operator"}
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$", re.MULTILINE)
_NAMESPACE: Final = uuid.UUID("6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01")


def version() -> str:
    """Return the version of this tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def pinned(lock: str) -> list[tuple[str, str, str]]:
    """Return `(name, version, marker)` of every package in the text of a lock."""
    return [(name.lower().replace("_", "-"), found, marker) for name, found, marker in _PINNED.findall(lock)]


def bill(image: str, base: str) -> dict[str, Any]:
    """Return what one image is made of."""
    lock = (ROOT / LOCKS[image]).read_bytes()
    digest = hashlib.sha256(lock).hexdigest()
    root = f"wavekv-{image}"
    components = [_library(*one) for one in pinned(lock.decode())]
    components.append(_base(base))
    about = {
        "type": "container",
        "bom-ref": root,
        "name": root,
        "version": version(),
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": [
            {"name": "wavekv:lock", "value": LOCKS[image]},
            {"name": "wavekv:lock:sha256", "value": digest},
            {"name": "wavekv:sources", "value": PACKAGES[image]},
        ],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{root} {version()} {digest} {base}')}",
        "version": 1,
        "metadata": {"component": about},
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _library(name: str, found: str, marker: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{found}"
    library: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": found, "purl": purl}
    if marker:
        library["properties"] = [{"name": "wavekv:marker", "value": marker}]
    return library


def _base(image: str) -> dict[str, Any]:
    name, _, digest = image.partition("@")
    name, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    base = {"type": "container", "bom-ref": f"base:{image}", "name": name or image, "version": tag or "latest"}
    if digest.startswith("sha256:"):
        return {**base, "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]}
    return {**base, "properties": [{"name": "wavekv:pinned", "value": "no"}]}


def main() -> None:
    """Write both files and say where they are."""
    parser = argparse.ArgumentParser(description="Write the bills of materials of both images.")
    parser.add_argument("--base", default="python:3.11-slim-bookworm", help="the image both are built on")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "sbom", help="where the files go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for image in LOCKS:
        found = bill(image, arguments.base)
        path = arguments.out / f"{image}.cdx.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{path}: {len(found['components'])} components")


if __name__ == "__main__":
    main()
