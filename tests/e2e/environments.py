"""Where the end-to-end tests find a Kubernetes: one that is given, the lab, or kind; and how images get into it.

In this order: `KUBECONFIG` (its nodes have to find the images: `WAVEKV_E2E_REGISTRY` names where they were pushed,
under the tag in `WAVEKV_E2E_TAG`), `WAVEKV_LAB` (a folder with the scripts up, build-image, exec), kind where a Docker
engine answers. Images are built from the repository's Dockerfile and named by a digest of what goes into them, so a
second run builds nothing.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("sidecar", "operator")
BUILD_SECONDS_MAX = 1200
KIND_CLUSTER = "wavekv-e2e"
LAB_BASE_IMAGE = "localhost/python:3.11-slim-bookworm"


class Unavailable(Exception):
    """No cluster can be had; the message says why in one line."""


class Environment(Protocol):
    """A cluster, and what differs between the ways to have one."""

    name: str
    kubeconfig: Path
    kubectl: Sequence[str]
    """The command that kubectl is started with."""

    def images(self) -> Mapping[str, tuple[str, str]]:
        """Have both images in the cluster; return repository and tag of each by target."""
        ...

    def image_bytes(self) -> Mapping[str, int]:
        """Return the uncompressed size of each image by target, where it is known."""
        ...


def environment() -> Environment:
    """Return the first way to a cluster that there is, started.

    Raises:
        Unavailable: there is none.
    """
    if os.environ.get("KUBECONFIG"):
        return Given()
    lab = os.environ.get("WAVEKV_LAB")
    if lab:
        return Lab(Path(lab))
    if shutil.which("kind") and _succeeds("docker", "info"):
        return Kind()
    raise Unavailable("no cluster: set KUBECONFIG, or WAVEKV_LAB to a lab's folder, or install kind and start Docker")


class Given:
    """Whatever `KUBECONFIG` names."""

    name = "given"

    def __init__(self) -> None:
        self.kubeconfig = Path(os.environ["KUBECONFIG"])
        self.kubectl = (_kubectl(),)

    def images(self) -> Mapping[str, tuple[str, str]]:
        registry, tag = os.environ.get("WAVEKV_E2E_REGISTRY"), os.environ.get("WAVEKV_E2E_TAG")
        if not registry or not tag:
            raise Unavailable("with KUBECONFIG, push both images and name them: WAVEKV_E2E_REGISTRY and WAVEKV_E2E_TAG")
        return {target: (f"{registry}/wavekv-{target}", tag) for target in TARGETS}

    def image_bytes(self) -> Mapping[str, int]:
        return {}


class Lab:
    """A Kubernetes on this machine, run by scripts; needs root."""

    name = "lab"

    def __init__(self, folder: Path) -> None:
        self._folder = (folder if folder.is_absolute() else ROOT / folder).resolve()
        if not (self._folder / "up").exists():
            raise Unavailable(f"WAVEKV_LAB={folder} has no script named up")
        self.kubeconfig = Path(_run([str(self._folder / "up")], seconds=3600).strip().splitlines()[-1])
        found = shutil.which("kubectl")
        self.kubectl = (found,) if found else (str(self._folder / "exec"), "kubectl")
        self._archives: dict[str, Path] = {}

    def images(self) -> Mapping[str, tuple[str, str]]:
        tag = f"e2e-{content_digest()}"
        made: dict[str, tuple[str, str]] = {}
        for target in TARGETS:
            repository = f"localhost/wavekv-{target}"
            self._archives[target] = self._image(target, repository, tag)
            made[target] = (repository, tag)
        return made

    def image_bytes(self) -> Mapping[str, int]:
        return {target: archive.stat().st_size for target, archive in self._archives.items()}

    def _image(self, target: str, repository: str, tag: str) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavekv-lab" / "images"
        archive = cache / f"{repository}:{tag}.tar".replace("/", "_").replace(":", "_")
        if archive.exists():
            _run([str(self._folder / "load-image"), str(archive)], seconds=BUILD_SECONDS_MAX)
            return archive
        for stale in cache.glob(f"{repository.replace('/', '_')}_e2e-*.tar"):
            stale.unlink()  # every one is loaded when the lab starts
        command = [str(self._folder / "build-image"), str(ROOT), f"{repository}:{tag}"]
        flags = ["--build-arg", f"BASE_IMAGE={LAB_BASE_IMAGE}", "--target", target]
        _run([*command, *flags], seconds=BUILD_SECONDS_MAX)
        return archive


class Kind:
    """A kind cluster in Docker, kept for the next run."""

    name = "kind"

    def __init__(self) -> None:
        self.kubeconfig = ROOT / ".cache" / "e2e-kubeconfig"
        self.kubeconfig.parent.mkdir(exist_ok=True)
        self.kubectl = (_kubectl(),)
        if KIND_CLUSTER not in _run(["kind", "get", "clusters"], seconds=60).split():
            _run(["kind", "create", "cluster", "--name", KIND_CLUSTER, "--wait", "180s"], seconds=900)
        _run(["kind", "export", "kubeconfig", "--name", KIND_CLUSTER, "--kubeconfig", str(self.kubeconfig)], seconds=60)

    def images(self) -> Mapping[str, tuple[str, str]]:
        tag = f"e2e-{content_digest()}"
        for target in TARGETS:
            image = f"localhost/wavekv-{target}:{tag}"
            _run(
                ["docker", "build", "--quiet", "--target", target, "--tag", image, str(ROOT)], seconds=BUILD_SECONDS_MAX
            )
            _run(["kind", "load", "docker-image", image, "--name", KIND_CLUSTER], seconds=BUILD_SECONDS_MAX)
        return {target: (f"localhost/wavekv-{target}", tag) for target in TARGETS}

    def image_bytes(self) -> Mapping[str, int]:
        return {}


def content_digest() -> str:
    """Return a digest of everything that goes into the images."""
    digest = hashlib.sha256()
    for path in [ROOT / "Dockerfile", *ROOT.glob("requirements-*.lock"), *_sources()]:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _sources() -> list[Path]:
    folders = (ROOT / "sidecar" / "wavekv", ROOT / "operator" / "wavekv_operator")
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        raise Unavailable("kubectl is not on the path")
    return found


def _succeeds(*command: str) -> bool:
    return (
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60).returncode == 0
    )


def _run(command: Sequence[str], *, seconds: float) -> str:
    """Return what a command prints.

    Raises:
        Unavailable: it failed; with the end of what it said.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds, cwd=ROOT
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise Unavailable(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout
