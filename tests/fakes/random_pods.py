"""Random statuses of pods, for property tests: real ones, real ones with odd parts, and nonsense."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.fakes.pod_statuses import CASES

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3), max_size=2),
)
_TIMES = st.sampled_from(
    [
        "2026-01-01T00:00:01Z",
        "2026-01-01T00:05:00Z",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "2026-01-01T00:00:01",
        "soon",
    ]
)
_REASONS = st.sampled_from(
    [
        "Evicted", "Terminated", "NodeShutdown", "Preempting", "DeadlineExceeded", "NodeAffinity", "OutOfcpu",
        "UnexpectedAdmissionError", "Error", "Completed", "OOMKilled", "ContainerStatusUnknown", "StartError",
        "ContainerCreating", "PodInitializing", "ImagePullBackOff", "DeletionByPodGC",
        "EvictionByEvictionAPI", "", "x" * 300,
    ]
)  # fmt: skip
_TEXTS = st.sampled_from(["", "a message. ", "x" * 5000])


def _fields(**fields: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    """Return objects that have any of the fields, each with its usual type or with any other."""
    return st.fixed_dictionaries({}, optional={name: values | _JUNK for name, values in fields.items()})


_ENDED = _fields(
    exitCode=st.sampled_from([0, 0, 1, 3, 128, 137, 143]),
    reason=_REASONS,
    message=_TEXTS,
    startedAt=_TIMES,
    finishedAt=_TIMES,
)
_STATES = _fields(
    terminated=_ENDED, running=_fields(startedAt=_TIMES), waiting=_fields(reason=_REASONS, message=_TEXTS)
)
_CONTAINERS = st.lists(
    _fields(
        name=st.sampled_from(["main", "main", "istio-proxy", "vault-agent"]),
        state=_STATES,
        lastState=_STATES,
        restartCount=st.integers(0, 3),
        containerID=st.sampled_from(["", "containerd://1f0c"]),
    )
    | _JUNK,
    max_size=3,
)
_CONDITIONS = st.lists(
    _fields(
        type=st.sampled_from(["DisruptionTarget", "PodScheduled", "Ready"]),
        status=st.sampled_from(["True", "False"]),
        reason=_REASONS,
        message=_TEXTS,
    )
    | _JUNK,
    max_size=3,
)


def statuses() -> SearchStrategy[Any]:
    """Return the statuses of pods."""
    return st.one_of(
        st.sampled_from([case.status for case in CASES]),
        _fields(
            phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown", "Exploded"]),
            reason=_REASONS,
            message=_TEXTS,
            conditions=_CONDITIONS,
            containerStatuses=_CONTAINERS,
            initContainerStatuses=_CONTAINERS,
        ),
        _JUNK,
    )


def metadata_changes() -> SearchStrategy[dict[str, Any]]:
    """Return what other programs than PhJob may do to the metadata of a pod: request its deletion."""
    return st.sampled_from(
        [
            {},
            {"deletionTimestamp": "2026-01-01T00:05:20Z", "deletionGracePeriodSeconds": 30},
            {"deletionTimestamp": "9999-12-31T23:59:59Z", "deletionGracePeriodSeconds": 99_999_999_999},
        ]
    )
