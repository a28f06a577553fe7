"""docs/operate.md: the values that keep node autoscalers away from running jobs reach every job's pod."""

import re
from pathlib import Path

import yaml
from tests.fakes.pod_cases import a_phjob, an_image, an_instance_type
from tests.support.chart import render

from phjob_pod_manager.manifest.builder import PodInputs, build
from phjob_runtime.settings import SettingsFile

PAGE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
SECTION = PAGE.partition("### Keep node autoscalers away from running jobs\n")[2].partition("\n## ")[0]


def test_the_documented_values_annotate_the_pod_of_every_job(tmp_path: Path) -> None:
    """Through the chart, the settings file, and pod-manager (spec.md, P2)."""
    (snippet,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    values = tmp_path / "values.yaml"
    values.write_text(snippet)
    maps = [item for item in render("--values", str(values)) if item["kind"] == "ConfigMap"]
    (settings,) = (text for item in maps for text in item["data"].values() if "jobSubmission" in text)
    file = SettingsFile.model_validate(yaml.safe_load(settings))
    pod = build(a_phjob(), PodInputs(an_image(), an_instance_type()), file.job_submission)
    annotations = pod["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
