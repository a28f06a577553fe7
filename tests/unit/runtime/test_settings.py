from pathlib import Path

import pytest

from phjob_core.errors import SettingsError
from phjob_runtime.settings import ClusterSettings, JobSubmission, ServiceSettings


def read(tmp_path: Path, content: str) -> JobSubmission:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    return ServiceSettings(settings_file=file).file().job_submission


def test_without_a_file_primehubs_defaults_apply() -> None:
    """One day, seven days, three minutes, and 5 GiB (spec.md, S5)."""
    settings = ServiceSettings().file().job_submission
    assert settings.default_active_deadline_seconds == 86400
    assert settings.default_ttl_seconds_after_finished == 604800
    assert settings.preparing_timeout_seconds == 180
    assert settings.working_dir_size == "5Gi"


def test_the_keys_are_those_of_primehubs_helm_values(tmp_path: Path) -> None:
    """The keys of other parts of PrimeHub are ignored (spec.md, S5, S6)."""
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


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    """As an empty values file does for Helm."""
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
def test_a_bad_setting_is_reported_with_its_key(tmp_path: Path, content: str, text: str) -> None:
    """It stops the service at once (spec.md, S6)."""
    with pytest.raises(SettingsError, match=text):
        read(tmp_path, content)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A typing error in SETTINGS_FILE must not mean the defaults."""
    with pytest.raises(SettingsError, match=r"nowhere\.yaml can't be read"):
        ServiceSettings(settings_file=tmp_path / "nowhere.yaml").file()


@pytest.mark.parametrize(
    ("name", "value"), [("HTTP_PORT", "99999"), ("AMQP_URL", "http://x"), ("SHARD", "1")]
)
def test_a_bad_variable_is_reported_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The environment is checked like the file (spec.md, S6)."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        ServiceSettings.load()


def test_a_bad_url_is_reported_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line goes to the log of the container, which more people may read."""
    monkeypatch.setenv("AMQP_URL", "http://phjob:pass@word:1@broker:5672/hub")
    with pytest.raises(SettingsError, match=r'AMQP_URL: .* \(is "http://phjob:\*\*\*@broker:5672/hub"\)'):
        ServiceSettings.load()


def test_only_a_service_that_uses_the_api_has_a_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler and janitor have no access to Kubernetes (spec.md, I4, S7)."""
    monkeypatch.setenv("KUBECONFIG", "/etc/kubeconfig")
    assert ClusterSettings.load().kubeconfig == Path("/etc/kubeconfig")
    assert not hasattr(ServiceSettings.load(), "kubeconfig")


def test_without_a_kubeconfig_the_cluster_around_the_process_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is how the chart installs the services."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert ClusterSettings.load().kubeconfig is None
