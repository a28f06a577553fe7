"""The chart on a real API server: installed, upgraded and rolled back by helm."""

import json

from tests.support.chart import Release

SERVICES = ("watcher", "scheduler", "janitor", "pod-manager")


def test_every_pod_conforms_to_pod_security_restricted(release: Release) -> None:
    """A pod of each template is created as a dry run, in a namespace that enforces it."""
    done = release.kubectl("-n", release.namespace, "get", "deployments,statefulsets", "-o", "json")
    workloads = json.loads(done.stdout)["items"]
    assert len(workloads) == 5
    for workload in workloads:
        spec = workload["spec"]["template"]["spec"]
        claims = [
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "any"}}
            for claim in workload["spec"].get("volumeClaimTemplates", ())
        ]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": workload["metadata"]["name"]},
            "spec": {**spec, "volumes": [*spec["volumes"], *claims]},
        }
        created = release.kubectl(
            "-n", release.namespace, "create", "--dry-run=server", "-f", "-", input=json.dumps(pod)
        )
        assert created.returncode == 0, f"{workload['metadata']['name']}: {created.stderr}"


def test_an_upgrade_and_a_rollback_keep_the_passwords(release: Release) -> None:
    """The installation generates them, a different one for each service."""
    urls = {service: release.secret("phjob-broker", service) for service in SERVICES}
    admin = release.secret("phjob-broker", "admin-password")
    assert len({url.partition("@")[0].rpartition(":")[2] for url in urls.values()}) == len(urls)
    release.install("--reuse-values", "--set", "jobSubmission.grantSudo=true")
    assert "grantSudo: true" in release.get("configmap", "phjob-settings")["data"]["settings.yaml"]
    assert {service: release.secret("phjob-broker", service) for service in SERVICES} == urls
    release.rollback(1)
    assert "grantSudo: false" in release.get("configmap", "phjob-settings")["data"]["settings.yaml"]
    assert {service: release.secret("phjob-broker", service) for service in SERVICES} == urls
    assert release.secret("phjob-broker", "admin-password") == admin


def test_changed_settings_replace_the_pods(release: Release) -> None:
    """The services read their settings only when they start."""
    name = "checksum/settings"

    def checksum() -> str:
        template = release.get("deployment", "phjob-watcher")["spec"]["template"]
        return str(template["metadata"]["annotations"][name])

    before = checksum()
    release.install("--reuse-values", "--set", "jobSubmission.workingDirSize=7Gi")
    changed = checksum()
    release.install("--reuse-values", "--set", "jobSubmission.workingDirSize=5Gi")
    assert changed != before
    assert checksum() == before
