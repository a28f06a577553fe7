from pathlib import Path

import pytest
import yaml

from phjob_core.errors import SettingsError
from phjob_kube.config import connect


def a_kubeconfig(path: Path, **user: str) -> Path:
    """Write a kubeconfig with one cluster. Returns its path."""
    context = {"cluster": "lab", "user": "watcher"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": "http://lab:8080"}}],
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
