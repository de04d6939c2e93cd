"""`GET /v2/catalog/…`: the hardware that endpoints are made of. Pools from RunPod's documentation
(`references/gpu-types`, `flash/configuration/cpu-types`), prices of serverless GPUs per second from its pricing table
[DOCS]; what a vCPU costs is the OpenAPI document's example [V2]. Real prices change: ask the real catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class GpuType:
    """`memory_gb` of one; `usd_per_s` is the serverless price of its pool."""

    gpu_id: str
    name: str
    pool: str
    memory_gb: int
    usd_per_s: float


GPUS = (
    GpuType("NVIDIA RTX A4000", "RTX A4000", "AMPERE_16", 16, 0.00016),
    GpuType("NVIDIA RTX A4500", "RTX A4500", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA RTX 4000 Ada Generation", "RTX 4000 Ada", "AMPERE_16", 20, 0.00016),
    GpuType("NVIDIA L4", "L4", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA RTX A5000", "RTX A5000", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 3090", "RTX 3090", "AMPERE_24", 24, 0.00019),
    GpuType("NVIDIA GeForce RTX 4090", "RTX 4090", "ADA_24", 24, 0.00031),
    GpuType("NVIDIA RTX A6000", "RTX A6000", "AMPERE_48", 48, 0.00034),
    GpuType("NVIDIA A40", "A40", "AMPERE_48", 48, 0.00034),
    GpuType("NVIDIA L40", "L40", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA L40S", "L40S", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "ADA_48_PRO", 48, 0.00053),
    GpuType("NVIDIA A100 80GB PCIe", "A100 PCIe", "AMPERE_80", 80, 0.00076),
    GpuType("NVIDIA A100-SXM4-80GB", "A100 SXM", "AMPERE_80", 80, 0.00076),
    GpuType("NVIDIA H100 80GB HBM3", "H100 SXM", "ADA_80_PRO", 80, 0.00116),
    GpuType("NVIDIA H100 PCIe", "H100 PCIe", "ADA_80_PRO", 80, 0.00116),
    GpuType("NVIDIA H200", "H200 SXM", "HOPPER_141", 141, 0.00155),
)
POOLS = frozenset(gpu.pool for gpu in GPUS)


@dataclass(frozen=True, slots=True)
class CpuFlavour:
    flavour_id: str
    name: str
    group: str
    ram_gb_per_vcpu: int
    min_vcpu: int = 2
    max_vcpu: int = 32
    usd_per_vcpu_hour: float = 0.03


CPUS = (
    CpuFlavour("cpu3c", "Compute-Optimized", "Gen 3", 2),
    CpuFlavour("cpu3g", "General Purpose", "Gen 3", 4),
    CpuFlavour("cpu5c", "Compute-Optimized", "Gen 5", 2),
    CpuFlavour("cpu5g", "General Purpose", "Gen 5", 4),
)
_FLAVOURS = {flavour.flavour_id: flavour for flavour in CPUS}


def flavour(flavour_id: str) -> CpuFlavour | None:
    return _FLAVOURS.get(flavour_id)


def gpu_types() -> list[dict[str, Any]]:
    return [_gpu(gpu) for gpu in GPUS]


def cpu_types() -> list[dict[str, Any]]:
    return [_cpu(cpu) for cpu in CPUS]


def _gpu(gpu: GpuType) -> dict[str, Any]:
    per_hour = round(gpu.usd_per_s * _SECONDS_PER_HOUR, 4)
    return {
        "id": gpu.gpu_id,
        "name": gpu.name,
        "pool": gpu.pool,
        "manufacturer": "NVIDIA",
        "memory": gpu.memory_gb,
        "secure": True,
        "community": False,
        "price": {"secure": per_hour, "community": per_hour, "serverless": per_hour},
        "maxCount": {"secure": 8, "community": 1},
    }


def _cpu(cpu: CpuFlavour) -> dict[str, Any]:
    return {
        "id": cpu.flavour_id,
        "name": cpu.name,
        "group": cpu.group,
        "vcpu": {"min": cpu.min_vcpu, "max": cpu.max_vcpu},
        "ramGbPerVcpu": cpu.ram_gb_per_vcpu,
        "price": {"securePerVcpu": cpu.usd_per_vcpu_hour, "serverlessPerVcpu": cpu.usd_per_vcpu_hour},
    }
