"""`Function.autoscaler` and `get_current_stats`."""

from __future__ import annotations

from dataclasses import replace

from modal_proto import api_pb2

from emulator.engine.policy import PoolLimits
from emulator.modal.intake import Intake
from emulator.modal.rpc import Caller, Handlers


class Autoscaler:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def handlers(self) -> Handlers:
        return {
            "FunctionGetCurrentStats": self.current_stats,
            "FunctionGetSchedulingParams": self.settings,
            "FunctionUpdateSchedulingParams": self.update,
        }

    async def current_stats(self, request: api_pb2.FunctionGetCurrentStatsRequest, _: Caller) -> api_pb2.FunctionStats:
        pool = self._intake.function(request.function_id).pool
        workers = pool.workers().total()
        return api_pb2.FunctionStats(
            backlog=pool.queued,
            num_total_tasks=workers,
            num_running_inputs=pool.running,
            input_headroom=max(0, workers * pool.limits.concurrency - pool.running),
        )

    async def settings(
        self, request: api_pb2.FunctionGetSchedulingParamsRequest, _: Caller
    ) -> api_pb2.FunctionGetSchedulingParamsResponse:
        pool = self._intake.function(request.function_id).pool
        configuration = api_pb2.AutoscalerConfiguration(settings=_told(pool.limits))
        return api_pb2.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)

    async def update(
        self, request: api_pb2.FunctionUpdateSchedulingParamsRequest, _: Caller
    ) -> api_pb2.FunctionUpdateSchedulingParamsResponse:
        """Until the next deploy."""
        pool, wanted = self._intake.function(request.function_id).pool, request.settings
        if wanted.HasField("min_containers"):
            pool.limits = replace(pool.limits, min_workers=wanted.min_containers)
        if wanted.HasField("max_containers"):
            pool.limits = replace(pool.limits, max_workers=wanted.max_containers or pool.limits.max_workers)
        if wanted.HasField("buffer_containers"):
            pool.limits = replace(pool.limits, buffer_workers=wanted.buffer_containers)
        if wanted.HasField("scaledown_window"):
            pool.limits = replace(pool.limits, idle_timeout_s=float(wanted.scaledown_window))
        pool.open()
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=_told(pool.limits))


def _told(limits: PoolLimits) -> api_pb2.AutoscalerSettings:
    return api_pb2.AutoscalerSettings(
        min_containers=limits.min_workers,
        max_containers=limits.max_workers,
        buffer_containers=limits.buffer_workers,
        scaledown_window=round(limits.idle_timeout_s),
    )
