"""Statuses of pods as kubelets and Kubernetes' controllers write them, each with its source.

Paths are those of kubernetes/kubernetes at v1.36.3. Numbers with `#` are issues of that repository, except
where another one is named.
"""

from dataclasses import dataclass, field
from typing import Any

from phjob_core.lifecycle import Event

Object = dict[str, Any]

STARTED_AT, FINISHED_AT = "2026-01-01T00:01:00Z", "2026-01-01T00:05:00Z"
DELETED = {"deletionTimestamp": "2026-01-01T00:05:20Z", "deletionGracePeriodSeconds": 30}
"""The metadata of a pod whose deletion was requested at 00:04:50, before its container ended."""
DELETED_LATER = {"deletionTimestamp": "2026-01-01T00:06:30Z", "deletionGracePeriodSeconds": 30}
"""The same for a deletion at 00:06:00, after its container ended."""

PREPARING, RUNNING = "Preparing", "Running"
BOTH = (PREPARING, RUNNING)

NOT_LOCATED = "The container could not be located when the pod was terminated"
USED_TO_RUN = "The container could not be located when the pod was deleted.  The container used to be Running"


@dataclass(frozen=True)
class Case:
    """A pod's status, and what it means for its job."""

    name: str
    source: str
    status: Object
    event: Event | None
    message: str = ""
    """The detail of the event: the message of the job, without what its transition adds."""
    jobs: tuple[str, ...] = BOTH
    """The phases of the job for which that is so."""
    metadata: Object = field(default_factory=dict)
    spec: Object = field(default_factory=dict)


def ended(code: int, reason: str = "Error", message: str = "", **more: Any) -> Object:
    """Return the state of a container that ran."""
    terminated = {"exitCode": code, "reason": reason, "startedAt": STARTED_AT, "finishedAt": FINISHED_AT}
    return {"terminated": {**terminated, **({"message": message} if message else {}), **more}}


def waiting(reason: str, message: str = "") -> Object:
    """Return the state of a container that has not started."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def lost(message: str = NOT_LOCATED) -> Object:
    """Return the state that a kubelet invents for a container that it cannot find."""
    return {
        "terminated": {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": message,
            "startedAt": None,
            "finishedAt": None,
        }
    }


RUNS: Object = {"running": {"startedAt": STARTED_AT}}
NOT_CREATED: Object = {"containerID": "", "restartCount": 0, "lastState": {}}
WAS_RUNNING: Object = {"containerID": "", "restartCount": 1, "lastState": lost(USED_TO_RUN)}


def container(name: str, state: Object, **more: Any) -> Object:
    """Return the status of a container."""
    return {
        "name": name,
        "state": state,
        "lastState": {},
        "restartCount": 0,
        "containerID": "" if "waiting" in state else "containerd://1f0c",
        **more,
    }


def status(phase: str, state: Object | None = None, *others: Object, **more: Any) -> Object:
    """Return the status of a pod, with the state of `main` and other containers."""
    mains = [container("main", state)] if state is not None else []
    return {"phase": phase, "containerStatuses": [*mains, *others], **more}


def condition(reason: str, message: str, kind: str = "DisruptionTarget", value: str = "True") -> Object:
    """Return a pod's condition."""
    return {"type": kind, "status": value, "reason": reason, "message": message}


def disrupted(reason: str, message: str) -> list[Object]:
    """Return the conditions of a pod that is disrupted."""
    return [condition(reason, message)]


EMPTY_DIR_FULL = {"reason": "Evicted", "message": 'Usage of EmptyDir volume "home" exceeds the limit "5Gi". '}
LOW_ON_MEMORY = (
    "The node was low on resource: memory. Threshold quantity: 750Mi, available: 225800Ki. "
    "Container main was using 4395616Ki, request is 0, has larger consumption of memory. "
)
LOW_ON_DISK = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 10057513974, available: 9670764Ki. "
)
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
DEADLINE = "Pod was active on the node longer than the specified deadline"
EVICTING = disrupted("EvictionByEvictionAPI", "Eviction API: evicting")
GC_MESSAGE = "PodGC: node no longer exists"

