"""What the smoke test hears, and what it does not let pass."""

from __future__ import annotations

import array
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.smoke import _speak, check_audio, speak_once
from tests.conftest import API_KEY, PROCESSORS, TEST_FUNCTIONS, Stack, serve
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.function_spec import Example, FunctionSpec

EXAMPLE = Example(text="Hi.", voice="sine", min_duration_ms=100, max_duration_ms=1_000)
TONE = FunctionSpec.load(TEST_FUNCTIONS / "tone")


def pcm(milliseconds: int, level: int) -> bytes:
    return array.array("h", [level, -level] * (milliseconds * 12)).tobytes()


def test_audio_as_promised_passes() -> None:
    assert check_audio("x", pcm(500, 4_000), EXAMPLE) == 500


@pytest.mark.parametrize(("audio", "said"), [
    (pcm(500, 10), "silence"), (pcm(500, 0), "silence"), (pcm(50, 4_000), "spoke 50 ms"),
    (pcm(1_001, 4_000), "spoke 1001 ms"), (b"", "spoke 0 ms"), (b"\1", "spoke 0 ms"),
])  # fmt: skip
def test_what_is_no_speech_does_not(audio: bytes, said: str) -> None:
    with pytest.raises(DeploymentFailed, match=said):
        check_audio("x", audio, EXAMPLE)


def environ(stack: Stack) -> dict[str, str]:
    base = f"{stack.emulator_url}/v2"
    return {**os.environ, "FUNCTIONS_DIR": str(TEST_FUNCTIONS), "RUNPOD_API_BASE": base, "RUNPOD_API_KEY": API_KEY}


def entry(endpoint_id: str) -> dict[str, object]:
    processor = f"{PROCESSORS}.runpod.RunpodProcessor"
    return {"slug": "tone-runpod", "function": "tone", "processor": processor, "runpod_endpoint_id": endpoint_id}


def test_a_sentence_is_heard_through_the_providers_route(tone_stack: Stack) -> None:
    # the route's fallback would answer in its place
    spoken = speak_once(TONE, {**entry("tone"), "fallback": ["hibari"]}, environ(tone_stack))
    assert spoken.duration_ms == len("This is a test.") * 50
    assert "'This is a test.': 0.8 s of audio in" in str(spoken)


def test_an_endpoint_that_is_not_there_is_told(tone_stack: Stack) -> None:
    with pytest.raises(DeploymentFailed, match="did not speak: tone-runpod: RunPod knows no such endpoint"):
        speak_once(TONE, entry("absent"), environ(tone_stack))


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[str]:
    """In place of a gateway: these answers in turn, audio for 200."""
    left = list(answers)

    async def speech(_: Request) -> Response:
        status, code = left.pop(0)
        return (
            Response(pcm(500, 4_000))
            if status == 200
            else JSONResponse({"error": {"code": code, "message": code}}, status)
        )

    app = Starlette(routes=[Route("/v1/audio/speech", speech, methods=["POST"])])
    with serve(lambda _: uvicorn.Server(uvicorn.Config(app, log_level="warning"))) as (url, _):
        yield url
    assert not left


@pytest.mark.parametrize("code", ["no_worker_yet", "synthesis_timeout"])
def test_a_worker_that_takes_minutes_to_come_is_waited_for(code: str) -> None:
    with answering((503, code), (503, code), (200, "")) as url:
        assert _speak(url, "x", EXAMPLE, 5.0, patience_s=60.0).duration_ms == 500
    with answering((503, code)) as url, pytest.raises(DeploymentFailed, match=code):
        _speak(url, "x", EXAMPLE, 5.0, patience_s=0.0)
    with answering((500, "adapter_failed")) as url, pytest.raises(DeploymentFailed, match="adapter_failed"):
        _speak(url, "x", EXAMPLE, 5.0, patience_s=60.0)


def test_who_waits_may_give_up(tone_stack: Stack) -> None:
    """`gated` speaks its first half and then waits: the gateway is ended under it."""
    spec = FunctionSpec.load(TEST_FUNCTIONS / "gated")
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise DeploymentFailed("enough")

    route = {**entry("gated"), "slug": "gated-runpod", "function": "gated"}
    with pytest.raises(DeploymentFailed, match="enough"):
        speak_once(spec, route, environ(tone_stack), look)


def test_a_function_with_nothing_to_say_is_told_so(tmp_path: Path) -> None:
    spec = TONE.model_copy(update={"voices": [], "examples": []})
    with pytest.raises(ConfigurationError, match="neither examples nor voices"):
        speak_once(spec, entry("tone"), {})
