"""Members as an operator runs them: mutual TLS, a membership document, and its admin requests.

Member `11` listens on 127.0.0.11 and so on, all on one port, so that one `peer_url` finds them as a headless service
would.
"""

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually, free_ports
from tests.pki import Authority, Leaf


class GovernedCluster(Cluster):
    """Members `11`, `12`, … of epoch 1, none started; `spare` more of them are not in it."""

    def __init__(self, count: int, folder: Path, spare: int = 0) -> None:
        super().__init__(count + spare, folder)
        self.authority = Authority(folder / "pki")
        self.cluster_id = self[0].cluster_id
        self.operator = self.authority.issue("operator", self.cluster_id, role="operator")
        (self.port,) = free_ports(1)
        self.file = folder / "membership.json"
        for index, member in enumerate(self.members):
            member.name = str(11 + index)
            member.peers, member.peer = {}, self.port
            member.peer_flags = self.issue(member.name).flags()
            member.extra_args = ("--membership", str(self.file), "--peer-listen", f"127.0.0.{member.name}:{self.port}")
        self.names = [member.name for member in self.members]
        self.publish(self.document(1, self.names[:count], bootstrap=True))

    def issue(self, name: str, authority: Authority | None = None) -> Leaf:
        """Return a member's certificate for its address."""
        return (authority or self.authority).issue(name, self.cluster_id, addresses=(f"127.0.0.{name}",))

    def document(
        self, epoch: int, names: Sequence[str], *, admitted: Mapping[str, int] | None = None, **fields: object
    ) -> dict[str, Any]:
        """Return a signed membership document; who is not in `admitted` was admitted in epoch 1."""
        content = {
            "cluster_id": self.cluster_id,
            "epoch": epoch,
            "bootstrap": False,
            "members": list(names),
            "admitted": dict.fromkeys(names, 1) | dict(admitted or {}),
            "peer_url": f"https://127.0.0.{{name}}:{self.port}",
            **fields,
        }
        return self.authority.sign_document(content)

    def publish(self, document: Mapping[str, Any]) -> None:
        """Make `document` what a starting member finds."""
        self.file.write_text(json.dumps(document))

    def ask(
        self,
        member: MemberProcess,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        leaf: Leaf | None = None,
        ca: Path | None = None,
        verified: bool = True,
    ) -> Answer:
        """Send a request to a member's peer plane, as the operator unless `leaf` is given.

        Not `verified`: whatever certificate the member shows.
        """
        context = ssl.create_default_context(cafile=str(ca or self.authority.file))
        if not verified:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        shown = leaf or self.operator
        context.load_cert_chain(shown.cert, shown.key)
        connection = http.client.HTTPSConnection(f"127.0.0.{member.name}", self.port, timeout=15, context=context)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def push(self, member: MemberProcess, document: Mapping[str, Any], *, override: bool = False) -> Answer:
        """Push a document to one member."""
        query = "?override=true" if override else ""
        return self.ask(member, "PUT", f"/v1/admin/membership{query}", json.dumps(document).encode())

    def govern(self, document: Mapping[str, Any]) -> None:
        """Do as an operator: publish the document, and push it to all that run."""
        self.publish(document)
        for member in self.members:
            if member.running:
                answer = self.push(member, document)
                assert (answer.status, answer.json()) == (200, {"epoch": document["epoch"]}), answer

    def drain(self, member: MemberProcess, method: str = "GET") -> dict[str, Any]:
        """Return the drain status that the request answers."""
        answer = self.ask(member, method, "/v1/admin/drain")
        assert answer.status == 200, answer
        status: dict[str, Any] = answer.json()
        return status

    def wait_phase(self, member: MemberProcess, phase: str, deadline: float = 20) -> None:
        eventually(lambda: member.status()["phase"] == phase, deadline, f"{member.name} says {phase}")

    def start_members(self, *members: MemberProcess) -> Self:
        """Start the given members and wait until each is ready."""
        for member in members:
            member.start()
        for member in members:
            member.wait_ready()
        return self
