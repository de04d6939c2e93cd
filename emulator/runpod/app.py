"""RunPod's client API as an application of its own: `create_runpod_app`."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from starlette.applications import Starlette

from emulator.engine.clock import Clock
from emulator.runpod.client_api import ClientApi
from emulator.runpod.endpoint import Endpoint
from emulator.runpod.limits import RunpodLimits

WEBHOOK_TIMEOUT_S = 10.0


class RunpodApp(Starlette):
    """Needs no lifespan: workers start with the first job, or with `open`; `aclose` ends everything."""

    def __init__(self, api: ClientApi, endpoints: Mapping[str, Endpoint]) -> None:
        super().__init__(routes=api.routes())
        self.api, self.endpoints = api, endpoints

    def open(self) -> None:
        """Start the workers that the endpoints always keep."""
        for endpoint in self.endpoints.values():
            endpoint.pool.open()

    async def aclose(self) -> None:
        """Cancel every job, stop every worker, give up every webhook."""
        await self.api.webhooks.close()
        for endpoint in self.endpoints.values():
            await endpoint.pool.close()


def create_runpod_app(
    endpoints: Mapping[str, Endpoint],
    *,
    api_key: str,
    clock: Clock,
    webhook_client: httpx.AsyncClient | None = None,
    limits: RunpodLimits | None = None,
) -> RunpodApp:
    """`/v2/{endpoint_id}/…` over these endpoints. The webhook client is closed with the application."""
    client = webhook_client or httpx.AsyncClient(timeout=WEBHOOK_TIMEOUT_S)
    return RunpodApp(
        ClientApi(endpoints, api_key=api_key, clock=clock, webhook_client=client, limits=limits), endpoints
    )
