from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import JobSubmission, ServiceSettings


def read(tmp_path: Path, content: str) -> JobSubmission:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    return ServiceSettings(settings_file=file).file().job_submission


def test_without_a_file_primehubs_defaults_hold() -> None:
    """Seed: one day, seven days, three minutes, 5 Gi."""
    settings = ServiceSettings().file().job_submission
    assert settings.default_active_deadline_seconds == 86400
    assert settings.default_ttl_seconds_after_finished == 604800
    assert settings.preparing_timeout_seconds == 180
    assert settings.working_dir_size == "5Gi"


def test_the_keys_are_those_of_primehubs_helm_values(tmp_path: Path) -> None:
    """contract.md, Configuration; what belongs to PrimeHub's other parts is ignored."""
    settings = read(
        tmp_path,
        """
        jupyterhub: {primehub: {}}
        jobSubmission:
          defaultActiveDeadlineSeconds: 60
          defaultTTLSecondsAfterFinished: 0
          workingDirSize: 10Gi
          nodeSelector: {pool: jobs}
          tolerations: [{key: jobs, operator: Exists}]
        """,
    )
    assert settings.default_active_deadline_seconds == 60
    assert settings.default_ttl_seconds_after_finished == 0
    assert settings.working_dir_size == "10Gi"
    assert settings.node_selector == {"pool": "jobs"}
    assert settings.tolerations == ({"key": "jobs", "operator": "Exists"},)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """As an empty values file is for Helm."""
    assert read(tmp_path, "") == JobSubmission()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("jobSubmission: {defaultActiveDeadlineSeconds: -1}", "jobSubmission.defaultActiveDeadlineSeconds"),
        ("jobSubmission: {preparingTimeoutSeconds: soon}", "jobSubmission.preparingTimeoutSeconds"),
        ("jobSubmission: {prepareTimeout: 1}", "jobSubmission.prepareTimeout"),
        ("jobSubmission: {workingDirSize: plenty}", "jobSubmission.workingDirSize"),
        ("jobSubmission: [", "not YAML"),
        ("- 1", "settings.yaml"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, content: str, text: str) -> None:
    """contract.md: it stops the service at once and names the key."""
    with pytest.raises(SettingsError, match=text):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A typing error in SETTINGS_FILE must not mean the defaults."""
    with pytest.raises(SettingsError, match=r"nowhere\.yaml can't be read"):
        ServiceSettings(settings_file=tmp_path / "nowhere.yaml").file()


@pytest.mark.parametrize(
    ("name", "value"), [("HTTP_PORT", "99999"), ("AMQP_URL", "http://x"), ("SHARD", "1")]
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The environment is checked like the file."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        ServiceSettings.load()
