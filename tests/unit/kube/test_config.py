import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.support.https import https_server

from dev.pki import Pki
from phjob_core.errors import SettingsError
from phjob_core.kinds import PODS
from phjob_kube.config import connect


def a_kubeconfig(path: Path, cluster: dict[str, str] | None = None, **user: str) -> Path:
    """Write a kubeconfig with one cluster. Returns its path."""
    context = {"cluster": "lab", "user": "watcher"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster or {"server": "http://lab:8080"}}],
        "users": [{"name": "watcher", "user": user}],
        "contexts": [{"name": name, "context": context} for name in ("first", "second")],
        "current-context": "first",
    }
    path.write_text(yaml.safe_dump(config))
    return path


async def test_requests_are_signed_with_the_kubeconfigs_token(tmp_path: Path) -> None:
    """The namespace is a setting, not the one of the context."""
    async with connect(a_kubeconfig(tmp_path / "config", token="secret"), "hub") as kube:
        headers: dict[str, str] = {}
        await kube.server.sign(headers)
        assert (kube.server.url, kube.namespace) == ("http://lab:8080", "hub")
        assert headers == {"authorization": "Bearer secret"}


async def test_a_certificate_of_an_older_cluster_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks extensions that Python requires from 3.13 on. The base of the image may have any Python."""
    lenient = ssl.create_default_context

    def of_newer_pythons(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = lenient(*args, **kwargs)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "train"}})

    monkeypatch.setattr(ssl, "create_default_context", of_newer_pythons)
    pki = Pki(tmp_path / "pki")
    pki.make()
    async with https_server(pki, answer) as server:
        cluster = {"server": server, "certificate-authority": str(pki.ca)}
        async with connect(a_kubeconfig(tmp_path / "config", cluster, token="secret"), "hub") as kube:
            assert await kube.get(PODS.resource, "train") == {"metadata": {"name": "train"}}


@pytest.mark.parametrize(
    ("name", "context", "message"),
    [
        ("none", None, r"KUBECONFIG .*/none: "),
        ("config", "third", r"KUBECONFIG .*/config: .*third"),
        (None, None, r"KUBECONFIG \(not set, and there is no service account\): "),
    ],
)
async def test_missing_credentials_are_a_bad_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, context: str | None, message: str
) -> None:
    """A repetition would not help (spec.md, S6)."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    a_kubeconfig(tmp_path / "config", token="secret")
    with pytest.raises(SettingsError, match=message):
        async with connect(tmp_path / name if name else None, "hub", context=context):
            pass
