"""The chart's values: PrimeHub's names, the product's defaults, and an answer to what is wrong."""

import json
from pathlib import Path

import pytest
import yaml
from tests.support.chart import CHART, KUBERNETES, helm, one, render, said

from shared.settings import File, ServiceSettings

MODEL = File.model_json_schema(by_alias=True)
SECTIONS = {"jobSubmission": "JobSubmission", "logArchive": "LogArchive"}
sections = pytest.mark.parametrize(("section", "model"), SECTIONS.items())


def refusal(*args: str) -> str:
    """What helm says to values that are refused."""
    done = helm("template", "phjob", str(CHART), f"--kube-version={KUBERNETES}", *args)
    assert done.returncode != 0
    return said(done)


def test_lint_finds_nothing() -> None:
    """With warnings as errors."""
    done = helm("lint", "--strict", str(CHART), f"--kube-version={KUBERNETES}")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_a_cluster_that_is_too_old_is_refused() -> None:
    """It has no selectable fields."""
    assert "requires kubeVersion: >=1.31" in refusal("--kube-version=1.30.0")


@sections
def test_every_setting_of_the_services_is_a_value_with_the_same_default(section: str, model: str) -> None:
    """What an operator reads in values.yaml is what the services do when told nothing."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())[section]
    defaults = {key: field["default"] for key, field in MODEL["$defs"][model]["properties"].items()}
    assert values == defaults


@sections
def test_the_schema_knows_every_setting_and_no_other(section: str, model: str) -> None:
    """A new setting is not forgotten there."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"][section]
    assert set(schema["properties"]) == set(MODEL["$defs"][model]["properties"])
    assert schema["additionalProperties"] is False


def test_every_value_is_in_the_schema() -> None:
    """At the top level, where nothing else is taken."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == {*values, "global"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "jobSubmission.defaultTTL=60",
            "at '/jobSubmission': additional properties 'defaultTTL' not allowed",
        ),
        ("jobSubmission.workingDirSize=lots", "at '/jobSubmission/workingDirSize': 'lots' does not match"),
        (
            "jobSubmission.preparingTimeoutSeconds=0",
            "'/jobSubmission/preparingTimeoutSeconds': minimum: got 0",
        ),
        ("shards=0", "at '/shards': minimum: got 0, want 1"),
        ("services.watcher.replicas=two", "at '/services/watcher/replicas': got string, want integer"),
        ("service.watcher.replicas=2", "additional properties 'service' not allowed"),
        ("logLevel=verbose", "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("rabbitmq.install=false", "at '/broker/secret': minLength: got 0, want 1"),
        ("jobNamespace=Hub", "at '/jobNamespace': 'Hub' does not match pattern"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, message: str) -> None:
    """Before anything is installed."""
    assert message in refusal("--set", value)


def test_the_services_read_the_settings_file_as_it_was_meant(tmp_path: Path) -> None:
    """Through Helm's own rendering of numbers, with the services' own reader."""
    values = {
        "jobSubmission": {"defaultTTLSecondsAfterFinished": 2147483647, "tolerations": [{"key": "jobs"}]},
        "logArchive": {"url": "s3://logs/phjob", "maxBytes": 5 * 1024**3},
    }
    chosen, file = tmp_path / "values.yaml", tmp_path / "settings.yaml"
    chosen.write_text(yaml.safe_dump(values))
    rendered = render(f"--values={chosen}")
    file.write_text(one(rendered, "ConfigMap", "phjob-settings")["data"]["settings.yaml"])
    settings = ServiceSettings(settings_file=file).file()
    jobs, archive = settings.job_submission, settings.log_archive
    assert jobs.default_ttl_seconds_after_finished == 2147483647
    assert jobs.tolerations == ({"key": "jobs"},)
    assert jobs.preparing_timeout_seconds == 180
    assert (archive.url, archive.max_bytes) == ("s3://logs/phjob", 5 * 1024**3)
