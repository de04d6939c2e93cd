"""Images, of which nothing is built: what is kept is what their containers are told, `ENV` and `WORKDIR`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal import facts
from emulator.modal.ids import Ids
from emulator.modal.rpc import Caller, Handlers

MAX_IMAGES = 10_000
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>\w+))")


@dataclass(frozen=True, slots=True)
class Image:
    """`variables` reach the container, `workdir` is where it runs (empty: `facts.WORKDIR`)."""

    image_id: str
    variables: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    context_mount_ids: tuple[str, ...] = ()


class Images:
    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._by_id: dict[str, Image] = {}
        self._ids_by_definition: dict[bytes, str] = {}

    def handlers(self) -> Handlers:
        return {"ImageGetOrCreate": self.image_get_or_create}

    def get(self, image_id: str) -> Image:
        """An image without anything in it, where there is none of that id."""
        return self._by_id.get(image_id) or Image(image_id)

    async def image_get_or_create(
        self, request: api_pb2.ImageGetOrCreateRequest, _: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        """Answers that the image is built, at once."""
        definition = request.image.SerializeToString(deterministic=True)
        image_id = self._ids_by_definition.get(definition)
        if image_id is None:
            if len(self._by_id) >= MAX_IMAGES:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, f"the emulator keeps at most {MAX_IMAGES:,} images")
            image_id = self._ids_by_definition[definition] = self._ids.new("im")
            self._by_id[image_id] = self._read(image_id, request.image)
        return api_pb2.ImageGetOrCreateResponse(
            image_id=image_id,
            result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=api_pb2.ImageMetadata(
                image_builder_version=request.builder_version or facts.IMAGE_BUILDER_VERSION,
                workdir=self._by_id[image_id].workdir,
            ),
        )

    def _read(self, image_id: str, definition: api_pb2.Image) -> Image:
        variables: dict[str, str] = {}
        workdir = ""
        mounts: list[str] = []
        for base in definition.base_images:
            image = self.get(base.image_id)
            variables |= image.variables
            workdir, mounts = image.workdir or workdir, [*mounts, *image.context_mount_ids]
        for command, rest in instructions(definition.dockerfile_commands):
            if command == "ENV":
                variables |= _assignments(rest, variables)
            elif command == "WORKDIR":
                workdir = _joined(workdir, rest.strip())
        if definition.context_mount_id:
            mounts.append(definition.context_mount_id)
        return Image(image_id, variables, workdir, tuple(mounts))


def instructions(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined."""
    parts: list[str] = []
    for line in "\n".join(lines).splitlines():
        if line.lstrip().startswith("#"):
            continue
        if line.rstrip().endswith("\\"):
            parts.append(line.rstrip()[:-1])
            continue
        command, _, rest = " ".join([*parts, line]).strip().partition(" ")
        parts = []
        if command:
            yield command.upper(), rest.strip()


def _assignments(text: str, known: dict[str, str]) -> dict[str, str]:
    """`A=1 B="x y"`, or `A the rest`; variables that are known are put in."""
    try:
        words = shlex.split(text)
    except ValueError:
        return {}
    if words and "=" not in words[0]:
        return {words[0]: _expanded(text.strip().partition(" ")[2].strip(), known)}
    pairs = (word.partition("=") for word in words if "=" in word)
    return {name: _expanded(value, known) for name, _, value in pairs}


def _expanded(value: str, known: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: known.get(match["braced"] or match["plain"], ""), value)


def _joined(workdir: str, path: str) -> str:
    return path if path.startswith("/") else f"{workdir.rstrip('/')}/{path}"
