"""kubectl and helm as the tests use them: every wait has a deadline and says what it waited for and what was there."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tests.e2e.environments import ROOT, Environment

Object = dict[str, Any]

COMMAND_SECONDS_MAX = 180
_POLL_SECONDS = 0.5
_EXCERPT_CHARACTERS = 6000


class CommandFailed(AssertionError):
    """A command ended with an error; `said` is what it printed."""

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"{' '.join(command)} ended with {code}: {said.strip()[-2000:]}")
        self.said = said


class Unmet(AssertionError):
    """A condition did not come true before its deadline."""


class Kubernetes:
    """One cluster as seen by an administrator."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._variables = {**os.environ, "KUBECONFIG": str(environment.kubeconfig)}

    # ---- commands ----------------------------------------------------------------------------------------------

    def run(self, *arguments: str, stdin: str | bytes | None = None, seconds: float = COMMAND_SECONDS_MAX) -> str:
        """Return what `kubectl ARGUMENTS` prints. Raises CommandFailed."""
        return self.run_bytes(*arguments, stdin=stdin, seconds=seconds).decode(errors="replace")

    def run_bytes(
        self, *arguments: str, stdin: str | bytes | None = None, seconds: float = COMMAND_SECONDS_MAX
    ) -> bytes:
        """Return what `kubectl ARGUMENTS` prints, undecoded. Raises CommandFailed."""
        return self._execute([*self.environment.kubectl, *arguments], stdin, seconds)

    def helm(self, *arguments: str) -> str:
        """Return what the pinned Helm prints. Raises CommandFailed."""
        return self._execute([str(ROOT / ".ci" / "helm"), *arguments], None, 900).decode(errors="replace")

    def _execute(self, command: Sequence[str], stdin: str | bytes | None, seconds: float) -> bytes:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            command,
            input=given or b"",
            capture_output=True,
            check=False,
            timeout=seconds,
            env=self._variables,
            cwd=ROOT,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace")
            raise CommandFailed(command, done.returncode, said)
        return done.stdout

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """Run what has to fail and return what it said."""
        try:
            out = self.run(*arguments, stdin=stdin)
        except CommandFailed as error:
            return error.said
        raise AssertionError(f"kubectl {' '.join(arguments)} was not refused: {out}")

    # ---- objects -----------------------------------------------------------------------------------------------

    def apply(self, *manifests: Object) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.run("apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object, None if it is not there."""
        scope = ("-n", namespace) if namespace else ()
        try:
            found: Object = json.loads(self.run("get", kind, name, *scope, "-o", "json"))
        except CommandFailed as error:
            if "NotFound" in error.said or "not found" in error.said:
                return None
            raise
        return found

    def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        """Return objects by label, without a namespace those of all."""
        scope = ("-n", namespace) if namespace else ("--all-namespaces",)
        flags = ("-l", selector) if selector else ()
        found: list[Object] = json.loads(self.run("get", kind, *scope, *flags, "-o", "json"))["items"]
        return found

    def make_namespace(self, name: str) -> str:
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def in_pod(
        self, namespace: str, pod: str, container: str, *command: str, stdin: str | bytes | None = None
    ) -> bytes:
        """Return what a command in a container prints. Raises CommandFailed."""
        flags = ("-i",) if stdin is not None else ()
        return self.run_bytes("exec", "-n", namespace, pod, *flags, "-c", container, "--", *command, stdin=stdin)

    # ---- waiting -----------------------------------------------------------------------------------------------

    def eventually(self, condition: Callable[[], Any], deadline: float, what: str) -> Any:
        """Return the first true value of `condition`; a failing command or assertion is not yet one. Raises Unmet."""
        ends, last = time.monotonic() + deadline, None
        while True:
            try:
                last = condition()
                if last:
                    return last
            except (AssertionError, subprocess.TimeoutExpired) as error:
                last = error
            if time.monotonic() > ends:
                raise Unmet(f"not within {deadline} s: {what}; last seen: {str(last)[:1500]}")
            time.sleep(_POLL_SECONDS)

    # ---- when something failed -----------------------------------------------------------------------------------

    def diagnosis(self, namespaces: Sequence[str]) -> str:
        """Return what a person would look at, within bounds."""
        parts: list[str] = []
        for namespace in namespaces:
            for command in (
                ("get", "wkv,statefulset,pod,pvc", "-n", namespace, "-o", "wide"),
                (
                    "get",
                    "wkv",
                    "-n",
                    namespace,
                    "-o",
                    "jsonpath={range .items[*]}{.metadata.name} {.status}{'\\n'}{end}",
                ),
                ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
                ("logs", "-n", namespace, "-l", "wavekv.io/cluster", "-c", "wavekv", "--tail=25", "--prefix"),
                ("logs", "-n", namespace, "-l", "app.kubernetes.io/name=wavekv-operator", "--tail=60"),
            ):
                with suppress(CommandFailed, subprocess.TimeoutExpired):
                    parts.append(
                        f"$ kubectl {' '.join(command)}\n{self.run(*command, seconds=30)[-_EXCERPT_CHARACTERS:]}"
                    )
        return "\n".join(parts)


def condition(manifest: Mapping[str, Any] | None, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; empty where there is none."""
    listed = ((manifest or {}).get("status") or {}).get("conditions") or ()
    found = next((item for item in listed if item["type"] == kind), None)
    return (found["status"], found.get("reason", ""), found.get("message", "")) if found else ("", "", "")
