from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import TEST_FUNCTIONS
from yapit.contracts import SynthesisParameters
from yapit.errors import ConfigurationError, InvalidRequest, UnknownVoice
from yapit.function_spec import FunctionSpec, discover

TONE = TEST_FUNCTIONS / "tone"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TONE, tmp_path / "tone"))


def change(folder: Path, before: str, after: str) -> None:
    path = folder / "pyproject.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_a_spec_is_read_from_its_folder() -> None:
    spec = FunctionSpec.load(TONE)
    assert (spec.name, spec.version, spec.adapter_class) == ("tone", "1.0.0", "functions.tone.adapter.Tone")
    assert [voice.slug for voice in spec.voices] == ["sine"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('license = "Apache-2.0"', "", "license: this field is required"),
        ('license = "Apache-2.0"', 'license = "x"\ncolour = "red"', "colour: no such field"),
        ("parallel_pieces = 2", "parallel_pieces = 0", "input.parallel_pieces: input should be greater than or equal"),
        ('adapter = "adapter.Tone"', 'adapter = "../x"', "adapter: string should match pattern"),
        ('version = "1.0.0"', "", "'version' is missing"),
        ("[tool.yapit.function]", "[tool.other]", "adapter: this field is required"),
        ("[project]", "[project", "pyproject"),
        ("deterministic = true", "parameters = {type = 5}", "not a JSON Schema"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(folder: Path, before: str, after: str, said: str) -> None:
    change(folder, before, after)
    with pytest.raises(ConfigurationError) as caught:
        FunctionSpec.load(folder)
    if said != "pyproject":
        assert said in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("voices", "said"), [
    ("[", "Expecting value"),
    ('[{"slug": "a"}]', "voices.0.name: this field is required"),
    ('[{"slug": "../a", "name": "A", "language": "en", "gender": "female"}]', "voices.0.slug: string should match"),
])  # fmt: skip
def test_wrong_voices_are_refused(folder: Path, voices: str, said: str) -> None:
    (folder / "voices.json").write_text(voices)
    with pytest.raises(ConfigurationError, match=said):
        FunctionSpec.load(folder)


def test_a_voice_listed_twice_is_refused(folder: Path) -> None:
    path = folder / "voices.json"
    path.write_text(path.read_text().replace("]", "," + path.read_text().strip()[1:]))
    with pytest.raises(ConfigurationError, match="voices listed twice: sine"):
        FunctionSpec.load(folder)


def test_a_missing_file_says_where_to_copy_one_from(folder: Path) -> None:
    (folder / "voices.json").unlink()
    with pytest.raises(ConfigurationError, match=r"voices\.json: no such file; copy functions/_template"):
        FunctionSpec.load(folder)


def test_folders_that_are_no_functions_are_passed_over(folder: Path) -> None:
    root = folder.parent
    for name in ("_template", ".hidden", "notes"):
        (root / name).mkdir()
    (root / "_template" / "pyproject.toml").write_text("nonsense")
    assert list(discover(root)) == ["tone"]
    with pytest.raises(ConfigurationError, match="FUNCTIONS_DIR"):
        discover(root / "absent")


def test_a_folder_whose_name_is_no_module_is_refused(folder: Path) -> None:
    folder.rename(folder.parent / "Not-A-Module")
    with pytest.raises(ConfigurationError, match="name: string should match"):
        discover(folder.parent)


def job(**changes: object) -> SynthesisParameters:
    return SynthesisParameters.parse({"text": "Hi.", "voice": "ann", **changes})


SPEC = FunctionSpec.model_validate(
    {
        "name": "x", "version": "1", "adapter": "a.B", "display_name": "X", "license": "x", "languages": ["en"],
        "parameters": {"properties": {"pitch": {"type": "integer", "maximum": 99}, "tone": {"type": "string"}}},
        "voices": [
            {"slug": "ann", "name": "A", "language": "en", "gender": "female", "parameters": {"tone": "dark", "id": 3}},
        ],
    }
)  # fmt: skip


def test_the_adapter_gets_the_voices_parameters_and_the_jobs_over_them() -> None:
    assert SPEC.adapter_parameters(job()) == {"tone": "dark", "id": 3}
    assert SPEC.adapter_parameters(job(parameters={"tone": "light"})) == {"tone": "light", "id": 3}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"pitch": 100}, "parameters.pitch: 100 is greater than the maximum of 99"),
        ({"pitch": "high"}, "parameters.pitch: 'high' is not of type 'integer'"),
        ({"id": 4}, "parameters: Additional properties are not allowed ('id' was unexpected)"),
    ],
)
def test_parameters_that_do_not_fit_the_schema_are_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SPEC.adapter_parameters(job(parameters=parameters))
    assert str(caught.value) == said


def test_an_unknown_voice_is_told_which_there_are() -> None:
    with pytest.raises(UnknownVoice, match="x has no voice 'bob'; it has ann"):
        SPEC.adapter_parameters(job(voice="bob"))
