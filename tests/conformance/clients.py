"""The same questions put by the vendor's synchronous client, its asyncio client, and plain HTTP."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from tests.conformance.backends import Backend

CLIENTS = ("runpod.Endpoint", "runpod.AsyncioEndpoint", "http")
SDKS = CLIENTS[:2]


class Client(Protocol):
    """One endpoint. Jobs go by their ids."""

    def run(self, job_input: dict[str, Any]) -> str: ...

    def status(self, job_id: str) -> str: ...

    def output(self, job_id: str, timeout_s: int) -> Any: ...

    def stream(self, job_id: str) -> list[Any]: ...

    def cancel(self, job_id: str) -> dict[str, Any]: ...

    def purge(self) -> dict[str, Any]: ...

    def health(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


def connect(name: str, backend: Backend, kind: str = "generator", key: str | None = None) -> Client:
    makers = {"runpod.Endpoint": Sdk, "runpod.AsyncioEndpoint": AsyncioSdk, "http": Http}
    client: Client = makers[name](backend, kind, key or backend.key)
    return client


class Sdk:
    """`runpod.Endpoint`, unmodified."""

    def __init__(self, backend: Backend, kind: str, key: str) -> None:
        import runpod

        runpod.endpoint_url_base = backend.base_url
        self.endpoint = runpod.Endpoint(backend.endpoint(kind), api_key=key)

    def _job(self, job_id: str) -> Any:
        from runpod.endpoint.runner import Job

        return Job(self.endpoint.endpoint_id, job_id, self.endpoint.rp_client)

    def run(self, job_input: dict[str, Any]) -> str:
        return self.endpoint.run(job_input).job_id

    def status(self, job_id: str) -> str:
        return self._job(job_id).status()

    def output(self, job_id: str, timeout_s: int) -> Any:
        return self._job(job_id).output(timeout=timeout_s)

    def stream(self, job_id: str) -> list[Any]:
        return list(self._job(job_id).stream())

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._job(job_id).cancel()

    def purge(self) -> dict[str, Any]:
        return self.endpoint.purge_queue()

    def health(self) -> dict[str, Any]:
        return self.endpoint.health()

    def close(self) -> None:
        self.endpoint.rp_client.rp_session.close()


class AsyncioSdk:
    """`runpod.AsyncioEndpoint`, unmodified, on an event loop of its own."""

    def __init__(self, backend: Backend, kind: str, key: str) -> None:
        import aiohttp
        import runpod

        runpod.endpoint_url_base = backend.base_url
        self._runner = asyncio.Runner()

        async def make() -> tuple[Any, Any]:
            session = aiohttp.ClientSession()
            return session, runpod.AsyncioEndpoint(backend.endpoint(kind), session, api_key=key)

        self._session, self.endpoint = self._runner.run(make())

    def _job(self, job_id: str) -> Any:
        from runpod import AsyncioJob

        return AsyncioJob(self.endpoint.endpoint_id, job_id, self._session, self.endpoint.headers)

    def run(self, job_input: dict[str, Any]) -> str:
        return self._runner.run(self.endpoint.run(job_input)).job_id

    def status(self, job_id: str) -> str:
        return self._runner.run(self._job(job_id).status())

    def output(self, job_id: str, timeout_s: int) -> Any:
        return self._runner.run(self._job(job_id).output(timeout=timeout_s))

    def stream(self, job_id: str) -> list[Any]:
        async def collect() -> list[Any]:
            return [chunk async for chunk in self._job(job_id).stream()]

        return self._runner.run(collect())

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._runner.run(self._job(job_id).cancel())

    def purge(self) -> dict[str, Any]:
        return self._runner.run(self.endpoint.purge_queue())

    def health(self) -> dict[str, Any]:
        return self._runner.run(self.endpoint.health())

    def close(self) -> None:
        async def close() -> None:
            await self._session.close()
            await asyncio.sleep(0)  # lets aiohttp's transports close

        self._runner.run(close())
        self._runner.close()


class Http:
    """What the other two ask, spelled out."""

    def __init__(self, backend: Backend, kind: str, key: str) -> None:
        self.http = backend.http(kind)
        self.http.headers["Authorization"] = f"Bearer {key}"

    def _ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        response = self.http.request(method, path, **arguments)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def run(self, job_input: dict[str, Any]) -> str:
        return self._ask("POST", "/run", json={"input": job_input})["id"]

    def status(self, job_id: str) -> str:
        return self._ask("GET", f"/status/{job_id}")["status"]

    def output(self, job_id: str, timeout_s: int) -> Any:
        return self._ask("GET", f"/status-sync/{job_id}", params={"wait": timeout_s * 1000}).get("output")

    def stream(self, job_id: str) -> list[Any]:
        chunks, status = [], "IN_QUEUE"
        while status in ("IN_QUEUE", "IN_PROGRESS"):
            answer = self._ask("GET", f"/stream/{job_id}", params={"wait": 10_000})
            status = answer["status"]
            chunks += [chunk["output"] for chunk in answer["stream"]]
        return chunks

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._ask("POST", f"/cancel/{job_id}", timeout=3)

    def purge(self) -> dict[str, Any]:
        return self._ask("POST", "/purge-queue", timeout=3)

    def health(self) -> dict[str, Any]:
        return self._ask("GET", "/health", timeout=3)

    def close(self) -> None:
        self.http.close()
