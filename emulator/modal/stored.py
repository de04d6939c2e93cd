"""What a deploy brings besides code: secrets, volumes, and the environment that all is in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal import facts
from emulator.modal.ids import Ids
from emulator.modal.rpc import Caller, Handlers
from yapit.errors import ConfigurationError

Secrets = Mapping[str, Mapping[str, str]]
"""Of each secret by its name, the variables."""

FROM_NAME = api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED
IF_MISSING = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
FAIL_IF_EXISTS = api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS
OVERWRITE = api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS


@dataclass(slots=True)
class Secret:
    secret_id: str
    name: str
    values: dict[str, str] = field(default_factory=dict)


class Stored:
    """Bounded by `MAX_OBJECTS`, each kind for itself."""

    MAX_OBJECTS = 10_000

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._secrets: dict[str, Secret] = {}
        self._secret_names: dict[str, str] = {}
        self._volume_ids: dict[str, str] = {}

    def handlers(self) -> Handlers:
        return {
            "EnvironmentGetOrCreate": self.environment_get_or_create,
            "SecretGetOrCreate": self.secret_get_or_create,
            "VolumeGetOrCreate": self.volume_get_or_create,
        }

    def set_secret(self, name: str, values: Mapping[str, str]) -> Secret:
        """Create a secret, or replace its values."""
        if secret_id := self._secret_names.get(name):
            secret = self._secrets[secret_id]
            secret.values = dict(values)
            return secret
        return self._add(name, values)

    def secret_values(self, secret_id: str) -> dict[str, str]:
        """The variables that a secret brings into a container. Raises `GRPCError`."""
        secret = self._secrets.get(secret_id)
        if secret is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no secret {secret_id!r}")
        return secret.values

    async def environment_get_or_create(
        self, request: api_pb2.EnvironmentGetOrCreateRequest, _: Caller
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        if request.deployment_name not in ("", facts.ENVIRONMENT):
            raise GRPCError(
                Status.NOT_FOUND,
                f"there is no environment {request.deployment_name!r}; the emulator has one, {facts.ENVIRONMENT!r}",
            )
        settings = api_pb2.EnvironmentSettings(image_builder_version=facts.IMAGE_BUILDER_VERSION)
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=facts.ENVIRONMENT_ID,
            metadata=api_pb2.EnvironmentMetadata(name=facts.ENVIRONMENT, settings=settings),
        )

    async def secret_get_or_create(
        self, request: api_pb2.SecretGetOrCreateRequest, _: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        name, values = request.deployment_name, dict(request.env_dict)
        existing = self._secrets.get(self._secret_names.get(name, ""))
        if not name:
            secret = self._anonymous(values)
        elif existing is None:
            if request.object_creation_type == FROM_NAME:
                raise GRPCError(Status.NOT_FOUND, self._unknown_secret(name))
            secret = self.set_secret(name, values)
        elif request.object_creation_type == FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"secret {name!r} exists already")
        elif request.object_creation_type == OVERWRITE:
            secret = self.set_secret(name, values)
        else:
            secret = existing
        if missing := sorted(set(request.required_keys) - secret.values.keys()):
            raise GRPCError(
                Status.NOT_FOUND, f"secret {name!r} has no {', '.join(missing)}; it has {', '.join(secret.values)}"
            )
        return api_pb2.SecretGetOrCreateResponse(
            secret_id=secret.secret_id, metadata=api_pb2.SecretMetadata(name=secret.name)
        )

    async def volume_get_or_create(
        self, request: api_pb2.VolumeGetOrCreateRequest, _: Caller
    ) -> api_pb2.VolumeGetOrCreateResponse:
        """A volume by name. It holds no files: containers find nothing mounted."""
        name, kind = request.deployment_name, request.object_creation_type
        volume_id = self._volume_ids.get(name)
        if volume_id is None and name and kind == FROM_NAME:
            raise GRPCError(
                Status.NOT_FOUND,
                f"there is no volume {name!r}: `modal volume create {name}`, or create_if_missing=True",
            )
        if volume_id is not None and kind == FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"volume {name!r} exists already")
        if volume_id is None:
            self._check_room(self._volume_ids, "volumes")
            volume_id = self._ids.new("vo")
            self._volume_ids[name or volume_id] = volume_id
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume_id,
            version=request.version or api_pb2.VOLUME_FS_VERSION_V1,
            metadata=api_pb2.VolumeMetadata(name=name, version=request.version or api_pb2.VOLUME_FS_VERSION_V1),
        )

    def _anonymous(self, values: Mapping[str, str]) -> Secret:
        """One that comes with a deploy. The next deploy brings it again."""
        same = (secret for secret in self._secrets.values() if not secret.name and secret.values == values)
        return next(same, None) or self._add("", values)

    def _add(self, name: str, values: Mapping[str, str]) -> Secret:
        self._check_room(self._secrets, "secrets")
        secret = Secret(self._ids.new("st"), name, dict(values))
        self._secrets[secret.secret_id] = secret
        if name:
            self._secret_names[name] = secret.secret_id
        return secret

    def _check_room(self, kept: Mapping[str, object], kind: str) -> None:
        if len(kept) >= self.MAX_OBJECTS:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"the emulator keeps at most {self.MAX_OBJECTS:,} {kind}")

    def _unknown_secret(self, name: str) -> str:
        there = ", ".join(self._secret_names) or "none"
        return f"there is no secret {name!r} (there is {there}): `modal secret create {name} KEY=value`"


def secrets_from(path: Path) -> dict[str, dict[str, str]]:
    """The secrets of a JSON file, `{"name": {"KEY": "value"}}`. Raises `ConfigurationError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {str(key): str(value) for key, value in values.items()} for name, values in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{path}: not a file of secrets, {{name: {{KEY: value}}}}: {error}") from None
