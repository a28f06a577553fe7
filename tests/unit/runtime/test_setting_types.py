from pathlib import Path

import pytest

from phjob_core.errors import SettingsError
from phjob_runtime.settings import JobSubmission, ServiceSettings


def read(tmp_path: Path, content: str) -> JobSubmission:
    file = tmp_path / "settings.yaml"
    file.write_text(f"jobSubmission: {content}")
    return ServiceSettings(settings_file=file).file().job_submission


def test_labels_annotations_and_variables_have_kubernetes_own_form(tmp_path: Path) -> None:
    """They go into the pod as they are."""
    settings = read(
        tmp_path,
        """
          podLabels: {cost-center: research, example.com/team: ""}
          podAnnotations: {example.com/note: "any text: 1"}
          imagePullSecrets: [{name: registry}]
          extraEnv: [{name: A, value: ""}, {name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}]
          priorityClassName: jobs.low
        """,
    )
    assert settings.pod_labels == {"cost-center": "research", "example.com/team": ""}
    assert [secret.manifest() for secret in settings.image_pull_secrets] == [{"name": "registry"}]
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    assert [variable.manifest() for variable in settings.extra_env] == [
        {"name": "A", "value": ""},
        {"name": "B", "valueFrom": source},
    ]
    assert settings.priority_class_name == "jobs.low"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{podLabels: {primehub.io/group: x}}", "'primehub.io/group' is PhJob's own: choose a key without"),
        ("{podAnnotations: {primehub.io/fence: x}}", "'primehub.io/fence' is PhJob's own"),
        ("{podLabels: {app: x}}", "'app' is PhJob's own: choose another key"),
        ("{podLabels: {team: R & D}}", "'R & D' is not a value of a label"),
        ("{podLabels: {a b: x}}", "'a b' is not a valid key"),
        ("{podAnnotations: {Example.com/x: x}}", "'Example.com/x' is not a valid key"),
        ("{podAnnotations: {team: 1}}", r"podAnnotations\.team: Input should be a valid string"),
        ("{priorityClassName: High Priority}", "priorityClassName: .* not the name of a Kubernetes object"),
        ("{imagePullSecrets: [{}]}", r"imagePullSecrets\.0\.name: Field required"),
        ("{imagePullSecrets: [{name: ''}]}", r"imagePullSecrets\.0\.name: .*not the name of"),
        ("{extraEnv: [{name: PRIMEHUB_USER, value: x}]}", r"extraEnv\.0\.name: .*PhJob sets this variable"),
        (
            "{extraEnv: [{name: TZ, value: UTC}]}",
            r"PhJob sets this variable itself: use jobSubmission\.timezone",
        ),
        ("{extraEnv: [{name: MY-NAME, value: x}]}", r"extraEnv\.0\.name: .*not a name that a shell can use"),
        ("{extraEnv: [{name: A, value: x, valueFrom: {}}]}", "either value or valueFrom"),
        ("{ephemeralStorage: lots}", "ephemeralStorage: .* is not a quantity"),
        ("{copyAnnotations: ['']}", r"copyAnnotations\.0: .* at least 1 character"),
        (
            "{securityProfile: privileged}",
            "securityProfile: Input should be 'baseline', 'restricted' or 'sudo'",
        ),
    ],
)
def test_what_the_api_server_would_reject_in_every_pod_stops_the_service(
    tmp_path: Path, content: str, text: str
) -> None:
    """Otherwise every job would fail, one by one (spec.md, S6)."""
    with pytest.raises(SettingsError, match=text):
        read(tmp_path, content)


def test_an_error_does_not_repeat_the_value_of_a_variable(tmp_path: Path) -> None:
    """It may be a secret, and the line goes to the log."""
    with pytest.raises(SettingsError, match=r"extraEnv\.0\.value") as error:
        read(tmp_path, "{extraEnv: [{name: TOKEN, value: 31415926}]}")
    assert "31415926" not in str(error.value)
