"""An adapter that costs nothing, so that what is measured is everything around it."""

from yapit.workers.adapters.base import SynthAdapter

PCM = bytes(range(256)) * 188  # 48,128 bytes: one second of speech at 24 kHz


class Free(SynthAdapter):
    async def initialize(self) -> None:
        pass

    async def synthesize(self, text: str, *, voice: str, speed: float) -> bytes:
        return PCM
