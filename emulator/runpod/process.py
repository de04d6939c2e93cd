"""A worker process: the vendor's own loop around our handler, in a process group of its own.

The group matters: killing the SDK's main process alone leaves its ping process behind, which pings on [RUN].
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from emulator.engine.clock import Clock
from emulator.engine.pulled import PulledWorker
from emulator.runpod import facts

logger = logging.getLogger(__name__)

HANDLER_MODULE = "yapit.workers.handlers.runpod"
STOP_GRACE_S = 3.0
"""From SIGTERM to SIGKILL. The SDK needs a second: its stop poll sleeps that long once it was answered."""
KEPT_LINES = 20


class StartFailed(Exception):
    """The process ended before it asked for a job; the message has its last words."""


def worker_environment(
    base_url: str, endpoint_id: str, worker_id: str, *, api_key: str, adapter_class: str, functions_dir: Path
) -> dict[str, str]:
    """What RunPod sets for a worker, and what our handler needs. The SDK reads it when it is imported [SDK].

    Every address has a `?`, since the SDK appends `&…`. `$ID` stands for the worker in the first and for the job in the
    others.
    """
    base = f"{base_url}/v2/{endpoint_id}"
    ours = {key: value for key, value in os.environ.items() if not key.startswith("RUNPOD_")}
    return ours | {
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
        "ADAPTER_CLASS": adapter_class,
        "FUNCTIONS_DIR": str(functions_dir),
        "PYTHONUNBUFFERED": "1",
    }


class ProcessWorker(PulledWorker):
    """Ready when its process first asks for a job, lost when the process ends."""

    def __init__(self, worker_id: str, clock: Clock, environment: dict[str, str]) -> None:
        super().__init__(worker_id, clock, silence_s=facts.SILENCE_S)
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_ready = False
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def pid(self) -> int | None:
        """Of the main process, and of its group."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Raises `StartFailed`."""
        reading_end, writing_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", HANDLER_MODULE),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing_end,
                stderr=writing_end,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading_end)
            raise
        finally:
            os.close(writing_end)
        self._watcher = asyncio.create_task(self._watch(self._process, reading_end))
        asking = asyncio.create_task(super().start())
        try:
            await asyncio.wait((asking, self._watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
        if self._watcher.done():
            raise StartFailed(self._obituary())
        self._is_ready = True

    async def kill(self) -> None:
        """SIGKILL to the main process, as the kernel does when it is out of memory; `_watch` ends the rest."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of the group."""
        process, watcher = self._process, self._watcher
        if process is not None and process.returncode is None:
            _signal_group(process, signal.SIGTERM)
        await super().stop()  # lets go of the polls that the SDK waits for before it ends
        if process is None or watcher is None:
            return
        await asyncio.wait((watcher,), timeout=STOP_GRACE_S)
        if not watcher.done():
            _signal_group(process, signal.SIGKILL)
        await watcher

    async def _watch(self, process: asyncio.subprocess.Process, reading_end: int) -> None:
        """Pass on what the process says; once it has ended, end the rest of its group."""
        lines = asyncio.create_task(self._read(reading_end))
        await process.wait()
        _signal_group(process, signal.SIGKILL)
        await lines
        if self._is_ready and not self._is_over:
            self.on_lost(self._obituary())

    async def _read(self, reading_end: int) -> None:
        """Apart from the process: asyncio would take its end for that of the last process that holds its output."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading_end, "rb", buffering=0)
        )
        try:
            while line := await _line(reader):
                self._last_lines.append(line.decode(errors="replace").rstrip())
                logger.info("%s: %s", self.worker_id, self._last_lines[-1])
        finally:
            transport.close()

    def _obituary(self) -> str:
        code = self._process.returncode if self._process else None
        words = "\n".join([f"the worker process ended with code {code}", *self._last_lines])
        return f"{self.complaint}; {words}" if self.complaint else words


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        return b"(a line that was too long)\n"


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
