"""The options of a stack. They are stored in its STATE, and apply until they are given again or it goes down.

A running stack can get other settings, for which its services are restarted. For any other change, such as
another node, broker or cluster, the stack must go down first.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, Self

from dev.errors import DevError

NodeKind = Literal["real", "kwok"]

STATUS = Path("/proc/self/status")
# Bits of capabilities(7). Without these two, a process cannot create namespaces, mounts and bridges.
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
# The root of cgroup v2, and of the memory controller of cgroup v1.
CGROUP_TREES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))


@dataclass(frozen=True)
class Options:
    """The options of one `up`. None means not given."""

    node: NodeKind | None = None
    nodes: int | None = None
    replicas: int | None = None
    settings: str | None = None
    broker: str | None = None
    kubeconfig: str | None = None

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """Return the options in the file; None if there is no file."""
        return cls(**json.loads(file.read_text())) if file.exists() else None

    def save(self, file: Path) -> None:
        """Write the options to the file."""
        file.write_text(json.dumps(asdict(self), indent=2))

    def merged_over(self, earlier: Self | None) -> Self:
        """Return these options, completed by those of the stack or by the defaults.

        Raises:
            DevError: an option differs from that of the running stack and cannot change while it is up.

        """
        if earlier is None:
            return replace(
                self, node=self.node or default_node(), nodes=self.nodes or 1, replicas=self.replicas or 1
            )
        given = {
            field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None
        }
        for name, value in given.items():
            if name != "settings" and value != getattr(earlier, name):
                current = getattr(earlier, name)
                raise DevError(
                    f"{name.upper()}={value} is not possible, because this stack is up with {current}; "
                    "run `make down` first"
                )
        return replace(earlier, **given)


def default_node() -> NodeKind:
    """Return `real` where real containers are possible, otherwise `kwok`.

    They need Linux and the rights of root.
    """
    if os.geteuid() != 0 or not STATUS.exists():
        return "kwok"
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    rights = int(line.split()[1], 16)
    may_isolate = all(rights >> bit & 1 for bit in (CAP_NET_ADMIN, CAP_SYS_ADMIN))
    may_limit = any(os.access(tree, os.W_OK) for tree in CGROUP_TREES)
    return "real" if may_isolate and may_limit else "kwok"
