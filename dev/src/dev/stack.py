"""The stack of one STATE: its components, the order of their start, and their end.

The modules that are named after a component have its specification.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from dev import (
    cluster,
    containerd,
    control_plane,
    kubelet,
    kwok,
    leftovers,
    prometheus,
    rabbitmq,
    rights,
    services,
)
from dev.cache import locked
from dev.component import Component, ProcessRecord, Spec, mark, write_private
from dev.debian import PROMETHEUS_PACKAGES, RABBITMQ_PACKAGES, REAL_NODE_PACKAGES, require
from dev.kubectl import Kubectl
from dev.options import NodeKind
from dev.paths import StackPaths
from dev.pki import Pki
from dev.process import find_marked, kill, terminate
from dev.progress import show_progress
from dev.tools import CONTAINERD, KUBERNETES, KWOK, tools

Part = Literal["control-plane", "rabbitmq", "node", "services", "prometheus"]
PARTS: tuple[Part, ...] = get_args(Part)[:-1]
"""The parts of a usual stack, which has no Prometheus."""

SERVICES_GRACE_SECONDS = 15.0
GRACE_SECONDS = 3.0
BUSY = "uses this STATE"


class Stack:
    """One stack. As a context manager, it goes up and down."""

    def __init__(  # noqa: PLR0913 -- the options of the command line and of the tests, all by name
        self,
        state: Path,
        *,
        node: NodeKind = "kwok",
        nodes: int = 1,
        replicas: int = 1,
        parts: Collection[Part] = PARTS,
        settings: Path | None = None,
        broker: str | None = None,
        kubeconfig: Path | None = None,
        flags: Mapping[str, Sequence[str]] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        capacity: Mapping[str, str] | None = None,
        rules: Path = prometheus.RULES,
        scrape_seconds: int = 5,
    ) -> None:
        """Create the object only: `up` starts the stack.

        `nodes` is the number of KWOK's nodes, and `capacity` the further resources of each. `replicas` is the
        number of processes of each service. With `broker` or `kubeconfig`, the parts that they replace are
        not started. `flags` and `env` add arguments and variables to the components of these names. `rules`
        and `scrape_seconds` are for Prometheus.
        """
        self._paths = StackPaths(state)
        self._pki = Pki(self._paths.config / "pki")
        self._node, self._nodes, self._capacity = node, nodes, capacity or {}
        self._replicas = replicas
        self._settings, self._broker, self._given_kubeconfig = settings, broker, kubeconfig
        self._flags, self._env = flags or {}, env or {}
        self._rules, self._scrape_seconds = rules, scrape_seconds
        replaced: set[Part] = set()
        if broker:
            replaced |= {"rabbitmq"}
        if kubeconfig:
            replaced |= {"control-plane", "node"}
        self._parts = set(parts) - replaced

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down()

    @property
    def kubeconfig(self) -> Path:
        """The path of the administrator's kubeconfig, or of a copy of the user's."""
        return self._paths.kubeconfig

    @property
    def amqp_url(self) -> str:
        """The AMQP URL of the broker, with user and password."""
        return self._broker or rabbitmq.amqp_url(self._paths)

    @property
    def kubectl(self) -> Kubectl:
        """The command kubectl, as the administrator."""
        return Kubectl(self.kubeconfig)

    def component(self, name: str) -> Component:
        """Return the component of this name.

        Raises:
            KeyError: the stack has none.

        """
        return self._components[name]

    def up(self) -> None:
        """Start every component that does not run, or is not current.

        Returns when all are ready.
        """
        paths = self._paths
        paths.make()
        with locked(paths.state / "lock", busy=BUSY):
            install(self._parts, self._node)
            if self._parts & {"control-plane", "rabbitmq"}:
                self._pki.make()
            if self._given_kubeconfig:
                flat = Kubectl(self._given_kubeconfig)("config", "view", "--raw", "--flatten", "--minify")
                write_private(paths.kubeconfig, flat)
            self._start("etcd", "epmd")
            self._start("kube-apiserver", "rabbitmq")
            self._start("kube-controller-manager", "kube-scheduler")
            if "control-plane" in self._parts or self._given_kubeconfig:
                cluster.prepare(self.kubectl)
            if "control-plane" in self._parts:
                rights.grant(self.kubectl)
            if "node" in self._parts:
                self._start_node()
            self._end_surplus_replicas()
            self._start(*services.replicas(self._replicas))
            self._start("prometheus")

    def down(self) -> None:
        """End the stack and delete its data. The logs stay."""
        down(self._paths.state)

    def _start(self, *names: str) -> None:
        """Start those of these components that do not run or are not current.

        Returns when all of them are ready. A name that does not belong to this stack is skipped.
        """
        chosen = [self._components[name] for name in names if name in self._components]
        stale = [component for component in chosen if not component.is_current()]
        for component in stale:
            component.stop()
            component.start()
        if not stale and all(component.spec.ready() for component in chosen):
            return
        with show_progress(f"starting {', '.join(component.name for component in stale or chosen)}"):
            for component in chosen:
                component.wait_ready()

    def _end_surplus_replicas(self) -> None:
        """End the replicas of an earlier `up` with more of them."""
        surplus = [r for r in ProcessRecord.all(self._paths.state) if services.service_of(r.name)]
        surplus = [record for record in surplus if record.name not in self._components]
        if "services" in self._parts:
            terminate(
                [process for record in surplus if (process := record.process())], SERVICES_GRACE_SECONDS
            )
            for record in surplus:
                record.remove()

    def _start_node(self) -> None:
        if self._node == "kwok":
            self._start("kwok")
            kwok.create_nodes(self.kubectl, self._nodes, self._capacity)
            cluster.wait_nodes(self.kubectl, self._nodes)
        else:
            self._start("containerd")
            containerd.load_images(self._paths, tools(CONTAINERD))
            self._start("kubelet")
            cluster.wait_nodes(self.kubectl, 1)

    @cached_property
    def _components(self) -> dict[str, Component]:
        return {spec.name: Component(self._paths.state, self._adapted(spec)) for spec in self._specs()}

    def _adapted(self, spec: Spec) -> Spec:
        """Return the spec with the stack's additional flags and variables."""
        argv = [*spec.argv, *self._flags.get(spec.name, ())]
        return replace(spec, argv=argv, env={**spec.env, **self._env.get(spec.name, {})})

    def _specs(self) -> list[Spec]:
        paths, pki, specs = self._paths, self._pki, list[Spec]()
        if "control-plane" in self._parts:
            programs = tools(KUBERNETES)
            specs += [
                control_plane.etcd(paths, programs),
                control_plane.apiserver(paths, pki, programs),
                control_plane.controller_manager(paths, pki, programs),
                control_plane.scheduler(paths, pki, programs),
            ]
        if "rabbitmq" in self._parts:
            specs += [rabbitmq.epmd(paths), rabbitmq.rabbitmq(paths, pki)]
        if "node" in self._parts and self._node == "kwok":
            specs += [kwok.kwok(paths, pki, tools(KWOK))]
        if "node" in self._parts and self._node == "real":
            specs += [
                containerd.containerd(paths, tools(CONTAINERD)),
                kubelet.kubelet(paths, pki, tools(KUBERNETES)),
            ]
        if "prometheus" in self._parts:
            specs += [
                prometheus.prometheus(
                    paths, services.replicas(self._replicas), self._rules, self._scrape_seconds
                )
            ]
        if "services" in self._parts:
            specs += services.services(
                paths,
                self.amqp_url,
                self._settings,
                self._replicas,
                own_cluster=self._given_kubeconfig is None,
            )
        return specs


def install(parts: Collection[Part], node: NodeKind) -> None:
    """Install everything that these parts need on this machine and that is missing."""
    if "rabbitmq" in parts:
        require(RABBITMQ_PACKAGES)
    if "prometheus" in parts:
        require(PROMETHEUS_PACKAGES)
    if "node" in parts and node == "real":
        require(REAL_NODE_PACKAGES)
        tools(CONTAINERD)
    if "node" in parts and node == "kwok":
        tools(KWOK)
    if "control-plane" in parts or "node" in parts:
        tools(KUBERNETES)


def down(state: Path) -> None:
    """End the stack of this STATE, whatever its parts are, and delete its data.

    The logs stay.
    """
    paths = StackPaths(state)
    if not paths.state.exists():
        return
    with locked(paths.state / "lock", busy=BUSY):
        processes = {
            record.name: process for record in ProcessRecord.all(paths.state) if (process := record.process())
        }
        terminate(
            [processes.pop(n) for n in list(processes) if services.service_of(n)], SERVICES_GRACE_SECONDS
        )
        terminate(processes.values(), GRACE_SECONDS)
        for name, value in mark(paths.state).items():
            kill(find_marked(f"{name}={value}"))
        leftovers.remove(paths)
        paths.clear()
