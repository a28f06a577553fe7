import traceback
from pathlib import Path

import pytest
from yarl import URL

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
    assert (settings.history_ttl_seconds, settings.history_limit) == (30 * 86400, 4000)


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


def test_grant_sudo_is_primehubs_name_for_a_security_profile(tmp_path: Path) -> None:
    """It stays accepted, and contradicts only `restricted` (spec.md, P10)."""
    assert read(tmp_path, "jobSubmission: {grantSudo: true}").security_profile == "sudo"
    assert (
        read(tmp_path, "jobSubmission: {grantSudo: true, securityProfile: sudo}").security_profile == "sudo"
    )
    assert JobSubmission().security_profile == "baseline"
    with pytest.raises(SettingsError, match="grantSudo: true means the profile sudo; remove one"):
        read(tmp_path, "jobSubmission: {grantSudo: true, securityProfile: restricted}")


def test_an_administrator_names_more_resources_that_count_as_gpu(tmp_path: Path) -> None:
    """They are patterns, and they extend the built-in ones (spec.md, S3)."""
    gpus = read(tmp_path, 'jobSubmission: {gpuResourceNames: [example.com/acc-*, "!amd.com/*"]}').gpus
    assert gpus.charge({"example.com/acc-1": 1, "nvidia.com/gpu": 1, "amd.com/gpu": 1})["gpu"] == 2


def test_the_disk_of_a_job_holds_its_working_directory(tmp_path: Path) -> None:
    """Otherwise the kubelet would evict a job that uses what it was promised (spec.md, P4, P6)."""
    assert JobSubmission().default_limits == {"ephemeral-storage": 10 * 2**30}
    assert read(tmp_path, "jobSubmission: {ephemeralStorage: ''}").default_limits == {}
    for content in ("{workingDirSize: 20Gi}", "{ephemeralStorage: 1Gi}"):
        with pytest.raises(SettingsError, match=r"ephemeralStorage: .*less than workingDirSize, .*Gi"):
            read(tmp_path, f"jobSubmission: {content}")
    read(tmp_path, "jobSubmission: {workingDirSize: 20Gi, ephemeralStorage: ''}")


def test_the_job_submission_of_primehubs_values_is_accepted_as_it_is(tmp_path: Path) -> None:
    """`jobTTLSeconds` and `jobLimit` are its names of the history; other parts are ignored (spec.md, S5)."""
    settings = read(
        tmp_path,
        """
        jobSubmission:
          enabled: true
          workingDirSize: 5Gi
          defaultActiveDeadlineSeconds: 86400
          defaultTTLSecondsAfterFinished: 604800
          jobTTLSeconds: 60
          jobLimit: 7
          artifact: {enabled: true, limitSizeMb: 100, limitFiles: 1000, retentionSeconds: 604800}
          monitoring: {enabled: true}
          smtp: {enabled: false}
          phfsEnabled: true
          phfsPVC: primehub-store
        """,
    )
    assert (settings.history_ttl_seconds, settings.history_limit) == (60, 7)


def test_both_names_of_a_setting_are_accepted_only_with_one_value(tmp_path: Path) -> None:
    """Otherwise it would be unclear which of the two counts (spec.md, S6)."""
    assert read(tmp_path, "jobSubmission: {jobLimit: 7, historyLimit: 7}").history_limit == 7
    text = r"jobSubmission: jobLimit and historyLimit are the same setting: give one of the two$"
    with pytest.raises(SettingsError, match=text):
        read(tmp_path, "jobSubmission: {jobLimit: 7, historyLimit: 8}")


def test_an_error_repeats_no_map_and_no_list(tmp_path: Path) -> None:
    """Such a value may contain a password (spec.md, S6)."""
    for content in (
        "jobSubmission: {mail: {password: hunter2}}",
        "jobSubmission: {timezone: [hunter2]}",
        "jobSubmission: {jobLimit: 1, historyLimit: 2, smtp: {password: hunter2}}",
    ):
        with pytest.raises(SettingsError) as caught:
            read(tmp_path, content)
        assert "hunter2" not in str(caught.value)


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
        ("jobSubmission: {maxCommandBytes: 262145}", "jobSubmission.maxCommandBytes"),
        ("jobSubmission: {reservedNames: [Hub_*]}", "jobSubmission.reservedNames.0"),
        ("jobSubmission: {gpuResourceNames: [gpu]}", "jobSubmission.gpuResourceNames.0"),
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


