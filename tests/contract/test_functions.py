"""Every function, at every provider: its own examples, the same audio everywhere."""

from __future__ import annotations

import ast
import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulator.pytest_plugin import InProcessEmulator
from tests.conftest import API_KEY, Stack, running_stack
from tests.unit.workers.test_runner import pcm_of
from yapit.contracts import parse_event
from yapit.function_spec import Example, FunctionSpec, discover
from yapit.workers.handlers.runpod import build_config
from yapit.workers.loading import load_runner

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "functions"
SPECS = {name: spec for name, spec in discover(FUNCTIONS).items() if spec.install == "default"}
EXAMPLES = [(spec, example) for spec in SPECS.values() for example in spec.examples]
IDS = [f"{spec.name}-{number}" for spec in SPECS.values() for number in range(len(spec.examples))]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(FUNCTIONS, tmp_path_factory.mktemp("routes")) as running:
        yield running


def job_of(example: Example) -> dict[str, object]:
    fields = {"text": example.text, "voice": example.voice, "speed": example.speed, "parameters": example.parameters}
    return {**fields, "codec": "pcm"}


async def through_the_adapter(spec: FunctionSpec, example: Example) -> bytes:
    runner = load_runner(spec.adapter_class)
    await runner.start()
    try:
        if example.parameters:
            chunks = runner.adapter.stream(example.text, voice=example.voice, speed=example.speed, **example.parameters)
            return b"".join([chunk if isinstance(chunk, bytes) else chunk.pcm async for chunk in chunks])
        return await runner.adapter.synthesize(example.text, voice=example.voice, speed=example.speed)
    finally:
        await runner.close()


async def through_the_handler(spec: FunctionSpec, example: Example) -> bytes:
    runner = load_runner(spec.adapter_class)
    try:
        handler = build_config(runner)["handler"]
        return pcm_of([parse_event(output) async for output in handler({"id": "1", "input": job_of(example)})])
    finally:
        await runner.close()


async def through_the_worker(stack: Stack, spec: FunctionSpec, example: Example) -> bytes:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{stack.emulator_url}/workers/{spec.name}/synthesize", json=job_of(example))
    return base64.b64decode(answer.json()["audio_base64"])


async def through_the_gateway(stack: Stack, model: str, spec: FunctionSpec, example: Example) -> bytes:
    body = {"model": model, "input": example.text, "voice": example.voice, "speed": example.speed}
    extensions = {"parameters": example.parameters, "sample_rate": spec.sample_rate, "response_format": "pcm"}
    async with httpx.AsyncClient(timeout=60) as client:
        response = await client.post(f"{stack.url}/v1/audio/speech", json={**body, **extensions})
    assert response.status_code == 200, response.text
    return response.content


@pytest.mark.parametrize(("spec", "example"), EXAMPLES, ids=IDS)
async def test_an_example_is_as_long_as_its_spec_says_and_the_same_everywhere(
    stack: Stack, spec: FunctionSpec, example: Example
) -> None:
    pcm = await through_the_adapter(spec, example)
    duration_ms = len(pcm) / 2 / spec.channels / spec.sample_rate * 1000
    assert example.min_duration_ms <= duration_ms <= example.max_duration_ms
    if spec.deterministic:
        assert await through_the_handler(spec, example) == pcm
        assert await through_the_worker(stack, spec, example) == pcm
        for model in (spec.name, *(f"{spec.name}-{at}" for at in ("runpod", "runpod-lb", "modal"))):
            assert await through_the_gateway(stack, model, spec, example) == pcm, model


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_function_has_examples_voices_and_an_image_without_an_entrypoint(spec: FunctionSpec) -> None:
    assert spec.examples
    assert spec.voices
    dockerfile = (FUNCTIONS / spec.name / "Dockerfile").read_text()
    assert "\nCMD [" in dockerfile
    assert "\nENTRYPOINT" not in dockerfile
    assert "\nUSER " in dockerfile


ALLOWED = ("yapit.workers.adapters", "yapit.contracts", "yapit.errors", "yapit.audio", "yapit.text")
PROJECT = ("yapit", "emulator", "infra", "functions", "runpod", "modal", "tests")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(FUNCTIONS.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_functions_know_adapters_contracts_errors_audio_and_text_only(path: Path) -> None:
    for name in imports_of(path):
        if name.split(".")[0] in PROJECT:
            assert name.startswith((*ALLOWED, f"functions.{path.parent.name}")), name


def test_the_committed_routes_serve_what_there_is() -> None:
    from yapit.gateway.registry import SpecRegistry
    from yapit.gateway.routes import load_routes

    routes = load_routes(ROOT / "tts_processors.json")
    SpecRegistry(routes, discover(FUNCTIONS))
    openai_names = {"tts-1", "tts-1-hd", "gpt-4o-mini-tts"}
    aliased = [route for route in routes if openai_names <= set(route.aliases)]
    assert [route.slug for route in aliased] == ["hibari"]
    assert all(len(route.voice_aliases) == 13 for route in routes if route.function_name == "hibari")


async def test_the_public_fixture_serves_every_function_without_a_socket(
    make_emulator: Callable[..., InProcessEmulator],
) -> None:
    emulator = make_emulator(FUNCTIONS)
    headers = {"Authorization": emulator.api_key}
    async with httpx.AsyncClient(transport=emulator.transport, base_url="http://emulator", headers=headers) as client:
        for spec in SPECS.values():
            answer = await client.post(f"/v2/{spec.name}/runsync", json={"input": job_of(spec.examples[0])})
            events = [parse_event(event) for event in answer.json()["output"]]
            assert events[-1].type == "done"
    assert emulator.api_key == API_KEY
