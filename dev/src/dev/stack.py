"""The whole stack of one STATE: what belongs to it, in which order it starts, how it ends.

What each component is lies in the module of its name; this one only puts them together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

from dev import cluster, containerd, control_plane, kubelet, kwok, leftovers, prometheus, rabbitmq, services
from dev.cache import locked
from dev.component import Component, Record, Spec, mark, write_private
from dev.debian import PROMETHEUS_PACKAGES, RABBITMQ_PACKAGES, REAL_NODE_PACKAGES, require
from dev.kubectl import Kubectl
from dev.options import NodeKind
from dev.pki import Pki
from dev.process import end, kill, marked
from dev.progress import working
from dev.site import Site
from dev.tools import CONTAINERD, KUBERNETES, KWOK, tools

Part = Literal["control-plane", "rabbitmq", "node", "services", "prometheus"]
PARTS: tuple[Part, ...] = get_args(Part)[:-1]
"""Those of a usual stack: Prometheus is there only if it is asked for."""

SERVICES_GRACE_SECONDS = 15.0
GRACE_SECONDS = 3.0
BUSY = "is at work in this STATE"


class Stack:
    """One stack; as a context manager it is up inside, and down after."""

    def __init__(  # noqa: PLR0913 -- the command line's options and the tests', all by name
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
        """Of this STATE; touches nothing yet.

        `replicas` are of each service. `nodes` and `capacity` (resources of each) are for kwok. `broker`
        and `kubeconfig` stand for what isn't started then. `flags`: more arguments for the components of
        these names, after ours; `env`: more of their environment. `rules` and `scrape_seconds` are
        Prometheus'.
        """
        self._site = Site(state)
        self._pki = Pki(self._site.config / "pki")
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
        """The administrator's; also of a cluster of one's own."""
        return self._site.kubeconfig

    @property
    def amqp_url(self) -> str:
        """The broker's, login included."""
        return self._broker or rabbitmq.amqp_url(self._site)

    @property
    def kubectl(self) -> Kubectl:
        """The command, as the administrator."""
        return Kubectl(self.kubeconfig)

    def component(self, name: str) -> Component:
        """The component of this name; KeyError if the stack has none."""
        return self._components[name]

    def up(self) -> None:
        """Start what doesn't run, leave alone what does; returns when all is ready."""
        site = self._site
        site.make()
        with locked(site.state / "lock", busy=BUSY):
            install(self._parts, self._node)
            if self._parts & {"control-plane", "rabbitmq"}:
                self._pki.make()
            if self._given_kubeconfig:
                flat = Kubectl(self._given_kubeconfig)("config", "view", "--raw", "--flatten", "--minify")
                write_private(site.kubeconfig, flat)
            self._start("etcd", "epmd")
            self._start("kube-apiserver", "rabbitmq")
            self._start("kube-controller-manager", "kube-scheduler")
            if "control-plane" in self._parts or self._given_kubeconfig:
                cluster.prepare(self.kubectl)
            if "node" in self._parts:
                self._start_node()
            self._end_surplus_replicas()
            self._start(*services.replicas(self._replicas))
            self._start("prometheus")

    def down(self) -> None:
        """End all of it and delete its data; the logs stay."""
        down(self._site.state)

    def _start(self, *names: str) -> None:
        """Start those of these that belong to the stack and don't run; wait until all of them are ready."""
        chosen = [self._components[name] for name in names if name in self._components]
        stale = [component for component in chosen if not component.is_current()]
        for component in stale:
            component.stop()
            component.start()
        if not stale and all(component.spec.ready() for component in chosen):
            return
        with working(f"starting {', '.join(component.name for component in stale or chosen)}"):
            for component in chosen:
                component.wait_ready()

    def _end_surplus_replicas(self) -> None:
        """There were more replicas before."""
        surplus = [r for r in Record.all(self._site.state) if services.service_of(r.name)]
        surplus = [record for record in surplus if record.name not in self._components]
        if "services" in self._parts:
            end([process for record in surplus if (process := record.process())], SERVICES_GRACE_SECONDS)
            for record in surplus:
                record.remove()

    def _start_node(self) -> None:
        if self._node == "kwok":
            self._start("kwok")
            kwok.create_nodes(self.kubectl, self._nodes, self._capacity)
            cluster.wait_nodes(self.kubectl, self._nodes)
        else:
            self._start("containerd")
            containerd.load_images(self._site, tools(CONTAINERD))
            self._start("kubelet")
            cluster.wait_nodes(self.kubectl, 1)

    @cached_property
    def _components(self) -> dict[str, Component]:
        return {spec.name: Component(self._site.state, self._adapted(spec)) for spec in self._specs()}

    def _adapted(self, spec: Spec) -> Spec:
        argv = [*spec.argv, *self._flags.get(spec.name, ())]
        return replace(spec, argv=argv, env={**spec.env, **self._env.get(spec.name, {})})

    def _specs(self) -> list[Spec]:
        site, pki, specs = self._site, self._pki, list[Spec]()
        if "control-plane" in self._parts:
            programs = tools(KUBERNETES)
            specs += [
                control_plane.etcd(site, programs),
                control_plane.apiserver(site, pki, programs),
                control_plane.controller_manager(site, pki, programs),
                control_plane.scheduler(site, pki, programs),
            ]
        if "rabbitmq" in self._parts:
            specs += [rabbitmq.epmd(site), rabbitmq.rabbitmq(site, pki)]
        if "node" in self._parts and self._node == "kwok":
            specs += [kwok.kwok(site, pki, tools(KWOK))]
        if "node" in self._parts and self._node == "real":
            specs += [
                containerd.containerd(site, tools(CONTAINERD)),
                kubelet.kubelet(site, pki, tools(KUBERNETES)),
            ]
        if "prometheus" in self._parts:
            specs += [
                prometheus.prometheus(
                    site, services.replicas(self._replicas), self._rules, self._scrape_seconds
                )
            ]
        if "services" in self._parts:
            specs += services.services(site, self.amqp_url, self._settings, self._replicas)
        return specs


def install(parts: Collection[Part], node: NodeKind) -> None:
    """Everything that these parts need on this machine, as far as it is missing."""
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
    """End the stack of this STATE, whatever it consists of, and delete its data; the logs stay."""
    site = Site(state)
    if not site.state.exists():
        return
    with locked(site.state / "lock", busy=BUSY):
        processes = {
            record.name: process for record in Record.all(site.state) if (process := record.process())
        }
        end([processes.pop(n) for n in list(processes) if services.service_of(n)], SERVICES_GRACE_SECONDS)
        end(processes.values(), GRACE_SECONDS)
        for name, value in mark(site.state).items():
            kill(marked(f"{name}={value}"))
        leftovers.remove(site)
        site.clear()
