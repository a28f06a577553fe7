"""The chart as tools get it: packaged, from any checkout, in another chart, and without a cluster."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.chart import CHART, KUBERNETES, Object, find_object, helm, of_kind

CRDS = {"dataset.yaml", "image.yaml", "instancetype.yaml", "phgroup.yaml", "phjob.yaml"}
KEPT_SECRETS = "broker.secret=ours,rabbitmq.tls.secret=our-certificate"
"""Without a cluster, the chart would make new passwords at each rendering."""


def render_folder(chart: Path, *args: str) -> list[Object]:
    """Render a chart for the namespace hub. Returns all objects, with the CRDs."""
    fixed = ("template", "phjob", str(chart), "--namespace=hub", "--include-crds")
    done = helm(*fixed, f"--kube-version={KUBERNETES}", *args)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def in_an_umbrella(folder: Path, values: dict[str, Any]) -> Path:
    """Write a chart that has this one as a dependency with a condition. Returns its folder."""
    chart = folder / "umbrella"
    shutil.copytree(CHART, chart / "charts" / "phjob")
    dependency = {"name": "phjob", "version": "0.1.0", "condition": "phjob.enabled"}
    metadata = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": [dependency]}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    return chart


def test_the_chart_has_no_symbolic_links() -> None:
    """Flux leaves them out of its artifacts, and a checkout on Windows has text files instead."""
    assert not [path for path in CHART.rglob("*") if path.is_symlink()]
    assert {file.name for file in (CHART / "crds").iterdir()} == CRDS


def test_a_package_has_the_crds_the_alerts_and_the_dashboards(tmp_path: Path) -> None:
    """It is complete without the rest of this repository, and renders the same objects."""
    done = helm("package", str(CHART), f"--destination={tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    names = {member.name.removeprefix("phjob/") for member in members}
    assert {f"crds/{name}" for name in CRDS} | {"monitoring/rules/phjob.yaml"} <= names
    assert len([name for name in names if name.startswith("monitoring/dashboards/")]) == 3
    assert not [name for name in names if name.startswith("monitoring/tests/")]
    kept = f"--set={KEPT_SECRETS}"
    assert render_folder(package, kept) == render_folder(CHART, kept)


def test_a_checkout_with_the_line_ends_of_windows_renders_the_same_objects(tmp_path: Path) -> None:
    """Only the text of a dashboard, which is JSON, has other line ends."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    for file in chart.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    def without_dashboards(objects: list[Object]) -> list[Object]:
        return [item for item in objects if "-dashboard-" not in item["metadata"]["name"]]

    kept = f"--set={KEPT_SECRETS}"
    assert without_dashboards(render_folder(chart, kept)) == without_dashboards(render_folder(CHART, kept))


def test_rendering_twice_without_a_cluster_gives_the_same_objects() -> None:
    """Otherwise a GitOps tool would apply a difference at each reconciliation, and restart RabbitMQ."""
    kept = f"--set={KEPT_SECRETS}"
    assert render_folder(CHART, kept) == render_folder(CHART, kept)


@pytest.mark.parametrize("enabled", [True, False])
def test_another_chart_switches_it_on_and_off(tmp_path: Path, *, enabled: bool) -> None:
    """The condition is a value of this chart, and `global` reaches it. The CRDs are installed with it."""
    values = {"global": {"imageRegistry": "registry.example.com"}, "phjob": {"enabled": enabled}}
    objects = render_folder(in_an_umbrella(tmp_path, values))
    assert len(list(of_kind(objects, "Deployment"))) == (4 if enabled else 0)
    assert len(list(of_kind(objects, "CustomResourceDefinition"))) == (len(CRDS) if enabled else 0)


def test_another_chart_takes_ids_away(tmp_path: Path) -> None:
    """Null in its values removes a default of this chart, as on OpenShift."""
    ids = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    values = {"phjob": {"podSecurityContext": ids, "rabbitmq": {"podSecurityContext": ids}}}
    objects = render_folder(in_an_umbrella(tmp_path, values))
    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "StatefulSet")):
        context = workload["spec"]["template"]["spec"]["securityContext"]
        assert not [name for name in ids if context.get(name) is not None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("", "phjob"),
        ("nameOverride=queue", "phjob-queue"),
        ("nameOverride=job", "phjob"),
        ("fullnameOverride=jobs", "jobs"),
        ("nameOverride=queue,fullnameOverride=jobs", "jobs"),
    ],
)
def test_the_names_of_all_objects_begin_alike(values: str, expected: str) -> None:
    """Helm's own convention for `nameOverride` and `fullnameOverride`; the release is named phjob."""
    objects = render_folder(CHART, *([f"--set={values}"] if values else []))
    for item in objects:
        if item["kind"] == "CustomResourceDefinition":
            continue
        name = item["metadata"]["name"]
        assert name.startswith((f"{expected}-", f"hub-{expected}-")) or name == expected
    role = find_object(objects, "Role", f"{expected}-watcher")
    leases = [rule.get("resourceNames") for rule in role["rules"] if "leases" in rule["resources"]]
    assert leases == [None, ["phjob-watcher"]]


def test_an_image_is_named_by_its_digest() -> None:
    """A tag may move."""
    digest = f"sha256:{'0' * 64}"
    objects = render_folder(CHART, f"--set=image.digest={digest},rabbitmq.image.digest={digest}")
    (broker,) = of_kind(objects, "StatefulSet")
    containers = [broker["spec"]["template"]["spec"]["containers"][0]]
    assert [container["image"] for container in containers] == [f"rabbitmq@{digest}"]
    for deployment in of_kind(objects, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"phjob@{digest}"
