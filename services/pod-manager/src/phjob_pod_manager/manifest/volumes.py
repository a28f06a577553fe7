"""Group volumes and datasets in a job's pod: volumes, mounts, links and variables. Pure.

See spec.md, P6, P7 and P8. `entrypoint` makes the links before the command starts.
"""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from phjob_core.api import Object
from phjob_pod_manager.manifest.dataset_secret import SecretKey, secret_name, variables
from phjob_pod_manager.manifest.entrypoint import HOME
from phjob_pod_manager.manifest.grants import GroupVolume

DATASETS = "/datasets"
_PREFIX = "dataset.primehub.io/"
_OLD_HOST_PATH = "hostpath:"
_SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINK_FOLDER_SIZE = "8Mi"
"""The size of a folder that contains links only."""
_SYSTEM_FOLDERS = {
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc", "/project"),
    *("/root", "/run", "/sbin", "/sys", "/usr", "/var"),
}
"""Folders that a mount root must not hide."""


@dataclass(frozen=True)
class GrantedDataset:
    """A dataset that is granted to the job's group."""

    name: str
    item: Object | None
    """The Dataset object; None if it does not exist."""
    writable: bool


@dataclass
class VolumeSpec:
    """The additions to a pod that come from its job's groups and datasets."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    env: dict[str, SecretKey] = field(default_factory=dict)
    """The variables, and where the container takes each value from."""
    files: dict[str, str] = field(default_factory=dict)
    """For each variable whose name no POSIX shell can use: the file that has its value."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """The links to make, as (target, link), in this order."""
    warnings: list[str] = field(default_factory=list)
    """The datasets that are left out and why, for the job's log."""

    def mount(self, name: str, path: str, *, read_only: bool = False, **source: Any) -> None:
        """Add a volume and mount it at the path."""
        self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})


def volume_spec(groups: Iterable[GroupVolume], datasets: Iterable[GrantedDataset]) -> VolumeSpec:
    """Return the additions to a pod for these group volumes and datasets.

    A dataset that cannot be used gives a warning, and the job runs without it.
    """
    spec = VolumeSpec()
    spec.mount("datasets", DATASETS, emptyDir={"sizeLimit": _LINK_FOLDER_SIZE})
    spec.links.append((DATASETS, f"{HOME}/datasets"))
    for number, volume in enumerate(groups):
        path = f"/project/{volume.folder}"
        claim = {"claimName": f"project-{volume.folder}"}
        spec.mount(f"group-{number}", path, persistentVolumeClaim=claim)
        if volume.home_symlink:
            spec.links.append((path, f"{HOME}/{volume.folder}"))
    roots = {DATASETS}
    for number, dataset in enumerate(datasets):
        if dataset.item is None:
            spec.warnings.append(f"dataset {dataset.name} does not exist")
        elif dataset.item["spec"]["type"] == "env":
            _add_variables(spec, number, dataset.name, dataset.item)
        else:
            _add_dataset(spec, number, dataset, dataset.item, roots)
    return spec


def _add_variables(spec: VolumeSpec, number: int, name: str, item: Object) -> None:
    """Add each variable as `<DATASET>_<KEY>`, and again with `_` for each `-`.

    Only the second name can be used in a shell. A shell drops the first, so that it is read from a file.
    """
    secret, (values, invalid) = secret_name(name), variables(item)
    spec.warnings += [
        f"dataset {name}: {variable} is not a valid environment variable name" for variable in invalid
    ]
    if secret is None:
        spec.warnings.append(f"dataset {name}: its name is too long for a dataset with variables")
        return
    path, keys = f"/mnt/dataset-{name}", dict[str, None]()
    for key in values:
        for variable in (key, key.replace("-", "_")):
            spec.env[variable] = SecretKey(secret, key)
            spec.files.pop(variable, None)  # That of another dataset with the same variable.
            if not _SHELL_VARIABLE.fullmatch(variable):
                spec.files[variable] = f"{path}/{key}"
                keys[key] = None
    if keys:
        items = [{"key": key, "path": key} for key in keys]
        spec.mount(f"dataset-{number}", path, read_only=True, secret={"secretName": secret, "items": items})


def _add_dataset(
    spec: VolumeSpec, number: int, dataset: GrantedDataset, item: Object, roots: set[str]
) -> None:
    """Add a dataset, with its root to `roots`, the mount roots of those before it."""
    name, dataset_spec = dataset.name, item["spec"]
    annotations = item["metadata"].get("annotations") or {}
    root = posixpath.normpath(annotations.get(f"{_PREFIX}mountRoot") or DATASETS)
    if not root.startswith("/") or root.startswith("//") or root in _SYSTEM_FOLDERS or ":" in root:
        spec.warnings.append(
            f"dataset {name}: mountRoot {root} must be an absolute path, and no system folder"
        )
        return
    source = _source(name, dataset_spec, annotations)
    if source is None:
        spec.warnings.append(f"dataset {name}: no source configured")
        return
    is_git = dataset_spec["type"] == "git"
    path = f"/mnt/dataset-{name}"
    spec.mount(f"dataset-{number}", path, read_only=is_git or not dataset.writable, **source)
    if root not in roots and not f"{root}/".startswith(f"{HOME}/"):
        spec.mount(f"mount-root-{len(roots)}", root, emptyDir={"sizeLimit": _LINK_FOLDER_SIZE})
    roots.add(root)
    link = f"{root}/{name}"
    spec.links.append((f"{path}/{name}" if is_git else path, link))
    if str(annotations.get(f"{_PREFIX}homeSymlink")).lower() == "true":
        spec.links.append((link, f"{HOME}/{name}"))


def _source(name: str, spec: Object, annotations: Object) -> dict[str, Any] | None:
    """Return the volume source of a dataset; None if its type has no usable source."""
    volume_name = spec.get("volumeName") or ""
    match spec["type"]:
        case "git":
            host_root = annotations.get(f"{_PREFIX}gitSyncHostRoot") or "/home/dataset"
            return {"hostPath": {"path": posixpath.join(host_root, name)}}
        case "pv" | "hostPath" if volume_name.startswith(_OLD_HOST_PATH):
            return {"hostPath": {"path": volume_name.removeprefix(_OLD_HOST_PATH)}}
        case "pv" if volume_name:
            return {"persistentVolumeClaim": {"claimName": f"dataset-{volume_name}"}}
        case "hostPath" if spec.get("hostPath"):
            return {"hostPath": {"path": spec["hostPath"]["path"]}}
        case "nfs" if spec.get("nfs"):
            return {"nfs": {"server": spec["nfs"]["server"], "path": spec["nfs"]["path"]}}
    return None
