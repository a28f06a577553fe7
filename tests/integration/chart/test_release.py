"""The chart on a real API server: installed, upgraded and rolled back by helm."""

import base64
import json
from urllib.parse import urlsplit

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


def test_an_upgrade_and_a_rollback_keep_the_certificate(release: Release) -> None:
    """Otherwise the services would not trust the broker until both have the new one."""
    keys = ("ca.crt", "tls.crt", "tls.key")
    before = {key: release.secret("phjob-rabbitmq-tls", key) for key in keys}
    release.install("--reuse-values", "--set", "logLevel=DEBUG")
    assert {key: release.secret("phjob-rabbitmq-tls", key) for key in keys} == before
    release.rollback(1)
    assert {key: release.secret("phjob-rabbitmq-tls", key) for key in keys} == before


def test_an_upgrade_keeps_the_passwords_of_urls_that_an_earlier_chart_has_made(release: Release) -> None:
    """The earlier charts had no TLS. The rest of the URL is the new chart's."""
    password = urlsplit(release.secret("phjob-broker", "janitor")).password
    url = f"amqp://janitor:{password}@phjob-rabbitmq:5672/phjob"
    patch = {"data": {"janitor": base64.b64encode(url.encode()).decode()}}
    done = release.kubectl(
        "-n", release.namespace, "patch", "secret", "phjob-broker", "--type=merge", "-p", json.dumps(patch)
    )
    assert done.returncode == 0, done.stderr
    release.install("--reuse-values")
    upgraded = urlsplit(release.secret("phjob-broker", "janitor"))
    assert (upgraded.scheme, upgraded.username, upgraded.password) == ("amqps", "janitor", password)


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
