"""The README's commands, as a newcomer types them, in a copy of what is committed."""

from __future__ import annotations

import re

import pytest

from tests.e2e.clone import ROOT, Clone, blocks, commands, duration_s, make_clone

README = ROOT / "README.md"
COMMANDS = commands(README)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(tmp_path_factory.mktemp("clone"))


def test_make_say_is_the_first_command_and_leaves_a_playing_file(clone: Clone) -> None:
    assert COMMANDS[0].startswith("make say")
    said = clone.shell(COMMANDS[0])
    assert "hello.wav" in said
    assert 2 < duration_s(clone.folder / "hello.wav") < 4


def test_while_it_runs_curl_and_the_openai_sdk_speak(clone: Clone) -> None:
    (curl,) = [command for command in COMMANDS if command.startswith("curl")]
    (example,) = [block for block in blocks(README, "python") if "OpenAI" in block]
    with clone.emulating():
        clone.shell(curl)
        assert duration_s(clone.folder / "hello.mp3") > 0.5
        (clone.folder / "example.py").write_text(example.replace(":8000", f":{clone.gateway_port}"))
        clone.shell(".venv/bin/python example.py")
        assert duration_s(clone.folder / "hello.opus") > 1
        gateway = f"http://127.0.0.1:{clone.gateway_port}"
        said = clone.shell(f'make say TEXT="Still here." OUT=again.flac MODEL=hibari-runpod GATEWAY={gateway}')
        assert "hibari-runpod" in said


def test_other_languages_and_a_model_of_ones_own(clone: Clone) -> None:
    for command in COMMANDS:
        if "MODEL=espeak" in command or "humming" in command:
            clone.shell(command)
    assert duration_s(clone.folder / "morgen.wav") > 0.5
    assert duration_s(clone.folder / "humming.wav") > 0.5


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_every_make_target_exists_and_is_listed(clone: Clone, command: str) -> None:
    target = command.split()[1]
    clone.shell(f"make -n {target} NAME=x FUNCTION=x")
    assert target in clone.shell("make help")


def test_every_link_leads_somewhere() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / name).exists(), name
