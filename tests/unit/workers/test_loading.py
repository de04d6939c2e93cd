import sys
from pathlib import Path

import pytest

from yapit.errors import ConfigurationError
from yapit.workers.loading import adapter_class_from, load_runner

SOURCE = """
from yapit.workers.adapters.base import SynthAdapter
class Mine(SynthAdapter):
    sample_rate = 16_000
    async def initialize(self): pass
    async def synthesize(self, text, *, voice, speed): return bytes(2 * 16_000)
    def calculate_duration_ms(self, audio_bytes): return len(audio_bytes) // 32
class Half(SynthAdapter):
    async def initialize(self): pass
class Other: pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "newcomer_voice.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "newcomer_voice"
    sys.modules.pop("newcomer_voice", None)


async def test_three_methods_in_any_module_are_enough(module: str) -> None:
    runner = load_runner(f"{module}.Mine")
    events = [event async for event in runner.run({"text": "Hello.", "voice": "whatever"})]
    assert [event.type for event in events] == ["audio", "done"]
    assert events[-1].duration_ms == 1_000
    assert (runner.spec.name, runner.spec.sample_rate) == ("mine", 16_000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Other", "not a SynthAdapter subclass; newcomer_voice has Mine, Half"),
        ("Absent", "not a SynthAdapter subclass"),
        ("Half", "abstract"),
    ],
)
def test_what_is_no_adapter_is_refused_with_what_was_found(module: str, name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_runner(f"{module}.{name}")


@pytest.mark.parametrize("path", ["nodots", "no_such_module_anywhere.Adapter"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=path.split(".")[0]):
        load_runner(path)


def test_the_environment_must_name_an_adapter() -> None:
    with pytest.raises(ConfigurationError, match="ADAPTER_CLASS is not set"):
        adapter_class_from({})
    assert adapter_class_from({"ADAPTER_CLASS": "a.B"}) == "a.B"
