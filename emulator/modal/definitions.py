"""What is deployed: apps' functions and classes, as a deploy or this process defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modal_proto import api_pb2

from emulator.engine.policy import PoolLimits
from emulator.engine.worker import Worker
from emulator.modal import facts


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a class; of a function, which has but one, the name is empty. A web method serves HTTP, and nothing
    else."""

    name: str = ""
    is_generator: bool = False
    is_web: bool = False
    requires_proxy_auth: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """How calls are served."""

    limits: PoolLimits = field(default_factory=PoolLimits)
    timeout_s: float = facts.TIMEOUT_S
    retry_policy: api_pb2.FunctionRetryPolicy = field(default_factory=api_pb2.FunctionRetryPolicy)
    routing_region: str = ""

    @property
    def has_input_plane(self) -> bool:
        """Whether calls go to a region's input plane, and not through the control plane."""
        return self.routing_region not in ("", facts.CONTROL_PLANE_REGION)

    def with_options(self, options: api_pb2.FunctionOptions) -> Settings:
        """As `with_options`, `with_concurrency` and `with_batching` ask. Of resources, secrets, volumes and batches
        nothing is left to do for containers in this process."""
        limits = replace(
            self.limits,
            max_workers=options.concurrency_limit or self.limits.max_workers,
            concurrency=options.max_concurrent_inputs or self.limits.concurrency,
            buffer_workers=options.buffer_containers or self.limits.buffer_workers,
            idle_timeout_s=float(options.task_idle_timeout_secs or self.limits.idle_timeout_s),
            min_workers=0,  # the base's containers are kept warm, a variant's are not
        )
        return Settings(
            limits,
            float(options.timeout_secs or self.timeout_s),
            options.retry_policy if options.HasField("retry_policy") else self.retry_policy,
            options.routing_region or self.routing_region,
        )


@dataclass(frozen=True, slots=True)
class Binding:
    """Which instance of a class containers serve: its `modal.parameter`s, and what `with_options` changed."""

    function_id: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    serialized_parameters: bytes = b""
    options: api_pb2.FunctionOptions = field(default_factory=api_pb2.FunctionOptions)


MakeWorker = Callable[[str, Binding], Worker]
"""Makes a container, or what stands for one, from its id and what it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A function, or a class with its methods, of an app. Methods of one class share their containers."""

    app_name: str
    name: str
    is_class: bool
    methods: Mapping[str, Method]
    make_worker: MakeWorker
    settings: Settings = field(default_factory=Settings)
    parameters: tuple[api_pb2.ClassParameterSpec, ...] = ()

    @property
    def tag(self) -> str:
        """The name under which it is looked up. A class is served by one function, which the SDK calls `TTS.*`."""
        return f"{self.name}.*" if self.is_class else self.name
