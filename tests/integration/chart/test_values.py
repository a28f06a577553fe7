"""The values of the chart: their names, their defaults, and the errors for wrong ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.chart import CHART, KUBERNETES, find_object, helm, render

from phjob_runtime.settings import PRIMEHUB_NAMES, PRIMEHUB_ONLY, ServiceSettings, SettingsFile

SETTINGS_SCHEMA = SettingsFile.model_json_schema(by_alias=True)
SECTIONS = {"jobSubmission": "JobSubmission", "logArchive": "LogArchive"}
OF_PARENT_CHARTS = {"global", "enabled"}
"""The values that a chart around this one sets. This chart does not read them."""
sections = pytest.mark.parametrize(("section", "model"), SECTIONS.items())


def error_of(*args: str) -> str:
    """Return the error of helm for values that it rejects."""
    done = helm("template", "phjob", str(CHART), f"--kube-version={KUBERNETES}", *args)
    assert done.returncode != 0
    return done.stderr


def test_helm_lint_finds_nothing() -> None:
    """Warnings count as errors."""
    done = helm("lint", "--strict", str(CHART), f"--kube-version={KUBERNETES}")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_a_cluster_that_is_too_old_is_rejected() -> None:
    """Before Kubernetes 1.31, custom resources have no selectable fields."""
    assert "requires kubeVersion: >=1.31" in error_of("--kube-version=1.30.0")


@sections
def test_every_setting_of_the_services_is_a_value_with_the_same_default(section: str, model: str) -> None:
    """Otherwise values.yaml would show a default that a service without the setting does not use."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())[section]
    defaults = {key: field["default"] for key, field in SETTINGS_SCHEMA["$defs"][model]["properties"].items()}
    assert values == defaults


@sections
def test_the_schema_has_every_setting_and_no_other(section: str, model: str) -> None:
    """Otherwise helm would reject a new setting."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"][section]
    of_primehub = {*PRIMEHUB_NAMES, *PRIMEHUB_ONLY} if section == "jobSubmission" else set()
    assert set(schema["properties"]) == set(SETTINGS_SCHEMA["$defs"][model]["properties"]) | of_primehub
    assert schema["additionalProperties"] is False


def test_every_value_is_in_the_schema() -> None:
    """At the top level, helm rejects any other value."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == {*values, *OF_PARENT_CHARTS}


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
        (
            "identity.userNamePrefix=oidc:,identity.userName=request.userInfo.uid",
            "identity.userName and identity.userNamePrefix are both set: set one of them",
        ),
        ("services.watcher.replicas=two", "at '/services/watcher/replicas': got string, want integer"),
        ("service.watcher.replicas=2", "additional properties 'service' not allowed"),
        ("logLevel=verbose", "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("rabbitmq.install=false", "at '/broker/secret': minLength: got 0, want 1"),
        ("jobNamespace=Hub", "at '/jobNamespace': 'Hub' does not match pattern"),
        ("jobSubmission.maxCommandBytes=262145", "'/jobSubmission/maxCommandBytes': maximum: got 262,145"),
        (
            "jobSubmission.reservedNames={Hub_*}",
            "at '/jobSubmission/reservedNames/0': 'Hub_*' does not match",
        ),
        ("jobQuota.jobs=0", "at '/jobQuota/jobs': minimum: got 0, want 1"),
    ],
)
def test_the_error_for_a_wrong_value_names_it(value: str, message: str) -> None:
    """Helm checks the values before it installs anything."""
    assert message in error_of("--set", value)


def test_the_services_read_the_values_that_the_chart_has_rendered(tmp_path: Path) -> None:
    """Helm would render large numbers in scientific notation, which is no integer."""
    values = {
        "jobSubmission": {"defaultTTLSecondsAfterFinished": 2147483647, "tolerations": [{"key": "jobs"}]},
        "logArchive": {"url": "s3://logs/phjob", "maxBytes": 5 * 1024**3},
    }
    chosen, file = tmp_path / "values.yaml", tmp_path / "settings.yaml"
    chosen.write_text(yaml.safe_dump(values))
    rendered = render(f"--values={chosen}")
    file.write_text(find_object(rendered, "ConfigMap", "phjob-settings")["data"]["settings.yaml"])
    settings = ServiceSettings(settings_file=file).file()
    jobs, archive = settings.job_submission, settings.log_archive
    assert jobs.default_ttl_seconds_after_finished == 2147483647
    assert jobs.tolerations == ({"key": "jobs"},)
    assert jobs.preparing_timeout_seconds == 180
    assert (archive.url, archive.max_bytes) == ("s3://logs/phjob", 5 * 1024**3)


def settings_of(tmp_path: Path, *args: str) -> dict[str, Any]:
    """Return the settings file that the chart renders, as a mapping."""
    rendered = render(*args)
    text = find_object(rendered, "ConfigMap", "phjob-settings")["data"]["settings.yaml"]
    settings: dict[str, Any] = yaml.safe_load(text)["jobSubmission"]
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert ServiceSettings(settings_file=file).file()
    return settings


def test_primehubs_values_are_accepted_and_its_secrets_do_not_get_into_a_configmap(tmp_path: Path) -> None:
    """Its names replace the chart's defaults. Its settings for other parts are left out (spec.md, S5)."""
    mail = "jobSubmission.smtp.enabled=true,jobSubmission.smtp.password=hunter2"
    history = "jobSubmission.jobTTLSeconds=60,jobSubmission.jobLimit=7"
    settings = settings_of(tmp_path, f"--set={mail},{history},jobSubmission.artifact.enabled=true")
    assert (settings["jobTTLSeconds"], settings["jobLimit"]) == (60, 7)
    assert not {"smtp", "artifact", "historyTTLSeconds", "historyLimit"} & settings.keys()


def test_two_names_of_one_setting_are_accepted_only_with_one_value(tmp_path: Path) -> None:
    """Helm names both (spec.md, S6)."""
    same = "--set=jobSubmission.jobLimit=7,jobSubmission.historyLimit=7"
    assert settings_of(tmp_path, same)["jobLimit"] == 7
    message = (
        "jobSubmission.jobLimit and jobSubmission.historyLimit are the same setting: give one of the two"
    )
    assert message in error_of("--set", "jobSubmission.jobLimit=7,jobSubmission.historyLimit=8")
