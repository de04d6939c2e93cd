"""A process group of our own: started, listened to, and killed as a whole."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

KEPT_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CUDA_VISIBLE_DEVICES"),
)
"""Of this machine's environment. The rest stays out, as it does in a cloud: what a function needs, its image, its
endpoint or a secret must bring."""
LAST_WORDS_S = 1.0
"""Real seconds from the end of a process to the end of its output."""
STOP_GRACE_S = 3.0
"""From SIGTERM to SIGKILL, in real seconds: it is a real process. The SDK of RunPod needs one, in which its stop poll
sleeps once it was answered."""
KEPT_LINES = 20


def kept_environment() -> dict[str, str]:
    """What a worker process has of this machine's environment: no key, no token."""
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}


class ProcessGroup:
    """`ended` is done once the main process has ended, and the rest of its group with it."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, reading_end: int, on_line: Callable[[str], object] | None
    ) -> None:
        self._name, self._process, self._on_line = name, process, on_line
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.ended = asyncio.create_task(self._watch(reading_end))

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path | None = None,
        on_line: Callable[[str], object] | None = None,
    ) -> ProcessGroup:
        """`name` stands before each of its lines in the log; `on_line` is told them, too. It runs in `folder`."""
        reading_end, writing_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                cwd=folder,
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
        return cls(name, process, reading_end, on_line)

    @property
    def pid(self) -> int:
        """Of the main process, and of its group."""
        return self._process.pid

    @property
    def obituary(self) -> str:
        """How it ended, and its last words."""
        return "\n".join([f"the worker process ended with code {self._process.returncode}", *self._last_lines])

    def kill(self) -> None:
        """SIGKILL to the main process, as the kernel does when it is out of memory; the rest of the group follows."""
        if self._process.returncode is None:
            self._process.kill()

    def interrupt(self) -> None:
        """SIGINT to the main process, as Ctrl-C."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)

    async def wait(self, seconds: float) -> None:
        """For its end, at most so long in real time."""
        await asyncio.wait((self.ended,), timeout=seconds)

    async def end(self) -> None:
        """Give it `STOP_GRACE_S` to end, then kill what is left."""
        await self.wait(STOP_GRACE_S)
        if not self.ended.done():
            self._signal(signal.SIGKILL)
        await self.ended

    async def _watch(self, reading_end: int) -> None:
        lines = asyncio.create_task(self._read(reading_end))
        await self._process.wait()
        self._signal(signal.SIGKILL)
        # whatever left the group may hold the output open for ever
        await asyncio.wait((lines,), timeout=LAST_WORDS_S)
        lines.cancel()

    async def _read(self, reading_end: int) -> None:
        """Apart from the process: asyncio would take its end for that of the last process that holds its output."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading_end, "rb", buffering=0)
        )
        try:
            while line := await _line(reader):
                self._last_lines.append(line.decode(errors="replace").rstrip())
                logger.info("%s: %s", self._name, self._last_lines[-1])
                if self._on_line:
                    self._on_line(self._last_lines[-1])
        finally:
            transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        return b"(a line that was too long)\n"
