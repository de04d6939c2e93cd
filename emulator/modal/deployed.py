"""What the SDK sends of a function, as a definition of ours; and as its containers and callers get it."""

from __future__ import annotations

from modal_proto import api_pb2

from emulator.engine.policy import PoolLimits
from emulator.modal import facts
from emulator.modal.definitions import Definition, MakeWorker, Method, Settings

GENERATOR = api_pb2.Function.FUNCTION_TYPE_GENERATOR
NO_WEB = api_pb2.WEBHOOK_TYPE_UNSPECIFIED


def definition_of(app_name: str, function: api_pb2.Function, make_worker: MakeWorker) -> Definition:
    return Definition(
        app_name=app_name,
        name=function.function_name.removesuffix(".*"),
        is_class=function.is_class,
        methods=_methods(function),
        make_worker=make_worker,
        settings=Settings(
            limits=_limits(function),
            timeout_s=float(function.timeout_secs or facts.TIMEOUT_S),
            retry_policy=function.retry_policy,
            routing_region=function.routing_region,
        ),
        parameters=tuple(function.class_parameter_info.schema),
    )


def precreated(request: api_pb2.FunctionPrecreateRequest) -> api_pb2.Function:
    """What is known of a function before it is created, in the form that it will have."""
    return api_pb2.Function(
        function_name=request.function_name,
        function_type=request.function_type,
        webhook_config=request.webhook_config,
        method_definitions=request.method_definitions,
        is_class=request.function_name.endswith(".*"),
    )


def created(request: api_pb2.FunctionCreateRequest) -> api_pb2.Function:
    """The function of a request. With a list of GPUs it comes once for each; the first is what Modal tries first."""
    is_ranked = request.HasField("function_data")
    function: api_pb2.Function = request.function_data.ranked_functions[0].function if is_ranked else request.function
    return function


def unsupported(function: api_pb2.Function) -> list[str]:
    """What the function asks for and does not get here, in words for the person deploying."""
    asked = {
        "is a server, which is registered and not run": function.is_server,
        "has a schedule, which is never due": function.HasField("schedule"),
        "mounts volumes, which are not there": bool(function.volume_mounts or function.shared_volume_mounts),
        "mounts cloud buckets, which are not there": bool(function.cloud_bucket_mounts),
        "wants a GPU in its snapshot, which has none": _wants_gpu_snapshot(function),
        "is clustered, and gets one container": function._experimental_group_size > 1,
    }
    return [f"{function.function_name} {words}" for words, is_asked in asked.items() if is_asked]


def _wants_gpu_snapshot(function: api_pb2.Function) -> bool:
    return bool(
        function.enable_gpu_snapshot
        or function._experimental_enable_gpu_snapshot
        or function.experimental_options.get("enable_gpu_snapshot")
    )


def _methods(function: api_pb2.Function) -> dict[str, Method]:
    if not function.is_class:
        return {"": _method("", function.function_type, function.webhook_config)}
    return {
        name: _method(name, method.function_type, method.webhook_config)
        for name, method in function.method_definitions.items()
    }


def _method(name: str, kind: api_pb2.Function.FunctionType.ValueType, webhook: api_pb2.WebhookConfig) -> Method:
    return Method(
        name,
        is_generator=kind == GENERATOR,
        is_web=webhook.type != NO_WEB,
        requires_proxy_auth=webhook.requires_proxy_auth,
    )


def _limits(function: api_pb2.Function) -> PoolLimits:
    scaling = function.autoscaler_settings
    max_workers = scaling.max_containers or function.concurrency_limit or facts.MAX_CONTAINERS
    return PoolLimits(
        min_workers=min(max_workers, scaling.min_containers or function.warm_pool_size),
        max_workers=max_workers,
        concurrency=max(1, function.max_concurrent_inputs) * max(1, function.batch_max_size),
        idle_timeout_s=float(scaling.scaledown_window or function.task_idle_timeout_secs or facts.SCALEDOWN_WINDOW_S),
        buffer_workers=scaling.buffer_containers or function._experimental_buffer_containers,
    )
