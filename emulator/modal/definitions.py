"""What is deployed: apps' functions and classes, as a deploy or this process registers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modal_proto import api_pb2

from emulator.engine.pool import PoolLimits
from emulator.engine.worker import Worker
from emulator.modal import facts

Parameters = Mapping[str, Any]
"""Values of `modal.parameter`s, by name."""
MakeWorker = Callable[[str, Parameters], Worker]
"""Makes a container, or what stands for one, from its id and the parameters of the instance that it serves."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a class; of a function, which has but one, the name is empty."""

    name: str = ""
    is_generator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A function, or a class with its methods, of an app. Methods of one class share their containers."""

    app_name: str
    name: str
    is_class: bool
    methods: Mapping[str, Method]
    make_worker: MakeWorker
    limits: PoolLimits = field(default_factory=PoolLimits)
    timeout_s: float = facts.TIMEOUT_S
    parameters: tuple[api_pb2.ClassParameterSpec, ...] = ()
    retry_policy: api_pb2.FunctionRetryPolicy = field(default_factory=api_pb2.FunctionRetryPolicy)

    @property
    def tag(self) -> str:
        """The name under which it is looked up. A class is served by one function, which the SDK calls `TTS.*`."""
        return f"{self.name}.*" if self.is_class else self.name
