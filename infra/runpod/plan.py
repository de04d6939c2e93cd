"""The difference between an endpoint as it is and as it is to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.runpod.desired import Wanted
from yapit.errors import DeploymentFailed

Json = dict[str, Any]
_IMMUTABLE = ("type",)
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes` is the body of the PATCH, empty where nothing changes; for a new endpoint, that of the POST."""

    name: str
    endpoint_id: str | None
    changes: Json
    lines: tuple[str, ...]

    def __str__(self) -> str:
        if self.endpoint_id is None:
            heading = f"create the endpoint {self.name}"
        elif self.changes:
            heading = f"change the endpoint {self.name} ({self.endpoint_id})"
        else:
            return f"the endpoint {self.name} ({self.endpoint_id}) is as it should be"
        return "\n".join([heading, *(f"  {line}" for line in self.lines)])


def plan(wanted: Wanted, found: Json | None) -> Plan:
    """Raises `DeploymentFailed` where the difference is in what RunPod does not change."""
    body = wanted.body()
    if found is None:
        return Plan(wanted.name, None, body, tuple(f"{key}: {_shown(key, value)}" for key, value in body.items()))
    for key in _IMMUTABLE:
        if found.get(key, body[key]) != body[key]:
            raise DeploymentFailed(
                f"the endpoint {wanted.name} ({found['id']}) is of type {found[key]}, which RunPod does not change to "
                f"{body[key]}: remove it with make destroy-runpod, or at https://console.runpod.io/serverless"
            )
    family = "gpu" if "gpu" in body else "cpu"
    if not found.get(family):
        raise DeploymentFailed(
            f"the endpoint {wanted.name} ({found['id']}) runs on no {family.upper()}, and RunPod does not change "
            "that: remove it with make destroy-runpod first, or deploy with the other COMPUTE"
        )
    changes = {key: value for key, value in body.items() if key != "name" and not _holds(value, found.get(key))}
    lines = [line for key, value in changes.items() for line in _difference(key, found.get(key), value)]
    if "env" in changes:
        # a PATCH replaces all variables: those that somebody set by hand are to stay
        changes["env"] = {**found.get("env", {}), **changes["env"]}
    return Plan(wanted.name, str(found["id"]), changes, tuple(lines))


def _holds(wanted: object, found: object) -> bool:
    """Whether what was found is what is wanted. RunPod may tell more than was set, the memory of a CPU, say, and leave
    out what is empty."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_holds(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_holds, wanted, found))
    return wanted == found or not (wanted or found)


def _difference(key: str, before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in after.items():
            if before.get(name) != value:
                yield f"{key}.{name}: {_shown(name, before.get(name))} → {_shown(name, value)}"
    else:
        yield f"{key}: {_shown(key, before)} → {_shown(key, after)}"


def _shown(name: str, value: object) -> str:
    """As people read it, without secrets: an endpoint's variables may have been set by hand."""
    if any(word in name.upper() for word in _SECRET) and isinstance(value, str):
        return "(not shown)"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(key, item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_shown(name, item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)
