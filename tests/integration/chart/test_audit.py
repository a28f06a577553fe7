"""The API server's audit log, as docs/operate.md sets it up: it says who changed which job, and what."""

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.builders import a_job
from tests.support.chart import POLICIES, ROOT, Release
from tests.support.waiting import eventually

from dev.stack import Part, Stack

from .conftest import wait_for_policies

SUSPENDED = {"suspend": True, "retry": {"limit": 0, "on": ["Failure"]}}
PAGE = (ROOT / "docs" / "operate.md").read_text()
SECTION = PAGE[PAGE.index("### Who did what") :]
PARTS: tuple[Part, ...] = ("control-plane",)
SECRET = "echo hunter2"


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Release, Path]]:
    """A release on an API server with the page's audit policy, and the path of its audit log."""
    folder = tmp_path_factory.mktemp("audit")
    found = re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    assert found
    policy, log = folder / "policy.yaml", folder / "audit.log"
    policy.write_text(found[1])
    flags = {
        "kube-apiserver": [f"--audit-policy-file={policy}", f"--audit-log-path={log}"],
        # Adds to the controllers of the local stack the one that checks the types of policies.
        "kube-controller-manager": ["--controllers=validatingadmissionpolicy-status-controller"],
    }
    with Stack(folder / "stack", parts=PARTS, flags=flags) as stack:
        release = Release(stack.kubeconfig, f"audit-{secrets.token_hex(3)}", folder)
        release.install("--set=identity.userNamePrefix=oidc:", "--set=identity.poolLabels.enforce=true")
        release.bind_role("submitter", "--user=oidc:bob")
        release.bind_role("operator", "--user=oidc:olga")
        wait_for_policies(
            lambda user, *args, **options: release.kubectl(
                "-n", release.namespace, f"--as={user}", *args, **options
            ),
            "oidc:bob",
        )
        yield release, log


def test_the_audit_log_says_who_cancelled_and_who_extended(audited: tuple[Release, Path]) -> None:
    """The query is the page's. Neither commands nor statuses are in the log."""
    release, log = audited
    job = json.dumps(a_job("train", user="bob", command=SECRET, activeDeadlineSeconds=60))
    steps = (
        ("oidc:bob", ("create", "-f", "-"), job),
        (
            "oidc:olga",
            ("patch", "phjob", "train", "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":0}}'),
            None,
        ),
        (
            "oidc:bob",
            ("patch", "phjob", "train", "--type=merge", "-p", '{"spec":{"ttlSecondsAfterFinished":1}}'),
            None,
        ),
        ("oidc:bob", ("annotate", "phjob", "train", "note=x"), None),
        (
            "oidc:bob",
            ("patch", "phjob", "train", "--type=merge", "-p", json.dumps({"spec": SUSPENDED})),
            None,
        ),
        ("oidc:olga", ("patch", "phjob", "train", "--type=merge", "-p", '{"spec":{"suspend":false}}'), None),
        ("oidc:olga", ("patch", "phjob", "train", "--type=merge", "-p", '{"spec":{"cancel":true}}'), None),
        ("oidc:olga", ("delete", "phjob", "train"), None),
    )
    for user, args, text in steps:
        done = release.kubectl("-n", release.namespace, f"--as={user}", *args, input=text)
        assert done.returncode == 0, done.stderr

    def events() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [event for event in lines if event["objectRef"].get("name") == "train"]

    eventually(lambda: len(events()) == len(steps), "every request is in the log", diagnostics=events)
    policy = f"{release.namespace}-phjob-identity"

    def annotation(event: dict[str, object], key: str) -> str:
        annotations = event["annotations"]
        assert isinstance(annotations, dict)
        return str(annotations.get(f"{policy}/{key}", ""))

    told = [
        (annotation(event, "requester"), event["verb"], annotation(event, "change")) for event in events()
    ]
    assert told == [
        ("bob", "create", ""),
        ("olga", "patch", "activeDeadlineSeconds: 60 to 0"),
        ("bob", "patch", "ttlSecondsAfterFinished: default to 1"),
        ("bob", "patch", ""),
        ("bob", "patch", "suspend, retry"),
        ("olga", "patch", "resume"),
        ("olga", "patch", "cancel"),
        ("olga", "delete", ""),
    ]
    assert {annotation(event, "user") for event in events()} == {"bob"}
    assert SECRET not in log.read_text()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_expression_of_a_policy_has_a_problem(audited: tuple[Release, Path], policy: str) -> None:
    """Kubernetes checks its types, and reports what it doubts in the policy's status."""
    release, _ = audited
    name = f"{release.namespace}-phjob-{policy}"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = release.get("validatingadmissionpolicy", name).get("status", {})
        return found

    eventually(lambda: "observedGeneration" in status(), f"the types of {name} are checked")
    assert "expressionWarnings" not in status().get("typeChecking", {}), status()
