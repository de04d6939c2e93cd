"""One sentence through a provider's route, as users will hear it: the last step of every deployment."""

from __future__ import annotations

import array
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.processes import free_port, server, wait_for
from infra.routes_file import Entry
from yapit.errors import ConfigurationError, DeploymentFailed, NoWorkerYet, SynthesisTimeout
from yapit.function_spec import Example, FunctionSpec

PCM_SAMPLES_PER_S = 24_000
"""The gateway's `pcm` without `sample_rate`: 16-bit little-endian mono."""
MIN_PEAK = 328
"""Of 32,768: 1 % of full scale. What stays below is silence, not speech."""
LOOK_S = 1.0
_NO_WORKER_IN_TIME = (NoWorkerYet.code, SynthesisTimeout.code)
SPARE_S = 60.0
"""Beyond cold start and job: a provider that fetches the image for the first time."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was heard: milliseconds of audio, and seconds until all of it was there."""

    text: str
    duration_ms: float
    took_s: float

    def __str__(self) -> str:
        return f"{self.text!r}: {self.duration_ms / 1000:.1f} s of audio in {self.took_s:.1f} s"


def speak_once(
    spec: FunctionSpec,
    entry: Entry,
    environ: Mapping[str, str],
    look: Callable[[], None] | None = None,
    *,
    patience_s: float = 0.0,
) -> Spoken:
    """Speak the function's first example through a gateway of its own that serves `entry` and nothing else.

    `environ` holds what the entry's processor needs (a key, a base address). `look` is called once a second while
    nothing is heard yet, and may raise to give up. A worker that is not there in time is asked again until `patience_s`
    have passed: a provider that fetches an image for the first time takes minutes.

    Raises `DeploymentFailed` with what the gateway answered or what is wrong with the audio, and `ConfigurationError`
    if the gateway does not start.
    """
    example = spec.examples[0] if spec.examples else _any_example(spec)
    timeout_s = spec.timeouts.cold_start_s + spec.timeouts.job_s + SPARE_S
    with tempfile.TemporaryDirectory(prefix="yapit-") as folder:
        routes, port = Path(folder) / "tts_processors.json", free_port()
        routes.write_text(json.dumps([{**entry, "fallback": []}]), encoding="utf-8")
        url = f"http://127.0.0.1:{port}"
        ours = {
            "TTS_PROCESSORS_FILE": str(routes),
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "GATEWAY_API_KEYS": "",
            "REQUEST_TIMEOUT_S": str(timeout_s),
        }
        # where `look` raises, the gateway ends first, and with it the request that the other thread waits for
        with ThreadPoolExecutor(1) as thread, server("yapit.gateway", {**environ, **ours}) as process:
            wait_for(f"{url}/healthz", process)
            spoken = thread.submit(_speak, url, str(entry["slug"]), example, timeout_s, patience_s)
            while not wait([spoken], timeout=LOOK_S).done:
                if look:
                    look()
            return spoken.result()


def _speak(url: str, slug: str, example: Example, timeout_s: float, patience_s: float) -> Spoken:
    body = {
        "model": slug,
        "input": example.text,
        "voice": example.voice,
        "speed": example.speed,
        "parameters": example.parameters,
        "response_format": "pcm",
    }
    started_at = time.perf_counter()
    while True:
        try:
            response = httpx.post(f"{url}/v1/audio/speech", json=body, timeout=timeout_s + SPARE_S)
        except httpx.TransportError as error:
            raise DeploymentFailed(f"{slug}: the audio broke off: {type(error).__name__}") from None
        took_s = time.perf_counter() - started_at
        if response.status_code == 200:
            return Spoken(example.text, check_audio(slug, response.content, example), took_s)
        problem = response.json()["error"]
        if problem["code"] not in _NO_WORKER_IN_TIME or took_s >= patience_s:
            raise DeploymentFailed(f"{slug} did not speak: {problem['message']}")


def check_audio(slug: str, pcm: bytes, example: Example) -> float:
    """The audio's duration in milliseconds. Raises `DeploymentFailed` where it is not what the example promises."""
    samples = array.array("h", pcm[: len(pcm) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    duration_ms = len(samples) * 1000 / PCM_SAMPLES_PER_S
    if not example.min_duration_ms <= duration_ms <= example.max_duration_ms:
        raise DeploymentFailed(
            f"{slug} spoke {duration_ms:.0f} ms for {example.text!r}; its example says {example.min_duration_ms:.0f} "
            f"to {example.max_duration_ms:.0f} ms"
        )
    if (peak := max(map(abs, samples))) < MIN_PEAK:
        raise DeploymentFailed(f"{slug} spoke silence for {example.text!r}: its loudest sample is {peak} of 32768")
    return duration_ms


def _any_example(spec: FunctionSpec) -> Example:
    """For a spec without examples: anything audible will do."""
    if not spec.voices:
        raise ConfigurationError(f"{spec.name} has neither examples nor voices to try it with; add one to its spec")
    return Example(text="This is a test.", voice=spec.voices[0].slug, min_duration_ms=200, max_duration_ms=60_000)
