import pytest

from phjob_core.resource import Resource


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (Resource("pods"), "/api/v1/namespaces/hub/pods/x/log"),
        (
            Resource("phjobs", "primehub.io", "v1alpha1"),
            "/apis/primehub.io/v1alpha1/namespaces/hub/phjobs/x/log",
        ),
        (Resource("nodes", namespaced=False), "/api/v1/nodes/x/log"),
    ],
)
def test_a_path_has_the_group_the_namespace_and_the_name_where_they_apply(
    resource: Resource, path: str
) -> None:
    """Core resources are below `/api`, all others below `/apis` and their group."""
    assert resource.path("hub", "x", "log") == path


def test_the_path_of_all_objects_has_no_name() -> None:
    """A LIST and a creation use it."""
    assert Resource("pods").path("hub") == "/api/v1/namespaces/hub/pods"


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("../secrets/x", "..%2Fsecrets%2Fx"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a?watch=true#b", "a%3Fwatch%3Dtrue%23b"),
        ("%2e%2e", "%252e%252e"),
        ("caf\u00e9\x00", "caf%C3%A9%00"),
        ("job.1-a_b~", "job.1-a_b~"),
    ],
)
def test_a_name_is_one_segment_of_the_path(name: str, segment: str) -> None:
    """Without this, it could be the path of another object."""
    assert Resource("datasets").path("hub", name) == f"/api/v1/namespaces/hub/datasets/{segment}"
