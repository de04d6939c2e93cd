"""`make new-function`: one folder, discovered and heard with no other file touched."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from infra.new_function import create_function, main
from yapit.contracts import AudioEvent, DoneEvent
from yapit.errors import ConfigurationError
from yapit.function_spec import discover
from yapit.workers.loading import load_runner

TEMPLATE = Path(__file__).parents[3] / "functions" / "_template"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "functions"
    shutil.copytree(TEMPLATE, root / "_template")
    return root


async def test_a_new_function_is_discovered_and_speaks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_function("night_owl_2", root)
    spec = discover(root)["night_owl_2"]
    assert spec.display_name == "Night Owl 2"
    assert spec.adapter_class == "functions.night_owl_2.adapter.NightOwl2Adapter"
    monkeypatch.setenv("FUNCTIONS_DIR", str(root))
    monkeypatch.setattr(sys, "path", [*sys.path])
    runner = load_runner(spec.adapter_class)
    events = [event async for event in runner.run({"text": "Hello there.", "voice": "high", "codec": "wav"})]
    await runner.close()
    assert isinstance(events[0], AudioEvent)
    assert events[0].decoded()[:4] == b"RIFF"
    assert isinstance(events[-1], DoneEvent)
    assert events[-1].function == "night_owl_2"
    assert events[-1].duration_ms > 400


def test_no_trace_of_the_template_is_left(root: Path) -> None:
    folder = create_function("wren", root)
    assert {path.name for path in folder.iterdir()} == {"adapter.py", "pyproject.toml", "voices.json", "Dockerfile"}
    for path in folder.iterdir():
        assert "template" not in path.read_text(encoding="utf-8").lower(), path
    dockerfile = (folder / "Dockerfile").read_text(encoding="utf-8")
    assert "ADAPTER_CLASS=functions.wren.adapter.WrenAdapter" in dockerfile
    assert "COPY functions/wren functions/wren" in dockerfile
    assert "\nENTRYPOINT" not in dockerfile


def test_a_function_may_be_called_template(root: Path) -> None:
    create_function("template", root)
    assert discover(root)["template"].adapter == "adapter.TemplateAdapter"


@pytest.mark.parametrize("name", ["", "Kokoro", "2fast", "my-model", "a/b", "../x", "_x", "x" * 41, "class", "x\n"])
def test_a_name_that_will_not_do_is_refused(root: Path, name: str) -> None:
    create_function("wren", root)
    before = sorted(root.rglob("*"))
    with pytest.raises(ConfigurationError, match="there is wren") as caught:
        create_function(name, root)
    assert repr(name) in caught.value.message
    assert sorted(root.rglob("*")) == before


def test_what_exists_is_not_overwritten(root: Path) -> None:
    adapter = create_function("wren", root) / "adapter.py"
    adapter.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        create_function("wren", root)
    assert adapter.read_text() == "mine"


def test_a_root_without_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="_template: no such folder"):
        create_function("wren", tmp_path)


def test_the_next_steps_are_printed(root: Path) -> None:
    told = main(["wren", "--root", str(root)])
    assert (root / "wren" / "adapter.py").is_file()
    for step in (str(root / "wren" / "adapter.py"), "make emulate", "make say TEXT=", "MODEL=wren"):
        assert step in told