_EVICTIONS = (
    Case(
        "evicted: its working directory is full",
        "pkg/kubelet/eviction/eviction_manager.go, emptyDirLimitEviction; #116986",
        status("Failed", ended(137, message="epoch 3"), **EMPTY_DIR_FULL),
        Event.POD_FAILED,
        'Evicted: Usage of EmptyDir volume "home" exceeds the limit "5Gi"; exit code 137 (Error): epoch 3',
    ),
    Case(
        "evicted: its working directory is full, and its kubelet has lost the container",
        "pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses; #122160",
        {
            "phase": "Failed",
            **EMPTY_DIR_FULL,
            "containerStatuses": [container("main", lost(), **WAS_RUNNING)],
        },
        Event.POD_FAILED,
        'Evicted: Usage of EmptyDir volume "home" exceeds the limit "5Gi"; '
        f"exit code 137 (ContainerStatusUnknown): {NOT_LOCATED}",
    ),
    Case(
        "evicted: low memory (hard)",
        "pkg/kubelet/eviction/helpers.go, evictionMessage; #120182",
        status(
            "Failed",
            ended(137),
            reason="Evicted",
            message=LOW_ON_MEMORY,
            conditions=disrupted("TerminationByKubelet", LOW_ON_MEMORY),
        ),
        Event.POD_FAILED,
        f"Evicted: {LOW_ON_MEMORY.strip().rstrip('.')}; exit code 137 (Error)",
    ),
    Case(
        "evicted: low memory (soft), and the command saves a checkpoint and ends with exit code 0",
        "pkg/kubelet/eviction/eviction_manager.go, synchronize (gracePeriodOverride)",
        status("Failed", ended(0, "Completed", "saved"), reason="Evicted", message=LOW_ON_MEMORY),
        Event.POD_FAILED,
        f"Evicted: {LOW_ON_MEMORY.strip().rstrip('.')}; exit code 0 (Completed): saved",
    ),
    Case(
        "evicted: low disk, while its image is pulled",
        "pkg/kubelet/status/status_manager.go, TerminatePod; #122160",
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": LOW_ON_DISK,
            "conditions": disrupted("TerminationByKubelet", LOW_ON_DISK),
            "containerStatuses": [container("main", lost(), **NOT_CREATED)],
        },
        Event.POD_FAILED_UNSTARTED,
        f"Evicted: {LOW_ON_DISK.strip().rstrip('.')}",
        jobs=(PREPARING,),
    ),
    Case(
        "evicted: above its limit of ephemeral storage",
        "pkg/kubelet/eviction/eviction_manager.go, podEphemeralStorageLimitEviction; #141483",
        status(
            "Failed",
            ended(137),
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ",
        ),
        Event.POD_FAILED,
        "Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 10Gi; "
        "exit code 137 (Error)",
    ),
    Case(
        "rejected by a node under pressure",
        "pkg/kubelet/eviction/eviction_manager.go, Admit",
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "Pod was rejected: The node had condition: [DiskPressure]. ",
        },
        Event.POD_FAILED_UNSTARTED,
        "Evicted: Pod was rejected: The node had condition: [DiskPressure]",
        jobs=(PREPARING,),
    ),
    Case(
        "preempted by its node for a critical pod",
        "pkg/kubelet/preemption/preemption.go, evictPodsToFreeRequests",
        status(
            "Failed",
            ended(143, message="epoch 3"),
            reason="Preempting",
            message="Preempted in order to admit critical pod",
            conditions=disrupted("TerminationByKubelet", "Preempted in order to admit critical pod"),
        ),
        Event.POD_FAILED,
        "Preempting: Preempted in order to admit critical pod; exit code 143 (Error): epoch 3",
    ),
)

