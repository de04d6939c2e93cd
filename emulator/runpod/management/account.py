"""The resources of an emulated account: endpoints with their releases, templates, registries, network volumes."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime
from typing import Any, Protocol

from emulator.engine.clock import Clock
from emulator.runpod.management import rules
from emulator.runpod.management.bodies import (
    CreateEndpoint,
    CreateRegistry,
    CreateTemplate,
    CreateVolume,
    PatchEndpoint,
    PatchTemplate,
    PatchVolume,
)
from emulator.runpod.management.problems import Problem, invalid, not_found
from emulator.runpod.management.settings import ROLLED_OUT, Settings, created, patched
from emulator.runpod.management.state import StateFile

Resource = dict[str, Any]
_ID_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 14  # [DOCS] as in the documentation's examples


class Fleet(Protocol):
    """What runs the endpoints. An endpoint is `{"id", "createdAt", "version", "releases", "settings"}`."""

    def start(self, endpoint: Resource) -> None:
        """Make it callable."""

    def update(self, endpoint: Resource, *, rolls_out: bool) -> None:
        """Take over its new settings; with `rolls_out`, replace its workers as they become free."""

    async def stop(self, endpoint_id: str) -> None:
        """Cancel its jobs and stop its workers."""


class Account:
    """Raises `Problem` for whatever the API refuses."""

    def __init__(self, fleet: Fleet, clock: Clock, state: StateFile, *, max_workers_quota: int | None = None) -> None:
        self._fleet, self._clock, self._state = fleet, clock, state
        self._quota = max_workers_quota
        self._resources = state.load()
        for endpoint in self.all("endpoints"):
            fleet.start(endpoint)

    def all(self, kind: str) -> list[Resource]:
        return list(self._resources[kind].values())

    def get(self, kind: str, resource_id: str) -> Resource:
        try:
            return self._resources[kind][resource_id]
        except KeyError:
            raise not_found(kind.removesuffix("s"), resource_id) from None

    def create_endpoint(self, body: CreateEndpoint) -> Resource:
        settings = created(body, self._template(body.templateId))
        self._check(settings, "")
        endpoint_id = _new_id()
        endpoint = {
            "id": endpoint_id,
            "createdAt": self._now(),
            "version": 1,
            "settings": settings,
            "releases": [self._release(1, {}, {})],
        }
        self._fleet.start(endpoint)
        return self._keep("endpoints", endpoint)

    def patch_endpoint(self, endpoint_id: str, body: PatchEndpoint) -> Resource:
        before = self.get("endpoints", endpoint_id)
        settings = patched(before["settings"], body, self._template(body.templateId))
        self._check(settings, endpoint_id)
        rolls_out = any(settings.get(key) != before["settings"].get(key) for key in ROLLED_OUT)
        endpoint = {**before, "settings": settings}
        if rolls_out:
            version = before["version"] + 1
            release = self._release(version, before["settings"], settings)
            endpoint |= {"version": version, "releases": [release, *before["releases"]]}
        if settings != before["settings"]:
            self._fleet.update(endpoint, rolls_out=rolls_out)
            self._keep("endpoints", endpoint)
        return endpoint

    async def delete_endpoint(self, endpoint_id: str) -> None:
        self.get("endpoints", endpoint_id)
        self.drop("endpoints", endpoint_id)
        await self._fleet.stop(endpoint_id)

    def create_template(self, body: CreateTemplate) -> Resource:
        container = {"args": "", "disk": rules.DEFAULT_DISK_GB, "env": {}, "ports": [], "registry": None}
        fields = body.model_dump(exclude_none=True)
        return self._keep("templates", {"id": _new_id(), **container, **fields})

    def patch_template(self, template_id: str, body: PatchTemplate) -> Resource:
        return self._keep("templates", {**self.get("templates", template_id), **body.given()})

    def create_registry(self, body: CreateRegistry) -> Resource:
        """Who logs in, and with what, is written only: it is not kept here at all."""
        return self._keep("registries", {"id": _new_id(), "name": body.name})

    def create_volume(self, body: CreateVolume) -> Resource:
        return self._keep("networkVolumes", {"id": _new_id(), **body.model_dump()})

    def patch_volume(self, volume_id: str, body: PatchVolume) -> Resource:
        volume = self.get("networkVolumes", volume_id)
        if body.size is not None and body.size < volume["size"]:
            raise Problem(400, f"size cannot be reduced from {volume['size']} to {body.size} GB")
        return self._keep("networkVolumes", {**volume, **body.given()})

    def drop(self, kind: str, resource_id: str) -> None:
        self.get(kind, resource_id)
        del self._resources[kind][resource_id]
        self._state.save(self._resources)

    def _template(self, template_id: str | None) -> Resource | None:
        if template_id is None:
            return None
        template = self.get("templates", template_id)
        if not template["serverless"]:
            raise invalid(f"$.templateId: {template_id} is no serverless template")
        return template

    def _check(self, settings: Settings, endpoint_id: str) -> None:
        """What holds between resources: references and the quota."""
        registry = settings["registry"]
        if registry is not None and registry not in self._resources["registries"]:
            raise Problem(rules.UNKNOWN_REFERENCE_STATUS, f"registry {registry} not found")
        for volume in settings["networkVolumes"]:
            if volume not in self._resources["networkVolumes"]:
                raise Problem(rules.UNKNOWN_REFERENCE_STATUS, f"network volume {volume} not found")
        others = sum(e["settings"]["workers"]["max"] for e in self.all("endpoints") if e["id"] != endpoint_id)
        if self._quota is not None and others + settings["workers"]["max"] > self._quota:
            raise Problem(rules.QUOTA_STATUS, rules.QUOTA_DETAIL.format(quota=self._quota))

    def _release(self, version: int, before: Settings, after: Settings) -> Resource:
        changed = [key for key in ROLLED_OUT if before.get(key) != after.get(key)]
        return {
            "id": _new_id(),
            "version": version,
            "source": "MANUAL",
            "buildId": None,
            "createdByUserId": None,
            "createdAt": self._now(),
            "diff": [{"field": key, "old": before.get(key), "new": after.get(key)} for key in changed],
        }

    def _keep(self, kind: str, resource: Resource) -> Resource:
        self._resources[kind][resource["id"]] = resource
        self._state.save(self._resources)
        return resource

    def _now(self) -> str:
        return timestamp(self._clock.time())


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _new_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
