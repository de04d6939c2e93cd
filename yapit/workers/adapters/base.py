"""The promise to model authors: text in, PCM out. An adapter knows no provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from yapit.contracts import PcmChunk

__all__ = ["PcmChunk", "SynthAdapter"]

BYTES_PER_SAMPLE = 2


class SynthAdapter(ABC):
    """Turns text into speech. Implement `initialize` and `synthesize`; everything else has a default.

    PCM is signed 16-bit little-endian, interleaved, at `sample_rate` Hz with `channels` channels. Calls run
    concurrently on one event loop, so return results and keep nothing of a call on `self`; put blocking work in a
    thread (`asyncio.to_thread`). Raise `yapit.errors.InvalidRequest` for text or parameters that the model cannot
    speak: its message reaches the client. Any other exception is reported as `adapter_failed`.
    """

    sample_rate: int = 24_000
    channels: int = 1

    async def load(self) -> None:  # noqa: B027 - optional
        """Bring the weights into host memory, touching no GPU and opening no socket.

        Called once, before `initialize`. A provider that keeps snapshots of memory takes one between the two: a worker
        that starts from it finds what `load` did and runs `initialize` only. By default all is done there.
        """

    @abstractmethod
    async def initialize(self) -> None:
        """Make the model ready to speak. Called once, before the first synthesis, on the loop that serves."""

    @abstractmethod
    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        """The whole of `text` as PCM. `speed` is a factor from 0.25 to 4, 1 being the voice's own pace."""

    def calculate_duration_ms(self, audio_bytes: bytes) -> int:
        """Duration of PCM that this adapter made, in milliseconds."""
        return len(audio_bytes) * 1000 // (self.sample_rate * self.channels * BYTES_PER_SAMPLE)

    async def stream(
        self,
        text: str,
        *,
        voice: str,
        speed: float,
        **parameters: Any,  # noqa: ARG002 - part of the promise
    ) -> AsyncIterator[bytes | PcmChunk]:
        """PCM as it is made. `parameters` are the job's own, already checked against the function's schema.

        The default calls `synthesize` and yields once. Close the generator to stop the work.
        """
        yield await self.synthesize(text, voice=voice, speed=speed)

    async def close(self) -> None:  # noqa: B027 - optional
        """Release what `initialize` took. Called once, when the worker stops."""
