"""What the user chose for a stack, remembered in its STATE: what isn't given again stays as it was.

A stack can get other settings while it is up (its services are then restarted); for another node,
broker or cluster it has to go down first.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self

from dev.errors import DevError

NodeKind = Literal["real", "kwok"]

STATUS = Path("/proc/self/status")
# Bits of capabilities(7): without these there are no namespaces, mounts and bridges of one's own.
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
# Of cgroup v2, and of v1's controller for memory.
CGROUP_TREES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))


@dataclass(frozen=True)
class Options:
    """The choices of one `up`; None stands for not given."""

    node: NodeKind | None = None
    nodes: int | None = None
    replicas: int | None = None
    settings: str | None = None
    broker: str | None = None
    kubeconfig: str | None = None

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """Those of a stack that is, or was, up."""
        return cls(**json.loads(file.read_text())) if file.exists() else None

    def save(self, file: Path) -> None:
        """Remember them."""
        file.write_text(json.dumps(asdict(self), indent=2))

    def after(self, earlier: Self | None) -> Self:
        """These, and where they say nothing the earlier ones or the defaults."""
        if earlier is None:
            return replace(
                self, node=self.node or default_node(), nodes=self.nodes or 1, replicas=self.replicas or 1
            )
        given = {
            field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None
        }
        for name, value in given.items():
            if name != "settings" and value != getattr(earlier, name):
                up = getattr(earlier, name)
                raise DevError(f"{name.upper()}={value}, but this stack is up with {up}: `make down` first")
        return replace(earlier, **given)


def default_node() -> NodeKind:
    """Real containers where they are possible: Linux, and the rights of root."""
    if os.geteuid() != 0 or not STATUS.exists():
        return "kwok"
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    rights = int(line.split()[1], 16)
    may_isolate = all(rights >> bit & 1 for bit in (CAP_NET_ADMIN, CAP_SYS_ADMIN))
    may_limit = any(os.access(tree, os.W_OK) for tree in CGROUP_TREES)
    return "real" if may_isolate and may_limit else "kwok"
