"""What an endpoint is to be like, from the function's spec: the body of `POST /v2/serverless`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec

Json = dict[str, Any]
EndpointType = Literal["queue", "load_balancer"]
Compute = Literal["gpu", "cpu"]

PORT = 8000
QUEUE_ARGS = "python -u -m yapit.workers.handlers.runpod"
LOAD_BALANCER_ARGS = "python -u -m yapit.workers.handlers.local"
HEALTH_PATH = "/ping"
WORKER_LOOP_ENVIRONMENT = {"RUNPOD_LOG_LEVEL": "INFO", "RUNPOD_MIN_MEMORY_GB": "1"}
"""Of RunPod's own loop (runpod 1.12.0): by default it writes all audio into the log, and a worker that finds less than
4 GB of free memory ends itself at once, as the smallest CPU workers would."""
MIN_TIMEOUT_MS = 5_000  # [DOCS]
MAX_IDLE_TIMEOUT_S = 3_600  # [V2]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`registry` is the id of the credentials that the image is pulled with, if it takes any."""

    spec: FunctionSpec
    type: EndpointType
    compute: Compute
    image: str
    registry: str | None = None

    @property
    def name(self) -> str:
        """Of the endpoint at RunPod."""
        return f"{self.spec.deployment_name}{self._suffix}"

    @property
    def slug(self) -> str:
        """Of its route."""
        return f"{self.spec.name}-runpod{self._suffix}"

    @property
    def registry_host(self) -> str:
        """Which the credentials are named after: what stands before the first slash, or else Docker's."""
        host, slash, _ = self.image.partition("/")
        return host if slash and ("." in host or ":" in host) else "docker.io"

    @property
    def _suffix(self) -> str:
        return "" if self.type == "queue" else "-lb"

    def body(self) -> Json:
        """Whatever has a default there is said: it is not the one of the documentation (a `timeout` left out came back
        as 0, FlashBoot as OFF; golden path "migrate", 18 August 2026)."""
        spec, hardware = self.spec, self.spec.runpod
        is_queue = self.type == "queue"
        return {
            "name": self.name,
            "type": "QUEUE" if is_queue else "LOAD_BALANCER",
            "image": self.image,
            "args": QUEUE_ARGS if is_queue else LOAD_BALANCER_ARGS,
            "disk": hardware.disk_gb,
            "env": self._environment(),
            "ports": [] if is_queue else [f"{PORT}/http"],
            **({"registry": self.registry} if self.registry else {}),
            **self._hardware(),
            "workers": {
                "min": spec.scaling.min_workers,
                "max": spec.scaling.max_workers,
                "idleTimeout": min(MAX_IDLE_TIMEOUT_S, math.ceil(spec.scaling.idle_timeout_s)),
            },
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": spec.scaling.queue_delay_s}
            if is_queue
            else {"type": "REQUEST_COUNT", "requestCount": spec.scaling.concurrency},
            "timeout": max(MIN_TIMEOUT_MS, math.ceil((spec.timeouts.cold_start_s + spec.timeouts.job_s) * 1000)),
            "flashboot": "FLASHBOOT" if hardware.flashboot else "OFF",
            **({"dataCenterIds": hardware.data_centers} if hardware.data_centers else {}),
        }

    def _environment(self) -> dict[str, str]:
        env = {"ADAPTER_CLASS": self.spec.adapter_class}
        if self.type == "queue":
            return env | WORKER_LOOP_ENVIRONMENT
        # both ports: with PORT_HEALTH left to its default the health check failed live (golden path 14)
        return env | {"HOST": "0.0.0.0", "PORT": str(PORT), "PORT_HEALTH": str(PORT), "HEALTH_CHECK_PATH": HEALTH_PATH}

    def _hardware(self) -> Json:
        hardware = self.spec.runpod
        if self.compute == "cpu":
            return {"cpu": [{"id": hardware.cpu_flavour, "vcpuCount": hardware.vcpus}]}
        if not hardware.gpu_pools:
            raise ConfigurationError(
                f"{self.spec.name} names no GPU: set gpu_pools in [tool.yapit.function.runpod] of its pyproject.toml, "
                'for example gpu_pools = ["AMPERE_24", "ADA_24"], or deploy with COMPUTE=cpu'
            )
        floor = {"minCudaVersion": hardware.min_cuda} if hardware.min_cuda else {}
        return {"gpu": {"pools": hardware.gpu_pools, "count": hardware.gpu_count, **floor}}

    def route(self, endpoint_id: str) -> Json:
        """The entry of `tts_processors.json`."""
        entry = {
            "slug": self.slug,
            "function": self.spec.name,
            "processor": "yapit.gateway.processors.tts.runpod.RunpodProcessor",
            "runpod_endpoint_id": endpoint_id,
        }
        return entry if self.type == "queue" else {**entry, "endpoint_type": "load_balancer"}