_DISRUPTIONS = (
    Case(
        "drained while it ran",
        "pkg/registry/core/pod/storage/eviction.go",
        status("Failed", ended(143, message="epoch 3"), conditions=EVICTING),
        Event.POD_KILLED,
        ": EvictionByEvictionAPI: Eviction API: evicting; exit code 143 (Error): epoch 3",
        metadata=DELETED,
    ),
    Case(
        "drained while its image is pulled",
        "pkg/kubelet/status/status_manager.go, TerminatePod; #122160",
        {
            "phase": "Failed",
            "conditions": EVICTING,
            "containerStatuses": [container("main", lost(), **NOT_CREATED)],
        },
        Event.POD_FAILED_UNSTARTED,
        "its pod was deleted before it started: EvictionByEvictionAPI: Eviction API: evicting",
        jobs=(PREPARING,),
        metadata=DELETED,
    ),
    Case(
        "deleted by a person while its image is pulled",
        "pkg/kubelet/status/status_manager.go, TerminatePod",
        {"phase": "Failed", "containerStatuses": [container("main", lost(), **NOT_CREATED)]},
        Event.POD_FAILED_UNSTARTED,
        "its pod was deleted before it started",
        jobs=(PREPARING,),
        metadata=DELETED,
    ),
    Case(
        "deleted by a person while it ran",
        "pkg/kubelet/kubelet.go, SyncTerminatingPod",
        status("Failed", ended(143)),
        Event.POD_KILLED,
        "; exit code 143 (Error)",
        metadata=DELETED,
    ),
    Case(
        "deleted while it ran, and it ends with exit code 0",
        "pkg/kubelet/kubelet_pods.go, getPhase",
        status("Succeeded", ended(0, "Completed")),
        Event.POD_SUCCEEDED,
        metadata=DELETED,
    ),
    Case(
        "failed by itself, then drained",
        "pkg/registry/core/pod/storage/eviction.go",
        status("Failed", ended(3), conditions=EVICTING),
        Event.POD_FAILED,
        "exit code 3 (Error)",
        metadata=DELETED_LATER,
    ),
    Case(
        "preempted by kube-scheduler",
        "pkg/scheduler/framework/preemption/executor.go",
        status(
            "Failed",
            ended(143),
            conditions=disrupted(
                "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"
            ),
        ),
        Event.POD_KILLED,
        ": PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod; "
        "exit code 143 (Error)",
        metadata=DELETED,
    ),
    Case(
        "deleted by the taint manager",
        "pkg/controller/tainteviction/taint_eviction.go",
        status(
            "Failed",
            ended(143),
            conditions=disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        ),
        Event.POD_KILLED,
        ": DeletionByTaintManager: Taint manager: deleting due to NoExecute taint; exit code 143 (Error)",
        metadata=DELETED,
    ),
    Case(
        "ended by PodGC, because its node is gone",
        "pkg/controller/podgc/gc_controller.go, markFailedAndDeletePodWithCondition",
        status("Failed", RUNS, conditions=disrupted("DeletionByPodGC", GC_MESSAGE)),
        Event.POD_KILLED,
        f": DeletionByPodGC: {GC_MESSAGE}",
    ),
    Case(
        "ended by PodGC, and nobody knows whether it started",
        "pkg/controller/podgc/gc_controller.go, markFailedAndDeletePodWithCondition",
        status(
            "Failed",
            waiting("ContainerCreating"),
            conditions=disrupted("DeletionByPodGC", GC_MESSAGE),
        ),
        Event.POD_VANISHED,
        f": DeletionByPodGC: {GC_MESSAGE}",
        jobs=(PREPARING,),
    ),
)

_NODES = (
    Case(
        "its node was shut down",
        "pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, killPods",
        status(
            "Failed",
            ended(143, message="epoch 3"),
            reason="Terminated",
            message=SHUTDOWN,
            conditions=disrupted("TerminationByKubelet", SHUTDOWN),
        ),
        Event.POD_FAILED,
        "Terminated: Pod was terminated in response to imminent node shutdown; "
        "exit code 143 (Error): epoch 3",
    ),
    Case(
        "its node was shut down while its image is pulled",
        "pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, killPods; status_manager.go, TerminatePod",
        {
            "phase": "Failed",
            "reason": "Terminated",
            "message": SHUTDOWN,
            "containerStatuses": [container("main", lost(), **NOT_CREATED)],
        },
        Event.POD_FAILED_UNSTARTED,
        "Terminated: Pod was terminated in response to imminent node shutdown",
        jobs=(PREPARING,),
    ),
    Case(
        "its node was shut down after it had succeeded",
        "pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, killPods",
        status("Succeeded", ended(0, "Completed"), reason="Terminated", message=SHUTDOWN),
        Event.POD_SUCCEEDED,
    ),
    Case(
        "rejected by a node that shuts down",
        "pkg/kubelet/nodeshutdown/nodeshutdown_manager_linux.go, Admit",
        {
            "phase": "Failed",
            "reason": "NodeShutdown",
            "message": "Pod was rejected: Pod was rejected as the node is shutting down.",
        },
        Event.POD_FAILED_UNSTARTED,
        "NodeShutdown: Pod was rejected: Pod was rejected as the node is shutting down",
        jobs=(PREPARING,),
    ),
    Case(
        "rejected by its node after a reboot: NodeAffinity",
        "pkg/kubelet/lifecycle/predicate.go, Admit; pkg/kubelet/kubelet.go, rejectPod; #92067",
        {
            "phase": "Failed",
            "reason": "NodeAffinity",
            "message": "Pod was rejected: Predicate NodeAffinity failed: "
            "node(s) didn't match Pod's node affinity/selector",
        },
        Event.POD_FAILED,
        "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: "
        "node(s) didn't match Pod's node affinity/selector",
        jobs=(RUNNING,),
    ),
    Case(
        "rejected by its node after a restart of the kubelet: UnexpectedAdmissionError",
        "pkg/kubelet/kubelet.go, rejectPod; #117955, #125579",
        {
            "phase": "Failed",
            "reason": "UnexpectedAdmissionError",
            "message": "Pod was rejected: Allocate failed due to no healthy devices present; "
            "cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
        },
        Event.POD_FAILED,
        "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to no healthy devices present; "
        "cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
        jobs=(RUNNING,),
    ),
    Case(
        "rejected by its node before its start: OutOfcpu",
        "pkg/kubelet/lifecycle/predicate.go, Admit",
        {
            "phase": "Failed",
            "reason": "OutOfcpu",
            "message": "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, "
            "used: 3800, capacity: 4000",
        },
        Event.POD_FAILED_UNSTARTED,
        "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 500, "
        "used: 3800, capacity: 4000",
        jobs=(PREPARING,),
    ),
    Case(
        "over its own deadline",
        "pkg/kubelet/active_deadline.go, ShouldEvict",
        status("Failed", ended(143, message="epoch 3"), reason="DeadlineExceeded", message=DEADLINE),
        Event.POD_OVER_DEADLINE,
        "its pod was active longer than 60 s, the pod's own deadline, and Kubernetes ended it; "
        "exit code 143 (Error): epoch 3",
        spec={"activeDeadlineSeconds": 60},
    ),
    Case(
        "over its own deadline before its start",
        "pkg/kubelet/active_deadline.go, ShouldEvict; status_manager.go, TerminatePod",
        {
            "phase": "Failed",
            "reason": "DeadlineExceeded",
            "message": DEADLINE,
            "containerStatuses": [container("main", lost(), **NOT_CREATED)],
        },
        Event.POD_FAILED_UNSTARTED,
        f"DeadlineExceeded: {DEADLINE}",
        jobs=(PREPARING,),
        spec={"activeDeadlineSeconds": 60},
    ),
)

