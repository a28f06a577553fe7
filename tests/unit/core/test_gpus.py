import pytest

from phjob_core.gpus import MAX_KNOWN_NAMES, GpuResources


@pytest.mark.parametrize(
    "resource",
    [
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",  # Time-slicing with renameByDefault, and MPS.
        "nvidia.com/mig-1g.5gb",
        "nvidia.com/mig-1g.5gb.shared",
        "nvidia.com/vgpu",
        "nvidia.com/pgpu",
        "nvidia.com/GA102GL_A10",  # A whole GPU for KubeVirt.
        "nvidia.com/TU104GL_Tesla_T4",
        "nvidia.com/GRID_T4-1Q",
        "amd.com/gpu",
        "amd.com/gpu_vf",
        "amd.com/cpx_nps4",
        "amd.com/spx_nps1",
        "gpu.intel.com/i915",
        "gpu.intel.com/xe",
        "intel.com/gaudi",
        "habana.ai/gaudi",
        "google.com/tpu",
        "cloud-tpus.google.com/v3",
        "aws.amazon.com/neuron",
        "aws.amazon.com/neuroncore",
        "huawei.com/Ascend910",
        "huawei.com/Ascend310P",
        "huawei.com/Ascend910-2c",
        "huawei.com/npu",
        "cambricon.com/mlu",
        "cambricon.com/mlu370",
        "cambricon.com/vmlu",
        "furiosa.ai/rngd",
        "beta.furiosa.ai/npu",
        "rebellions.ai/ATOM",
        "tenstorrent.com/n150",
        "qualcomm.com/qaic",
        "hygon.com/dcunum",
        "iluvatar.ai/MR-V100-vgpu",
        "metax-tech.com/sgpu",
        "mthreads.com/vgpu",
        "enflame.com/vgcu",
        "kunlunxin.com/xpu",
        "volcano.sh/vgpu-number",
        "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
    ],
)
def test_a_device_of_any_vendor_counts_as_gpu(resource: str) -> None:
    """A group with a GPU quota cannot get around it by another device plugin (spec.md, S3)."""
    assert GpuResources().charge({"cpu": 1, resource: 2}) == {"cpu": 1, resource: 2, "gpu": 2}


@pytest.mark.parametrize(
    "resource",
    [
        "cpu",
        "memory",
        "hugepages-2Mi",
        "nvidia.com/gpumem",
        "nvidia.com/gpumem-percentage",
        "nvidia.com/gpucores",
        "nvidia.com/priority",
        "nvidia.com/hostdev",
        "amd.com/gpucores",
        "amd.com/gpumem",
        "amd.com/nic",
        "gpu.intel.com/millicores",
        "gpu.intel.com/memory.max",
        "gpu.intel.com/tiles",
        "gpu.intel.com/i915_monitoring",
        "gpu.intel.com/monitoring",
        "huawei.com/Ascend910B-memory",
        "huawei.com/Ascend910B-core",
        "cambricon.com/mlu.smlu.vcore",
        "cambricon.com/mlu.smlu.vmemory",
        "hygon.com/dcumem",
        "iluvatar.ai/MR-V100.vMem",
        "mthreads.com/sgpu-memory",
        "metax-tech.com/vcore",
        "enflame.com/gcu-memory",
        "aliyun.com/gpu-mem",
        "smarter-devices/fuse",
        "rdma/hca_shared_devices_a",
        "example.com/accelerator",
    ],
)
def test_what_is_no_device_does_not_count_as_gpu(resource: str) -> None:
    """3000 MiB of a GPU's memory are not 3000 GPUs."""
    assert GpuResources().charge({resource: 3000}) == {resource: 3000}


def test_a_pod_of_hami_counts_its_devices_once() -> None:
    """It names the device, and what it gets of the device's memory and cores."""
    limits = {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000, "nvidia.com/gpucores": 50}
    assert GpuResources().charge(limits)["gpu"] == 1


def test_a_device_with_two_names_counts_once() -> None:
    """AWS has one name for the device and one for its cores. The larger number counts."""
    gpus = GpuResources()
    assert gpus.charge({"aws.amazon.com/neuron": 1, "aws.amazon.com/neuroncore": 2})["gpu"] == 2
    assert gpus.charge({"aws.amazon.com/neuron": 1, "aws.amazon.com/neurondevice": 1})["gpu"] == 1


def test_different_devices_of_one_pod_are_added_up() -> None:
    """Each is a device of its own."""
    limits = {"nvidia.com/gpu": 1, "amd.com/gpu": 2, "nvidia.com/mig-1g.5gb": 1}
    assert GpuResources().charge(limits)["gpu"] == 4


def test_the_resource_of_limits_gpu_counts_whatever_its_name_and_once() -> None:
    """An administrator has said that it is a GPU (spec.md, S3)."""
    gpus = GpuResources()
    assert gpus.charge({"example.com/accelerator": 2}, "example.com/accelerator")["gpu"] == 2
    assert gpus.charge({"nvidia.com/gpu": 2}, "nvidia.com/gpu")["gpu"] == 2
    assert "gpu" not in gpus.charge({"example.com/accelerator": 0}, "example.com/accelerator")


def test_a_pod_without_gpus_is_charged_no_gpu() -> None:
    """A quota of 0 GPUs must not block it. A limit of 0 is no charge either."""
    assert GpuResources().charge({"cpu": 500, "nvidia.com/gpu": 0}) == {"cpu": 500}


def test_an_administrator_adds_and_excludes_names() -> None:
    """The last pattern that matches counts, and the defaults come first."""
    gpus = GpuResources(["example.com/a*", "!example.com/a-share", "!nvidia.com/mig-*", "nvidia.com/mig-7g*"])
    counted = {
        name
        for name in (
            "example.com/a1", "example.com/a-share", "nvidia.com/mig-1g.5gb", "nvidia.com/mig-7g.80gb",
            "nvidia.com/gpu",
        )
        if gpus.counts(name)
    }  # fmt: skip
    assert counted == {"example.com/a1", "nvidia.com/mig-7g.80gb", "nvidia.com/gpu"}


def test_an_administrator_can_replace_the_whole_list() -> None:
    """As PrimeHub counts, for example: one name only."""
    gpus = GpuResources(["!*/*", "nvidia.com/gpu"])
    assert gpus.charge({"nvidia.com/gpu": 1, "amd.com/gpu": 1, "nvidia.com/mig-1g.5gb": 1})["gpu"] == 1


def test_patterns_heed_case_and_mean_extended_resources_only() -> None:
    """Names of resources are case-sensitive. A pattern for everything must not make CPUs GPUs."""
    assert GpuResources().counts("nvidia.com/GA102GL_A10")
    assert not GpuResources().counts("nvidia.com/ga102gl_a10")
    assert GpuResources(["*/*"]).charge({"cpu": 1, "example.com/x": 1}) == {
        "cpu": 1,
        "example.com/x": 1,
        "gpu": 1,
    }


def test_invented_names_do_not_fill_the_memory() -> None:
    """A user may put any name into a pod. The right answers stay right."""
    gpus = GpuResources()
    for number in range(2 * MAX_KNOWN_NAMES):
        assert not gpus.counts(f"example.com/{number}")
    assert gpus.known_names() <= MAX_KNOWN_NAMES
    assert gpus.counts("nvidia.com/gpu")
