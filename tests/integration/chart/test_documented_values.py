"""docs/operate.md: the values about other programs of the cluster reach every job's pod."""

import re
from pathlib import Path

import pytest
import yaml
from tests.fakes.pod_cases import a_phjob, an_image, an_instance_type
from tests.support.chart import render

from phjob_pod_manager.manifest.builder import PodInputs, build
from phjob_runtime.settings import SettingsFile

PAGE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
AUTOSCALERS = "### Keep node autoscalers away from running jobs\n"
INJECTED = "## Containers that others inject\n"


@pytest.mark.parametrize(
    ("heading", "labels", "annotations"),
    [
        (
            AUTOSCALERS,
            {},
            {
                "karpenter.sh/do-not-disrupt": "true",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
        ),
        (INJECTED, {"sidecar.istio.io/inject": "false"}, {"linkerd.io/inject": "disabled"}),
    ],
    ids=["autoscalers", "injected containers"],
)
def test_the_documented_values_are_in_the_metadata_of_every_pod(
    tmp_path: Path, heading: str, labels: dict[str, str], annotations: dict[str, str]
) -> None:
    """Through the chart, the settings file, and pod-manager (spec.md, P2)."""
    section = PAGE.partition(heading)[2].partition("\n## ")[0]
    (snippet,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    values = tmp_path / "values.yaml"
    values.write_text(snippet)
    maps = [item for item in render("--values", str(values)) if item["kind"] == "ConfigMap"]
    (settings,) = (text for item in maps for text in item["data"].values() if "jobSubmission" in text)
    file = SettingsFile.model_validate(yaml.safe_load(settings))
    metadata = build(a_phjob(), PodInputs(an_image(), an_instance_type()), file.job_submission)["metadata"]
    assert labels.items() <= metadata["labels"].items()
    assert annotations.items() <= metadata["annotations"].items()