_CONTAINERS = (
    Case(
        "succeeded",
        "pkg/kubelet/kubelet_pods.go, getPhase",
        status("Succeeded", ended(0, "Completed")),
        Event.POD_SUCCEEDED,
    ),
    Case(
        "failed",
        "pkg/kubelet/kubelet_pods.go, getPhase",
        status("Failed", ended(3, message="no data found\n")),
        Event.POD_FAILED,
        "exit code 3 (Error): no data found",
    ),
    Case(
        "out of memory",
        "containerd/containerd internal/cri/server/container_status.go, toCRIContainerStatus",
        status("Failed", ended(137, "OOMKilled")),
        Event.POD_FAILED,
        "exit code 137 (OOMKilled)",
    ),
    Case(
        "a child process out of memory, and the command fails by that",
        "containerd/containerd internal/cri/server/events.go (TaskOOM); #117070",
        status("Failed", ended(1, "OOMKilled", "worker died")),
        Event.POD_FAILED,
        "exit code 1 (OOMKilled): worker died",
    ),
    Case(
        "a child process out of memory, and the command succeeds",
        "containerd/containerd internal/cri/server/events.go (TaskOOM); #117070",
        status("Succeeded", ended(0, "OOMKilled")),
        Event.POD_SUCCEEDED,
        "; one of its processes was killed for lack of memory",
    ),
    Case(
        "its image has no shell",
        "containerd/containerd internal/cri/server/container_start.go (StartError)",
        status("Failed", ended(128, "StartError", startedAt="1970-01-01T00:00:00Z")),
        Event.POD_FAILED,
        "exit code 128 (StartError)",
    ),
    Case(
        "its container was lost with its node's runtime",
        "pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses",
        {
            "phase": "Failed",
            "containerStatuses": [container("main", waiting("ContainerCreating"), **WAS_RUNNING)],
        },
        Event.POD_FAILED,
        f"exit code 137 (ContainerStatusUnknown): {USED_TO_RUN}",
    ),
    Case(
        "its container was lost, and the kubelet remembers that it ran",
        "pkg/kubelet/kubelet_pods.go, convertContainerStatus (ContainerStateUnknown)",
        {
            "phase": "Failed",
            "containerStatuses": [container("main", lost(), restartCount=1, containerID="containerd://1f0c")],
        },
        Event.POD_FAILED,
        f"exit code 137 (ContainerStatusUnknown): {NOT_LOCATED}",
    ),
)

