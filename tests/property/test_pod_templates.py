"""Whatever a pod template says, it is built or refused by path; and what is built has nothing that is not allowed."""

from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from wavekv_operator import names
from wavekv_operator.crd import crd
from wavekv_operator.errors import InvalidSpec
from wavekv_operator.resources.pod import pod_template
from wavekv_operator.resources.template_checks import check_template
from wavekv_operator.spec import read_cluster

Json = Any
SECRETS = ("mine", "demo-ca", "other-operator-tls", "x-member-tls")
CLAIMS = ("mine", "wavekv-data-demo-0")
WORDS = (
    *SECRETS,
    *CLAIMS,
    "wavekv-tls",
    "wavekv-data",
    "v",
    "Unconfined",
    "spc_t",
    "../x",
    "/run/wavekv",
    "",
    "NET_ADMIN",
)
KEYS = ("spec", "metadata", "volumes", "containers", "name", "securityContext", "ports")
FORBIDDEN = {
    *("hostPath", "nfs", "iscsi", "csi", "flexVolume", "cephfs", "rbd", "hostPort", "hostIP", "nodeName"),
    *("ephemeralContainers", "dataSource", "dataSourceRef", "volumeName", "podCertificate", "host", "hostNetwork"),
}
"""Fields that no template has that was let through; with a value that counts for something."""


def template_schema() -> Json:
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root["properties"]["spec"]["properties"]["template"]["properties"]["spec"]


def of_schema(schema: Json, depth: int) -> st.SearchStrategy[Json]:
    """Return values that fit a part of the schema, with a field now and then that does not."""
    kind = schema.get("type")
    if kind == "object" and depth and "properties" in schema:
        fields = {name: of_schema(inner, depth - 1) for name, inner in schema["properties"].items()}
        needed = {name: fields[name] for name in schema.get("required", ())}
        chosen = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
        known = chosen.flatmap(
            lambda picked: st.fixed_dictionaries({**needed, **{name: fields[name] for name in picked}})
        )
        strange = st.tuples(known, st.sampled_from(["somethingNew", "ephemeralContainers"])).map(
            lambda pair: {**pair[0], pair[1]: [{}]}
        )
        return st.one_of(known, known, known, known, known, strange)
    if kind == "array" and depth:
        return st.lists(of_schema(schema["items"], depth - 1), max_size=2)
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.sampled_from([0, 1, 7070, 7072, 8080])
    if kind in {"object", "array"}:
        return st.just({} if kind == "object" else [])
    return st.sampled_from(schema.get("enum") or WORDS)


CONTAINER = st.fixed_dictionaries({"name": st.sampled_from(["app", "wavekv"]), "image": st.just("app:1")})


def specs() -> st.SearchStrategy[Json]:
    schema = template_schema()

    def with_container(pair: tuple[Json, list[Json]]) -> Json:
        spec, containers = pair
        return {**spec, "containers": spec.get("containers") or containers}

    return st.tuples(of_schema(schema, 6), st.lists(CONTAINER, min_size=1, max_size=2)).map(with_container)


def refusal(template: Json, *, allow_unsafe: bool) -> str | None:
    """Return the path at which a template is refused, None if it is not."""
    try:
        check_template(template, allow_unsafe=allow_unsafe)
    except InvalidSpec as refused:
        return refused.path if refused.reason == "TemplateRefused" else f"with reason {refused.reason}"
    return None


def fields(value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from fields(inner)
    elif isinstance(value, list):
        for item in value:
            yield from fields(item)


@settings(max_examples=150, deadline=None)
@given(specs())
@example({"containers": [{"name": "app", "image": "a"}]})
def test_a_template_is_refused_by_path_or_has_nothing_that_is_not_allowed(spec: Json) -> None:
    path = refusal({"spec": spec}, allow_unsafe=False)
    if path is not None:
        assert path.startswith("spec.template.spec.")
        return
    for key, value in fields(spec):
        assert key not in FORBIDDEN or not value, (key, value)
    for key, value in fields(spec):
        if key in {"volumes", "volumeMounts", "volumeDevices"}:
            assert not [item for item in value or () if str(item.get("name", "")).startswith(names.RESERVED_PREFIX)]
        if key == "secretName":
            assert not names.is_reserved_secret(str(value))
        if key == "claimName":
            assert not names.is_reserved_claim(str(value))
    metadata = {"name": "demo", "namespace": "shop", "uid": "u-1"}
    cluster = read_cluster({"metadata": metadata, "spec": {"template": {"spec": spec}}})
    built = pod_template(cluster, "wavekv:1", None)["spec"]
    assert built["initContainers"][0]["name"] == names.CONTAINER


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(SHAPES)
def test_values_of_any_shape_are_refused_by_path_or_pass(value: Json) -> None:
    for allow_unsafe in (False, True):
        path = refusal({"spec": value}, allow_unsafe=allow_unsafe)
        if path is None:
            assert value is None or isinstance(value, dict)
        else:
            assert path.startswith("spec.template")
