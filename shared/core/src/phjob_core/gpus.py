"""Which resources count as `gpu`, and what a pod counts against a quota (spec.md, S3). Pure.

Every vendor and every way to share a GPU has a resource name of its own. The names come from the public
device plugins of the vendors, from GKE, EKS and KubeVirt, and from HAMi and Volcano, which share GPUs.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from phjob_core.quantities import GPU, Amounts

NOT = "!"
"""The first character of a pattern whose names do not count, although an earlier pattern has them."""
MAX_KNOWN_NAMES = 1_000
"""The number of names whose answer is kept. Without a bound, users who invent names would fill the memory."""

DEFAULT_PATTERNS = (
    "*/*gpu", "*/*gpu.shared", "*/npu", "*/tpu", "*/xpu", "*/vxpu",  # `nvidia.com/gpu`, `.../vgpu`, and so on
    "nvidia.com/mig-*", "nvidia.com/gpu-*", "nvidia.com/[A-Z]*",  # slices, and whole GPUs for KubeVirt
    "amd.com/gpu_?f", "amd.com/?px_nps?", "amd.com/[A-Z]*",
    "gpu.*/*", "!gpu.*/*monitoring", "!gpu.*/millicores", "!gpu.*/memory.max", "!gpu.*/tiles",  # Intel
    "intel.com/gaudi*", "habana.ai/*",
    "google.com/tpu", "cloud-tpus.google.com/*",
    "aws.amazon.com/neuron*",
    "huawei.com/Ascend*", "!huawei.com/*-memory", "!huawei.com/*-core",
    "cambricon.com/*", "!cambricon.com/*.vcore", "!cambricon.com/*.vmemory",
    "furiosa.ai/*", "*.furiosa.ai/*", "rebellions.ai/*", "tenstorrent.com/*", "qualcomm.com/qaic*",
    "hygon.com/?cu", "hygon.com/?cunum", "enflame.com/*gcu", "vastaitech.com/va",
    "volcano.sh/gpu-number", "volcano.sh/vgpu-number", "aliyun.com/gpu-count",
    "deviceclass.resource.kubernetes.io/*gpu*",
)  # fmt: skip
"""Patterns of the resources that count, in the form of `jobSubmission.gpuResourceNames`.

A share of a GPU's memory or cores, such as HAMi's `nvidia.com/gpumem`, is no device and does not count.
"""
_SAME_DEVICE: Mapping[str, str] = {
    "aws.amazon.com/neuroncore": "aws.amazon.com/neuron",
    "aws.amazon.com/neurondevice": "aws.amazon.com/neuron",
}
"""The names that are another name of a device, with that name. Of both in one pod, the larger counts."""


class GpuResources:
    """The resources that count as `gpu` in one installation."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """`patterns` are an administrator's own. They follow the defaults, and the last match counts."""
        self.own_patterns = tuple(patterns)
        self._patterns = (*DEFAULT_PATTERNS, *self.own_patterns)
        self._is_matched = lru_cache(MAX_KNOWN_NAMES)(self._match)

    def counts(self, resource: str, named: str = "") -> bool:
        """Return whether a resource counts as `gpu`.

        `named` is the resource that `limits.gpu` of the job's instance type means. It counts in any case.
        """
        return self._is_matched(resource) or (bool(named) and resource == named)

    def charge(self, limits: Amounts, named: str = "") -> dict[str, int]:
        """Return what a pod with these limits counts: each limit, and the sum of its GPUs as `gpu`.

        `named` is as in `counts`. A GPU that has two names counts once.
        """
        charge = {resource: amount for resource, amount in limits.items() if amount}
        devices: dict[str, int] = {}
        for resource, amount in charge.items():
            if self.counts(resource, named):
                device = _SAME_DEVICE.get(resource, resource)
                devices[device] = max(devices.get(device, 0), amount)
        if devices:
            charge[GPU] = sum(devices.values())
        return charge

    def known_names(self) -> int:
        """Return the number of names whose answer is kept."""
        return self._is_matched.cache_info().currsize

    def _match(self, resource: str) -> bool:
        """Return whether the last pattern that a name matches lets it count.

        Only an extended resource has a domain. Without the test, the pattern `*` would mean CPUs, too.
        """
        if "/" not in resource:
            return False
        matched = (
            not pattern.startswith(NOT)
            for pattern in reversed(self._patterns)
            if fnmatchcase(resource, pattern.removeprefix(NOT))
        )
        return next(matched, False)
