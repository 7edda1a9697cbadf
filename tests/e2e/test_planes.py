"""Who may speak to a member, and what is scraped: TLS on the peer and admin planes, figures on the metrics port."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clusters import TLS, Cluster
from tests.e2e.conftest import SYSTEM
from tests.e2e.environments import ROOT
from tests.e2e.kubectl import Kubernetes

OWN = f"{TLS}/certificate.pem,{TLS}/key.pem"

# Asks one URL over TLS and prints the status and the problem's code, or how the handshake ended.
_ASK = """
import json, ssl, sys, urllib.error, urllib.request
url, files = sys.argv[1], sys.argv[2]
context = ssl.create_default_context(cafile="/etc/wavekv/tls/ca.crt")
if files:
    context.load_cert_chain(*files.split(","))
try:
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:
        print(json.dumps([answer.status, json.load(answer).get("phase")]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, json.load(error)["code"]]))
except (urllib.error.URLError, OSError) as error:
    print(json.dumps(["refused", str(error)]))
"""


def ask(demo: Cluster, path: str, certificate: str) -> list[object]:
    """Ask a member from the container of another one, which has the authority's certificate and its own."""
    url = f"https://demo-0.demo-peers.{demo.namespace}.svc:7072{path}"
    out = demo.kubernetes.in_pod(
        demo.namespace, demo.pod(1), "wavekv", "/opt/wavekv/bin/python", "-c", _ASK, url, certificate
    )
    answer: list[object] = json.loads(out)
    return answer


@pytest.mark.parametrize("path", ["/v1/admin/status", "/wavekv/sync2/persistent"])
def test_a_client_without_a_certificate_is_turned_away(demo: Cluster, path: str) -> None:
    answer = ask(demo, path, "")
    assert answer[0] == "refused", f"{answer}; with a certificate the same request is answered, as below"
    # After the handshake, as TLS 1.3 does it, and not because the member could not be reached.
    assert re.search(r"closed connection|certificate required|reset by peer", str(answer[1]), re.IGNORECASE), answer


def test_a_members_certificate_does_not_open_the_admin_plane(demo: Cluster) -> None:
    assert ask(demo, "/v1/admin/status", OWN) == [403, "wrong_role"]


def test_a_members_certificate_reads_no_token_of_another(demo: Cluster) -> None:
    assert ask(demo, "/v1/admin/certificate", OWN) == [403, "wrong_role"]


def test_a_members_certificate_opens_the_peer_plane(demo: Cluster) -> None:
    assert ask(demo, "/wavekv/sync2/persistent", OWN) == [405, "method_not_allowed"]


def test_the_data_plane_is_reached_from_no_other_pod(demo: Cluster) -> None:
    script = (
        "import socket, sys\n"
        "for port in (7070, 7071):\n"
        "    try:\n"
        "        socket.create_connection((sys.argv[1], port), 3)\n"
        "        print('open', port)\n"
        "    except OSError as error:\n"
        "        print('closed', port)\n"
    )
    host = f"demo-0.demo-peers.{demo.namespace}.svc"
    assert demo.run(1, "python", "-c", script, host).decode().split() == ["closed", "7070", "closed", "7071"]


def documented(heading: str) -> set[str]:
    """Return the families that docs/metrics.md lists for the member or the operator."""
    member, operator = Path(ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split("## The operator")
    listed = operator if heading == "operator" else member
    return set(re.findall(r"^\| `(wavekv_\w+)`", listed, re.MULTILINE))


def families(text: str) -> set[str]:
    """Return the families of a scrape by their documented names; parsing it is half of the test."""
    found = text_string_to_metric_families(text)
    return {family.name + ("_total" if family.type == "counter" else "") for family in found}


def test_a_members_scrape_has_the_documented_families(demo: Cluster, kubernetes: Kubernetes) -> None:
    path = f"/api/v1/namespaces/{demo.namespace}/pods/{demo.pod(0)}:7073/proxy/metrics"
    wanted = documented("member")
    assert len(wanted) > 20
    assert wanted <= families(kubernetes.run("get", "--raw", path))


def test_the_operators_scrape_has_the_documented_families(demo: Cluster, kubernetes: Kubernetes, operator: str) -> None:
    (pod,) = kubernetes.list("pod", SYSTEM, "app.kubernetes.io/name=wavekv-operator")
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
    wanted = documented("operator")
    assert len(wanted) >= 10
    found = families(kubernetes.run("get", "--raw", path))
    # A family without a sample yet is still announced; errors and deaf watches may have none.
    assert wanted <= found


def test_certificates_of_another_authority_are_served_without_a_restart(demo: Cluster, kubernetes: Kubernetes) -> None:
    """The authority is lost: members trust the next one once the kubelet has brought it, and are enrolled anew."""
    before, restarts = {i: demo.certificate(i).serial_number for i in range(3)}, [demo.restarts(i) for i in range(3)]
    demo.put(0, "before/renewal", "yes")
    kubernetes.run("delete", "secret", "demo-ca", "-n", demo.namespace)
    kubernetes.eventually(
        lambda: all(demo.certificate(i).serial_number != before[i] for i in range(3)),
        300,
        "all have other certificates",
    )
    demo.wait_settled(3)
    assert [demo.restarts(i) for i in range(3)] == restarts
    demo.put(0, "after/renewal", "yes")
    demo.wait_value(2, "after/renewal", "yes")
    demo.wait_value(2, "before/renewal", "yes")
