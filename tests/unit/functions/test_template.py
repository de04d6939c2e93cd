"""What every new function starts as."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import functions._template
from functions._template.adapter import TemplateAdapter
from yapit.contracts import DoneEvent
from yapit.function_spec import FunctionSpec
from yapit.workers.adapters.base import SynthAdapter
from yapit.workers.runner import Runner

FOLDER = Path(next(iter(functions._template.__path__)))


@pytest.fixture
def spec(tmp_path: Path) -> FunctionSpec:
    """Read from a copy: `_template` is no name for a function, so that it is never discovered."""
    return FunctionSpec.load(Path(shutil.copytree(FOLDER, tmp_path / "template")))


async def hum(text: str, *, voice: str = "low", speed: float = 1.0) -> tuple[np.ndarray, int]:
    """Samples and duration in milliseconds."""
    adapter = TemplateAdapter()
    await adapter.initialize()
    pcm = await adapter.synthesize(text, voice=voice, speed=speed)
    return np.frombuffer(pcm, "<i2").astype(float), adapter.calculate_duration_ms(pcm)


def test_only_the_two_required_methods_are_implemented() -> None:
    promised = {name for name in vars(SynthAdapter) if not name.startswith("_")}
    assert promised & set(vars(TemplateAdapter)) == {"initialize", "synthesize", "sample_rate"}


async def test_it_is_heard_for_as_long_as_the_text() -> None:
    samples, duration_ms = await hum("one two three")
    assert 0.1 < np.abs(samples).max() / 32_768 < 0.5
    assert duration_ms == pytest.approx(3 * (await hum("one"))[1], abs=2)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
async def test_speed_shortens_without_raising_the_pitch(speed: float) -> None:
    normal, normal_ms = await hum("hello")
    fast, fast_ms = await hum("hello", speed=speed)
    assert fast_ms * speed == pytest.approx(normal_ms, rel=0.01)
    assert crossings_per_s(fast) == pytest.approx(crossings_per_s(normal), rel=0.1)


async def test_voices_differ(spec: FunctionSpec) -> None:
    low, high = [(await hum("hello", voice=voice.slug))[0] for voice in spec.voices]
    assert crossings_per_s(high) == pytest.approx(2 * crossings_per_s(low), rel=0.1)


async def test_its_examples_hold(spec: FunctionSpec) -> None:
    for example in spec.examples:
        events = [e async for e in Runner(TemplateAdapter(), spec).run({"text": example.text, "voice": example.voice})]
        done = events[-1]
        assert isinstance(done, DoneEvent)
        assert example.min_duration_ms <= done.duration_ms <= example.max_duration_ms
    assert spec.examples


def crossings_per_s(samples: np.ndarray) -> float:
    sounding = samples[np.abs(samples) > 0]
    return float(np.count_nonzero(np.diff(np.sign(sounding))) / sounding.size * TemplateAdapter.sample_rate)
