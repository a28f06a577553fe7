"""docs/errors.md: each row about the scheduler and the services, compared with their real messages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import NAMESPACE, Cluster

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
CATALOG = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]  # type: ignore[index]
COMMON = {
    "command": "true",
    "userName": "bob",
    "groupName": "small",
    "image": "base-notebook",
    "instanceType": "cpu-tiny",
}


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    table = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.fixture(scope="module")
def catalog(kwok_stack: Any) -> Iterator[None]:
    """Apply the objects that the page requires, and delete them afterwards."""
    examples = [argument for n in range(1, 6) for argument in ("-f", str(*_example(n)))]
    kwok_stack.kubectl("apply", *examples)
    kwok_stack.kubectl("apply", "-f", "-", given=CATALOG)
    yield
    kwok_stack.kubectl("delete", *examples)
    kwok_stack.kubectl("delete", "-f", "-", given=CATALOG)


def _example(number: int) -> list[Path]:
    return list((ROOT / "k8s" / "examples").glob(f"{number:02}-*.yaml"))


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize(("field", "reason", "message"), rows("The job's field"))
def test_a_job_that_can_never_run_has_the_reason_and_message_of_the_page(
    cluster: Cluster, field: str, reason: str, message: str
) -> None:
    """The job is otherwise possible."""
    spec = {**COMMON, **yaml.safe_load("{" + field.strip("`") + "}")}
    name = cluster.unique_name("job")
    job = {
        "apiVersion": "primehub.io/v1alpha1",
        "kind": "PhJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
    cluster.create(job)
    status = cluster.wait_for_phase(name, "Failed")
    assert (status["reason"], status["message"]) == (reason, message)


@pytest.mark.parametrize(("setting", "line"), rows("Setting"))
def test_a_service_with_a_bad_setting_writes_the_line_of_the_page(
    tmp_path: Path, setting: str, line: str
) -> None:
    """It exits with code 2, and without a traceback."""
    content = re.search(r"`(.*)`", setting)[1]  # type: ignore[index]
    file = tmp_path / "settings.yaml"
    if setting.startswith("a file with"):
        file.write_text(content)
        content = f"SETTINGS_FILE={file}"
    name, _, value = content.partition("=")
    # Only pod-manager opens the archive.
    service = "phjob_pod_manager" if "logArchive" in setting else "phjob_janitor"
    done = subprocess.run(
        [sys.executable, "-m", service],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == line.strip("`").replace("FILE", str(file))
