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
