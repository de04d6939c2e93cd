"""What a function says of itself: `[tool.yapit.function]` in its `pyproject.toml`, and its `voices.json`.

It is data: reading it imports no model code. Unknown keys are refused.
"""

from __future__ import annotations

import functools
import json
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jsonschema
import pydantic

from yapit.contracts import MAX_TEXT_CHARACTERS, SynthesisParameters
from yapit.errors import ConfigurationError, InvalidRequest, UnknownVoice

__all__ = [
    "Example",
    "FunctionSpec",
    "InputLimits",
    "ModalHardware",
    "ModalSecret",
    "RunpodHardware",
    "Scaling",
    "Timeouts",
    "Voice",
    "discover",
    "functions_root",
]

MODAL_CLASS = "TTS"
"""The class that every function is deployed as at Modal, in an app of the function's `deployment_name`."""
MODAL_SPARE_S = 10
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
Positive = Annotated[float, pydantic.Field(gt=0)]
Count = Annotated[int, pydantic.Field(ge=1)]


class _Data(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class InputLimits(_Data):
    """How much text a job may bring, and how it is cut before it reaches the adapter.

    `split = "sentence"` calls the adapter once per sentence, at most `parallel_pieces` at a time; `"length"` cuts only
    what is longer than `max_piece_characters`.
    """

    max_characters: Annotated[int, pydantic.Field(ge=1, le=MAX_TEXT_CHARACTERS)] = 20_000
    max_piece_characters: Annotated[int, pydantic.Field(ge=20)] = 4_096
    split: Literal["sentence", "length"] = "length"
    parallel_pieces: Count = 1


class Scaling(_Data):
    """Workers per endpoint, and what one takes on: `max_queue` jobs may wait inside a worker; more are refused.

    Another worker is started when jobs have waited for `queue_delay_s`.
    """

    min_workers: Annotated[int, pydantic.Field(ge=0)] = 0
    max_workers: Count = 2
    idle_timeout_s: Positive = 60.0
    queue_delay_s: Annotated[float, pydantic.Field(ge=0.5)] = 4.0
    concurrency: Count = 4
    max_queue: Annotated[int, pydantic.Field(ge=0)] = 64


class Timeouts(_Data):
    """Seconds. `cold_start_s` bounds `initialize`, and how long a request waits for a worker; `job_s` a whole synthesis
    after that."""

    cold_start_s: Positive = 300.0
    job_s: Positive = 300.0


class ModalSecret(_Data):
    """A secret of the account; its `keys` become environment variables. A deployment without one of them fails."""

    name: str
    keys: Annotated[list[str], pydantic.Field(min_length=1)]


class ModalHardware(_Data):
    """What a worker runs on at Modal (`modal.App.cls`).

    `gpus`, the preferred one first, in Modal's names (`L4`, `A10G`, `H100:2`); without any the function runs on CPUs.
    `snapshot`: "memory" keeps what the adapter's `load` did, "gpu" (alpha at Modal: try it with a canary) what
    `initialize` did as well. Another worker is started beyond `target_concurrency` jobs on each; `buffer_workers` idle
    ones are kept while there is load. `volumes` maps paths to names of volumes, which are mounted read-only.
    """

    gpus: list[str] = []
    cpus: Positive | None = None
    memory_mib: Count | None = None
    snapshot: Literal["off", "memory", "gpu"] = "off"
    target_concurrency: Count | None = None
    buffer_workers: Annotated[int, pydantic.Field(ge=0)] = 0
    volumes: dict[Annotated[str, pydantic.Field(pattern=r"^/[\w./-]+$")], str] = {}
    secrets: list[ModalSecret] = []


class RunpodHardware(_Data):
    """What a worker runs on at RunPod (its management API v2, `POST /v2/serverless`).

    `gpu_pools`, the preferred one first, are ids of `GET /v2/catalog/gpus`; without any the function runs on CPUs:
    `vcpus`, a power of two, of `cpu_flavour`, an id of `GET /v2/catalog/cpus`. `flashboot` keeps a worker's state after
    it was stopped, so that the next one starts sooner.
    """

    gpu_pools: list[str] = []
    gpu_count: Count = 1
    min_cuda: Annotated[str, pydantic.Field(pattern=r"^\d+\.\d+$")] | None = None
    cpu_flavour: str = "cpu5c"
    vcpus: Annotated[int, pydantic.Field(ge=2, le=64)] = 2
    disk_gb: Count = 20
    flashboot: bool = True
    data_centers: list[str] = []


class Voice(_Data):
    """A voice as users name it. `parameters` are handed to the adapter with every job that names the voice."""

    slug: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$")]
    name: str
    language: Annotated[str, pydantic.Field(description="BCP 47 tag")]
    gender: Literal["female", "male", "neutral"]
    parameters: dict[str, Any] = {}


class Example(_Data):
    """An input with what must hold for its audio; the contract tests run it at every provider."""

    text: str
    voice: str
    speed: float = 1.0
    parameters: dict[str, Any] = {}
    min_duration_ms: Positive
    max_duration_ms: Positive


def _no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "additionalProperties": False}


