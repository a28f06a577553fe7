"""Group volumes and datasets in a job's pod: volumes, mounts, links and variables.

Pure (seed, Folder Structure; contract.md, The pod). The links themselves are made by `entrypoint`,
before the command starts.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pod_manager.grants import GroupVolume

Object = Mapping[str, Any]

HOME = "/home/jovyan"
DATASETS = "/datasets"
_PREFIX = "dataset.primehub.io/"
_OLD_HOST_PATH = "hostpath:"
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
"""The names of variables that PrimeHub takes; it drops the others, and so do we."""
_ROOT_SIZE = "8Mi"
"""A folder that holds nothing but links."""
_SYSTEM = {
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/mnt", "/opt", "/proc", "/project"),
    *("/root", "/run", "/sbin", "/sys", "/usr", "/var"),
}
"""Folders that must not be hidden by a mount root."""


@dataclass(frozen=True)
class GrantedDataset:
    """A dataset that the job is given. `item` is the Dataset; None: it does not exist."""

    name: str
    item: Object | None
    writable: bool


@dataclass
class Parts:
    """What groups and datasets add to a pod."""

    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)
    """(target, link), to be made in this order."""
    notices: list[str] = field(default_factory=list)
    """What could not be given, for the job's log: one bad dataset harms nobody else."""

    def mount(self, name: str, path: str, *, read_only: bool = False, **source: Any) -> None:
        """Add a volume and mount it."""
        self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})


def parts(groups: Iterable[GroupVolume], datasets: Iterable[GrantedDataset]) -> Parts:
    """Everything that the job's groups and datasets add to its pod."""
    made = Parts()
    made.mount("datasets", DATASETS, emptyDir={"sizeLimit": _ROOT_SIZE})
    made.links.append((DATASETS, f"{HOME}/datasets"))
    for number, volume in enumerate(groups):
        path = f"/project/{volume.folder}"
        claim = {"claimName": f"project-{volume.folder}"}
        made.mount(f"group-{number}", path, persistentVolumeClaim=claim)
        if volume.home_symlink:
            made.links.append((path, f"{HOME}/{volume.folder}"))
    roots = {DATASETS}
    for number, dataset in enumerate(datasets):
        if dataset.item is None:
            made.notices.append(f"dataset {dataset.name} does not exist")
        elif dataset.item["spec"]["type"] == "env":
            _add_variables(made, dataset.name, dataset.item["spec"].get("variables") or {})
        else:
            _add_dataset(made, number, dataset, dataset.item, roots)
    return made


def _add_variables(made: Parts, name: str, variables: Object) -> None:
    """`<DATASET>_<KEY>` in upper case, and again with `-` as `_`, which a shell can read."""
    for key, value in variables.items():
        variable = f"{name}_{key}".upper()
        if key == "__typename":  # PrimeHub's console leaves it there
            continue
        if not _VARIABLE.fullmatch(variable):
            made.notices.append(f"dataset {name}: {variable} is no name of a variable")
            continue
        made.env[variable] = made.env[variable.replace("-", "_")] = _text(value)


def _add_dataset(made: Parts, number: int, dataset: GrantedDataset, item: Object, roots: set[str]) -> None:
    name, spec = dataset.name, item["spec"]
    annotations = item["metadata"].get("annotations") or {}
    root = posixpath.normpath(annotations.get(f"{_PREFIX}mountRoot") or DATASETS)
    if not root.startswith("/") or root.startswith("//") or root in _SYSTEM or ":" in root:
        made.notices.append(f"dataset {name}: its mountRoot {root} can't be used")
        return
    source = _source(name, spec, annotations)
    if source is None:
        made.notices.append(f"dataset {name}: it says not where it is")
        return
    git = spec["type"] == "git"
    path = f"/mnt/dataset-{name}"
    made.mount(f"dataset-{number}", path, read_only=git or not dataset.writable, **source)
    if root not in roots and not f"{root}/".startswith(f"{HOME}/"):
        made.mount(f"mount-root-{len(roots)}", root, emptyDir={"sizeLimit": _ROOT_SIZE})
    roots.add(root)
    link = f"{root}/{name}"
    made.links.append((f"{path}/{name}" if git else path, link))
    if str(annotations.get(f"{_PREFIX}homeSymlink")).lower() == "true":
        made.links.append((link, f"{HOME}/{name}"))


def _source(name: str, spec: Object, annotations: Object) -> dict[str, Any] | None:
    """Where the data is, as a volume's source."""
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


def _text(value: Any) -> str:
    """A variable's value; what YAML took for true or a number is taken as it was most likely written."""
    return str(value).lower() if isinstance(value, bool) else str(value)