@pytest.mark.parametrize(
    "url",
    [
        "http://watcher:PASS@word:1@mq-host:5672/hub",
        "amqp://watcher:PASS/word@mq-host:5672/hub",
        "amqp://watcher:PASS#word@mq-host:5672/hub",
        "amqp://watcher:PASS?word@mq-host:5672/hub",
        "amqp://watcher:1234/PASS@mq-host:5672/hub",
        "amqp://watcher:1234#PASS@mq-host:5672/hub",
        "amqp://watcher:1234?PASS@mq-host:5672/hub",
        "amqp://watcher:12/34@5678/PASS@mq-host:5672/hub",
        "amqp:watcher:PASS@mq-host:5672/hub",
        "amqp//watcher:PASS@mq-host:5672/hub",
        "watcher:PASS@mq-host",
        "PASS",
    ],
)
def test_a_bad_url_is_reported_without_any_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    """The line goes to the log of the container, which many people may read (spec.md, S6)."""
    monkeypatch.setenv("AMQP_URL", url)
    file = tmp_path / "url"
    file.write_text(url)
    with pytest.raises(SettingsError, match="environment: AMQP_URL: ") as in_variable:
        ServiceSettings.load()
    monkeypatch.delenv("AMQP_URL")
    monkeypatch.setenv("AMQP_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=rf"AMQP_URL_FILE {file}: ") as in_file:
        ServiceSettings.load()
    for error in (in_variable.value, in_file.value):
        text = "".join(traceback.format_exception(error))
        assert not any(part in text for part in ("PASS", "1234", "watcher", "mq-host"))


@pytest.mark.parametrize("password", ["p@ss", "p%ss", "p ss", "p:ss", "p\\ss", "p[ss", "p%2Fss", "pässß"])
def test_any_other_character_of_a_password_needs_no_care(password: str) -> None:
    """The client library decodes what pydantic encodes."""
    url = ServiceSettings.model_validate({"amqp_url": f"amqp://watcher:{password}@broker/hub"}).broker_url()
    expected = password.replace("%2F", "/")
    assert (URL(url).user, URL(url).password, URL(url).host) == ("watcher", expected, "broker")


def test_the_url_is_not_part_of_the_settings_representation() -> None:
    """A traceback or a log line may contain it."""
    settings = ServiceSettings.model_validate({"amqp_url": "amqp://watcher:PASS@broker/hub"})
    assert "PASS" not in f"{settings!r} {settings}"


def test_the_url_comes_from_a_file_that_is_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that a changed password needs no restart (spec.md, S7)."""
    file = tmp_path / "url"
    file.write_text("amqp://watcher:old@broker/hub\n")
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("AMQP_URL_FILE", str(file))
    settings = ServiceSettings.load()
    assert settings.broker_url() == "amqp://watcher:old@broker/hub"
    file.write_text("amqp://watcher:new@broker/hub\n")
    assert settings.broker_url() == "amqp://watcher:new@broker/hub"


def test_a_file_that_is_missing_or_no_text_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With its path, and without its content."""
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("AMQP_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(SettingsError, match=r"AMQP_URL_FILE .*/url can't be read: No such file"):
        ServiceSettings.load()
    (tmp_path / "url").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"AMQP_URL_FILE .*/url can't be read: it is not text"):
        ServiceSettings.load()


def test_two_urls_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator would not know which one counts."""
    monkeypatch.setenv("AMQP_URL", "amqp://broker/")
    monkeypatch.setenv("AMQP_URL_FILE", "/etc/url")
    with pytest.raises(SettingsError, match="AMQP_URL and AMQP_URL_FILE are both set"):
        ServiceSettings.load()


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("jobSubmission: {preparingTimeoutSeconds: SOON}", True),
        ("jobSubmission: {tolerations: [SOON]}", True),
        ("logArchive: {url: 's3://key:SOON@bucket'}", False),
        ("logArchive: {url: 's3://bucket?sig=SOON'}", False),
        ("logArchive: {secretKey: SOON}", False),
        ("logArchive: SOON", False),
        ("SOON", False),
        ("logArchive: {url: SOON: x}", False),
        ("logArchive: [*SOON]", False),
    ],
)
def test_a_bad_value_is_repeated_only_if_it_is_certainly_no_secret(
    tmp_path: Path, content: str, *, shown: bool
) -> None:
    """A value of an unknown key, or a line that is not YAML, may be one (spec.md, S6)."""
    with pytest.raises(SettingsError) as error:
        read(tmp_path, content)
    assert ("SOON" in "".join(traceback.format_exception(error.value))) is shown


@pytest.mark.parametrize("url", ["file://", "file:///", "s3://", "anywhere"])
def test_an_archive_has_a_folder_or_a_bucket(tmp_path: Path, url: str) -> None:
    """Without one, the root of the file system would be the archive."""
    with pytest.raises(SettingsError, match=r"logArchive\.url: .*it names no folder or bucket"):
        read(tmp_path, f"logArchive: {{url: '{url}'}}")


def test_only_a_service_that_uses_the_api_has_a_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler and janitor have no access to Kubernetes (spec.md, I4, S7)."""
    monkeypatch.setenv("KUBECONFIG", "/etc/kubeconfig")
    assert ClusterSettings.load().kubeconfig == Path("/etc/kubeconfig")
    assert not hasattr(ServiceSettings.load(), "kubeconfig")


def test_without_a_kubeconfig_the_cluster_around_the_process_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is how the chart installs the services."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert ClusterSettings.load().kubeconfig is None