class FunctionSpec(_Data):
    """One folder under `functions/`: a model, packaged once.

    `adapter` is `module.Class` inside the folder; `parameters` a JSON Schema for a job's `parameters`.
    `install = "on-demand"` keeps heavy dependencies out of the environment that `make setup` builds.
    """

    name: Annotated[str, pydantic.Field(pattern=NAME_PATTERN)]
    version: str
    adapter: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    display_name: str
    description: str = ""
    license: str
    languages: Annotated[list[str], pydantic.Field(min_length=1)]
    sample_rate: Annotated[int, pydantic.Field(ge=8_000, le=96_000)] = 24_000
    channels: Annotated[int, pydantic.Field(ge=1, le=2)] = 1
    deterministic: bool = False
    install: Literal["default", "on-demand"] = "default"
    dependencies: list[str] = []
    input: InputLimits = InputLimits()
    parameters: dict[str, Any] = pydantic.Field(default_factory=_no_parameters)
    scaling: Scaling = Scaling()
    timeouts: Timeouts = Timeouts()
    modal: ModalHardware = ModalHardware()
    runpod: RunpodHardware = RunpodHardware()
    examples: list[Example] = []
    voices: list[Voice] = []

    @pydantic.field_validator("parameters")
    @classmethod
    def _is_json_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from None
        return {"type": "object", "additionalProperties": False, **schema}

    @pydantic.field_validator("voices")
    @classmethod
    def _voices_are_distinct(cls, voices: list[Voice]) -> list[Voice]:
        slugs = [voice.slug for voice in voices]
        if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
            raise ValueError(f"voices listed twice: {', '.join(twice)}")
        return voices

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder/pyproject.toml` and `folder/voices.json`. Raises `ConfigurationError` naming file and field."""
        path = folder / "pyproject.toml"
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            project, table = document["project"], document["tool"]["yapit"]["function"]
            voices = json.loads((folder / "voices.json").read_text(encoding="utf-8"))
            return cls.model_validate(
                {
                    "name": folder.name,
                    "version": project["version"],
                    "dependencies": project.get("dependencies", []),
                    "voices": voices,
                    **table,
                }
            )
        except FileNotFoundError as error:
            raise ConfigurationError(f"{error.filename}: no such file; copy functions/_template") from None
        except KeyError as error:
            raise ConfigurationError(
                f"{path}: {error} is missing (needed: [project] version, [tool.yapit.function])"
            ) from None
        except pydantic.ValidationError as error:
            raise ConfigurationError(f"{path}: {InvalidRequest.from_validation(error)}") from None
        except ValueError as error:  # TOML and JSON syntax
            raise ConfigurationError(f"{folder}: {error}") from None

    @property
    def deployment_name(self) -> str:
        """What the function is called at a provider, where names are given: among others of the same account."""
        return f"yapit-{self.name}"

    @property
    def modal_timeout_s(self) -> int:
        """A call's time limit at Modal: beyond the worker's own, so that the caller hears its words and not Modal's."""
        return math.ceil(self.timeouts.job_s) + MODAL_SPARE_S

    @property
    def adapter_class(self) -> str:
        """Dotted path of the adapter, as `ADAPTER_CLASS` takes it."""
        return f"functions.{self.name}.{self.adapter}"

    @functools.cached_property
    def _parameters_validator(self) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator(self.parameters)

    def voice(self, slug: str) -> Voice | None:
        """The voice of that name, or None for a function that lists no voices. Raises `UnknownVoice`."""
        for voice in self.voices:
            if voice.slug == slug:
                return voice
        if not self.voices:
            return None
        known = ", ".join(v.slug for v in self.voices[:12]) + (" …" if len(self.voices) > 12 else "")
        raise UnknownVoice(f"voice: {self.name} has no voice {slug!r}; it has {known}", param="voice")

    def adapter_parameters(self, job: SynthesisParameters) -> dict[str, Any]:
        """What the adapter is handed besides text, voice and speed: the voice's parameters and the job's.

        Raises `UnknownVoice`, or `InvalidRequest` where the job's parameters do not fit the schema.
        """
        voice = self.voice(job.voice)
        error = jsonschema.exceptions.best_match(self._parameters_validator.iter_errors(job.parameters))
        if error is not None:
            field = ".".join(["parameters", *(str(part) for part in error.absolute_path)])
            raise InvalidRequest(f"{field}: {error.message[:300]}", param="parameters")
        return {**(voice.parameters if voice else {}), **job.parameters}


def functions_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the functions: `FUNCTIONS_DIR`, or `functions/` under the working directory."""
    return Path(environ.get("FUNCTIONS_DIR", "functions")).resolve()


def discover(root: Path) -> dict[str, FunctionSpec]:
    """Every function under `root` by name; folders starting with `_` or `.` are not functions.

    Raises `ConfigurationError` if one cannot be read.
    """
    if not root.is_dir():
        raise ConfigurationError(f"{root}: no such folder; FUNCTIONS_DIR names the one that holds the functions")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] not in "_.")
    return {folder.name: FunctionSpec.load(folder) for folder in folders if (folder / "pyproject.toml").is_file()}