PROXY = container("istio-proxy", RUNS)
_OTHER_CONTAINERS = (
    Case(
        "succeeded, and an injected sidecar runs on",
        "istio/istio#11045, #25908",
        status("Running", ended(0, "Completed"), PROXY),
        Event.POD_SUCCEEDED,
        "; its pod is deleted, because its container istio-proxy runs on",
    ),
    Case(
        "failed, and an injected sidecar runs on",
        "istio/istio#6324",
        status("Running", ended(3, message="no data found"), PROXY),
        Event.POD_FAILED,
        "exit code 3 (Error); its pod is deleted, because its container istio-proxy runs on: no data found",
    ),
    Case(
        "failed, and an injected container cannot start",
        "pkg/kubelet/kubelet_pods.go, getPhase (waiting > 0)",
        status("Pending", ended(3), container("istio-proxy", waiting("ImagePullBackOff"))),
        Event.POD_FAILED,
        "exit code 3 (Error); its pod is deleted, because its container istio-proxy runs on",
    ),
    Case(
        "succeeded, and an injected sidecar failed after it",
        "istio/istio#19072",
        status("Failed", ended(0, "Completed"), container("istio-proxy", ended(137))),
        Event.POD_SUCCEEDED,
    ),
    Case(
        "failed, and an injected sidecar succeeded",
        "pkg/kubelet/kubelet_pods.go, getPhase",
        status("Failed", ended(3), container("vault-agent", ended(0, "Completed"))),
        Event.POD_FAILED,
        "exit code 3 (Error)",
    ),
    Case(
        "drained, and its sidecar runs on",
        "pkg/registry/core/pod/storage/eviction.go",
        status("Running", ended(143), PROXY, conditions=EVICTING),
        Event.POD_KILLED,
        ": EvictionByEvictionAPI: Eviction API: evicting; exit code 143 (Error)",
        metadata=DELETED,
    ),
    Case(
        "an injected init container failed",
        "pkg/kubelet/kubelet_pods.go, getPhase (failedInitialization)",
        {
            **status("Failed", waiting("PodInitializing")),
            "initContainerStatuses": [container("vault-agent-init", ended(1, message="permission denied"))],
        },
        Event.POD_FAILED_UNSTARTED,
        "init container vault-agent-init failed: exit code 1 (Error)",
        jobs=(PREPARING,),
    ),
)

_GOING_ON = (
    Case("it runs", "pkg/kubelet/kubelet_pods.go, getPhase", status("Running", RUNS), Event.POD_RUNNING),
    Case(
        "it runs, and an injected container waits",
        "pkg/kubelet/kubelet_pods.go, getPhase (waiting > 0)",
        status("Pending", RUNS, container("istio-proxy", waiting("ContainerCreating"))),
        Event.POD_RUNNING,
    ),
    Case(
        "its command has ended, and the kubelet has not reported the pod's end yet",
        "pkg/kubelet/status/status_manager.go, mergePodStatus (couldHaveRunningContainers)",
        status("Running", ended(0, "Completed")),
        Event.POD_RUNNING,
    ),
    Case(
        "its command has ended, and its sidecar in Kubernetes' sense ends next",
        "istio.io#13632; pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions",
        {**status("Running", ended(3)), "initContainerStatuses": [PROXY]},
        Event.POD_RUNNING,
    ),
    *(
        Case(
            f"it waits: {reason}",
            source,
            {**status("Pending", waiting(reason)), **more},
            None,
            jobs=(PREPARING,),
        )
        for reason, source, more in (
            ("ContainerCreating", "pkg/kubelet/kubelet_pods.go", {}),
            ("ErrImagePull", "pkg/kubelet/images/types.go", {}),
            ("ImagePullBackOff", "pkg/kubelet/images/types.go", {}),
            ("InvalidImageName", "pkg/kubelet/images/types.go", {}),
            ("CreateContainerConfigError", "pkg/kubelet/kuberuntime/kuberuntime_container.go", {}),
            (
                "PodInitializing",
                "pkg/kubelet/kubelet_pods.go",
                {"initContainerStatuses": [container("istio-proxy", waiting("CrashLoopBackOff"))]},
            ),
        )
    ),
    Case(
        "it has no node",
        "pkg/scheduler/schedule_one.go",
        {
            "phase": "Pending",
            "conditions": [condition("Unschedulable", "0/3 nodes are available", "PodScheduled", "False")],
        },
        None,
        jobs=(PREPARING,),
    ),
    Case("its node does not answer", "pkg/apis/core/types.go", {"phase": "Unknown"}, None),
)

CASES: tuple[Case, ...] = (
    *_EVICTIONS,
    *_DISRUPTIONS,
    *_NODES,
    *_CONTAINERS,
    *_OTHER_CONTAINERS,
    *_GOING_ON,
)
