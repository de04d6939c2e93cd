"""Worker processes, as RunPod starts them in a container: of queue endpoints the vendor's own loop around our handler,
of load-balancing ones our HTTP worker.

Each has a process group of its own. It matters: killing the SDK's main process alone leaves its ping process behind,
which pings on [RUN].
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import httpx

from emulator.engine.clock import Clock
from emulator.engine.jobs import Attempt
from emulator.engine.process import ProcessGroup, kept_environment
from emulator.engine.pulled import PulledWorker
from emulator.runpod import facts
from emulator.runpod.exchange import Exchange
from emulator.runpod.served import ServedWorker

QUEUE_COMMAND = (sys.executable, "-m", "yapit.workers.handlers.runpod")
SERVER_MODULE = "yapit.workers.handlers.local"
NONE: Mapping[str, str] = MappingProxyType({})
PING_TIMEOUT = httpx.Timeout(5.0).as_dict()
HOP_BY_HOP = {b"connection", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
"""Headers of one connection, not of the request or answer (RFC 9110, 7.6.1)."""


class StartFailed(Exception):
    """The process ended before it was ready; the message has its last words."""


def function_environment(
    adapter_class: str, functions_dir: Path, variables: Mapping[str, str] = NONE
) -> dict[str, str]:
    """What both handlers need, and the endpoint's own `variables`."""
    ours = {"ADAPTER_CLASS": adapter_class, "FUNCTIONS_DIR": str(functions_dir), "PYTHONUNBUFFERED": "1"}
    return {**kept_environment(), **variables, **ours}


def worker_environment(
    base_url: str,
    endpoint_id: str,
    worker_id: str,
    *,
    api_key: str,
    adapter_class: str,
    functions_dir: Path,
    variables: Mapping[str, str] = NONE,
) -> dict[str, str]:
    """What RunPod sets for a queue endpoint's worker, and what our handler needs. The SDK reads it when it is imported
    [SDK].

    Every address has a `?`, since the SDK appends `&…`. `$ID` stands for the worker in the first and for the job in the
    others.
    """
    base = f"{base_url}/v2/{endpoint_id}"
    return function_environment(adapter_class, functions_dir, variables) | {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
        "RUNPOD_AI_API_KEY": api_key,
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_PING_INTERVAL": str(facts.PING_INTERVAL_MS),
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",  # they want 4 GB of memory and a way to 8.8.8.8 [SDK]
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_LOG_LEVEL": "INFO",  # the default, DEBUG, writes out all audio
    }


class ProcessWorker(PulledWorker):
    """Ready when its process first asks for a job, lost when the process ends. `command`: the container's."""

    def __init__(
        self, worker_id: str, clock: Clock, environment: dict[str, str], command: Sequence[str] = QUEUE_COMMAND
    ) -> None:
        super().__init__(worker_id, clock, silence_s=facts.SILENCE_S)
        self._environment, self._command = environment, command
        self._group: ProcessGroup | None = None
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """Of the main process, and of its group."""
        return self._group.pid if self._group else None

    async def start(self) -> None:
        """Raises `StartFailed`."""
        self._group = await ProcessGroup.start(self.worker_id, self._command, self._environment)
        self._group.ended.add_done_callback(lambda _: self._process_ended())
        asking = asyncio.create_task(super().start())
        try:
            await asyncio.wait((asking, self._group.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
        if self._group.ended.done():
            raise StartFailed(self._obituary(self._group))
        self._is_ready = True

    async def kill(self) -> None:
        if self._group:
            self._group.kill()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of the group."""
        if self._group:
            self._group.terminate()
        await super().stop()  # lets go of the polls that the SDK waits for before it ends
        if self._group:
            await self._group.end()

    def _process_ended(self) -> None:
        if self._group and self._is_ready and not self._is_over:
            self.on_lost(self._obituary(self._group))

    def _obituary(self, group: ProcessGroup) -> str:
        return f"{self.complaint}; {group.obituary}" if self.complaint else group.obituary


class ServerProcessWorker(ServedWorker):
    """An HTTP server on a free port of this machine, to which requests are passed on as they come."""

    def __init__(self, worker_id: str, clock: Clock, environment: dict[str, str]) -> None:
        super().__init__(worker_id, clock)
        self._environment = environment
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))
        self._group: ProcessGroup | None = None
        self._url = ""

    @property
    def pid(self) -> int | None:
        """Of the main process, and of its group."""
        return self._group.pid if self._group else None

    async def kill(self) -> None:
        if self._group:
            self._group.kill()

    async def launch(self) -> None:
        port = str(_free_port())
        self._url = f"http://127.0.0.1:{port}"
        ours = {"HOST": "127.0.0.1", "PORT": port, "PORT_HEALTH": port, "RUNPOD_POD_ID": self.worker_id}
        command = (sys.executable, "-m", SERVER_MODULE)
        self._group = await ProcessGroup.start(self.worker_id, command, self._environment | ours)
        self._group.ended.add_done_callback(lambda _: self._ended())

    async def stop(self) -> None:
        await super().stop()
        if self._group:
            self._group.terminate()
            await self._group.end()
        await self._transport.aclose()

    async def ping(self) -> httpx.Response | None:
        """Raises `StartFailed` where the process has ended before it was ready."""
        if self._group and self._group.ended.done() and not self.is_ready:
            raise StartFailed(self._group.obituary)
        request = httpx.Request("GET", f"{self._url}{facts.LB_HEALTH_PATH}", extensions={"timeout": PING_TIMEOUT})
        try:
            response = await self._transport.handle_async_request(request)
            await response.aread()
        except httpx.TransportError:
            return None
        return response

    async def serve(self, exchange: Exchange, attempt: Attempt) -> None:
        try:
            response = await self._transport.handle_async_request(self._request(exchange))
        except httpx.TransportError:
            return
        try:
            head = {"status": response.status_code, "headers": _end_to_end(response.headers.raw)}
            await exchange.send({"type": "http.response.start", **head}, attempt)
            async for part in response.aiter_raw():
                await exchange.send({"type": "http.response.body", "body": part, "more_body": True}, attempt)
            await exchange.send({"type": "http.response.body", "body": b"", "more_body": False}, attempt)
        except httpx.TransportError:
            return
        finally:
            await response.aclose()

    def _request(self, exchange: Exchange) -> httpx.Request:
        scope = exchange.scope
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        return httpx.Request(
            scope["method"],
            self._url + (scope["raw_path"] + query).decode("latin-1"),
            headers=_end_to_end(scope["headers"]),
            content=exchange.body() if has_body else None,
        )

    def _ended(self) -> None:
        if self._group and self.is_ready:
            self.on_lost(self._group.obituary)


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers if name.lower() not in HOP_BY_HOP]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
