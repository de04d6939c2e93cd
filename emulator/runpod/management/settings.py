"""What an endpoint is set to, as its JSON says it: from the bodies that create and change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.runpod.management import catalog, rules
from emulator.runpod.management.bodies import CONTAINER_FIELDS, CreateEndpoint, PatchEndpoint
from emulator.runpod.management.problems import Problem, invalid

Settings = dict[str, Any]
Template = Mapping[str, Any]

ROLLED_OUT = ("image", "args", "disk", "env", "ports", "registry", "gpu", "cpu")
"""Changes of these make a release, which workers take over as they are replaced [V2]; the others hold at once."""
_CONTAINER_DEFAULTS: Settings = {"args": "", "disk": rules.DEFAULT_DISK_GB, "env": {}, "ports": [], "registry": None}


def created(body: CreateEndpoint, template: Template | None) -> Settings:
    """The settings of a new endpoint. Raises `Problem` where they contradict each other."""
    given = body.given()
    container = {**_CONTAINER_DEFAULTS, **_container(given, template)}
    if not container.get("image"):
        raise invalid("$: missing property 'image'")
    if (body.gpu is None) == (body.cpu is None):
        raise Problem(400, "exactly one of gpu or cpu must be set")
    settings: Settings = {
        "name": body.name,
        "type": body.type,
        **container,
        "gpu": body.gpu.model_dump() if body.gpu else None,
        "workers": {"min": rules.DEFAULT_MIN_WORKERS, "max": rules.DEFAULT_MAX_WORKERS, **given.get("workers", {})},
        "scaling": body.scaling.model_dump(),
        "dataCenterIds": body.dataCenterIds or [],
        "networkVolumes": body.networkVolumes or [],
        "timeout": body.timeout if body.timeout is not None else rules.DEFAULT_TIMEOUT_MS,
        "flashboot": body.flashboot or rules.DEFAULT_FLASHBOOT,
    }
    if body.cpu:
        settings["cpu"] = [_with_memory(cpu.model_dump()) for cpu in body.cpu]
    check(settings)
    return _with_idle_timeout(settings)


def patched(settings: Settings, body: PatchEndpoint, template: Template | None) -> Settings:
    """`settings` with what the body gives. Raises `Problem`."""
    given = body.given()
    for family in ("gpu", "cpu"):
        if family in given and not settings.get(family):
            raise Problem(400, f"{family} cannot be set: the compute family of an endpoint is immutable")
    changes = {key: value for key, value in given.items() if key not in ("gpu", "cpu", "workers", "templateId")}
    changes |= _container(given, template)
    changes["workers"] = {**settings["workers"], **given.get("workers", {})}
    if "gpu" in given:
        changes["gpu"] = _patched_gpu(settings["gpu"], given["gpu"])
    if "cpu" in given:
        changes["cpu"] = [_with_memory(cpu) for cpu in given["cpu"]]
    if not _has_idle_timeout({**settings, **changes}) and "idleTimeout" not in given.get("workers", {}):
        changes["workers"].pop("idleTimeout", None)
    after = {**settings, **changes}
    check(after)
    return _with_idle_timeout(after)


def check(settings: Settings) -> None:
    """Raises `Problem` where an endpoint cannot be like that."""
    workers, scaling = settings["workers"], settings["scaling"]
    if settings["type"] == "LOAD_BALANCER" and scaling["type"] != "REQUEST_COUNT":
        raise invalid("$.scaling.type: value must be 'REQUEST_COUNT'")
    if "idleTimeout" in workers and not _has_idle_timeout(settings):
        raise invalid("$.workers.idleTimeout: not applicable to a queue that scales on requestCount")
    if workers["min"] > workers["max"]:
        raise Problem(400, f"workers.min ({workers['min']}) must not be above workers.max ({workers['max']})")
    if settings["gpu"]:
        _check_gpu(settings["gpu"])
    for cpu in settings.get("cpu", []):
        _check_cpu(cpu)


def _container(given: Settings, template: Template | None) -> Settings:
    """The container's fields of a body over those of its template; variables are merged one by one."""
    own = {key: given[key] for key in CONTAINER_FIELDS if key in given}
    if template is None:
        return own
    env = {**template["env"], **own.get("env", {})}
    return {**{key: template[key] for key in CONTAINER_FIELDS}, **own, "env": env}


def _has_idle_timeout(settings: Settings) -> bool:
    return bool(settings["type"] != "QUEUE" or settings["scaling"]["type"] == "QUEUE_DELAY")


def _with_idle_timeout(settings: Settings) -> Settings:
    if not _has_idle_timeout(settings):
        return settings
    return {**settings, "workers": {"idleTimeout": rules.DEFAULT_IDLE_TIMEOUT_S, **settings["workers"]}}


def _patched_gpu(gpu: Settings, given: Settings) -> Settings:
    changed = {**gpu, **given}
    if "pools" in given:
        changed["excludedTypes"] = given.get("excludedTypes", [])
    changed["minCudaVersion"] = changed["minCudaVersion"] or None
    return changed


def _check_gpu(gpu: Settings) -> None:
    if unknown := sorted(set(gpu["pools"]) - catalog.POOLS):
        raise Problem(400, f"unknown gpu pools: {', '.join(unknown)}; there are {', '.join(sorted(catalog.POOLS))}")
    in_pools = {card.gpu_id for card in catalog.GPUS if card.pool in gpu["pools"]}
    if strangers := sorted({name.strip() for name in gpu["excludedTypes"]} - in_pools):
        raise Problem(400, f"gpu.excludedTypes: not in the selected pools: {', '.join(strangers)}")
    if gpu["allowedCudaVersions"] and gpu["minCudaVersion"]:
        raise Problem(400, "gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive")


def _check_cpu(cpu: Settings) -> None:
    flavour, count = catalog.flavour(cpu["id"]), cpu["vcpuCount"]
    if flavour is None:
        known = ", ".join(each.flavour_id for each in catalog.CPUS)
        raise Problem(400, f"unknown cpu flavor {cpu['id']}; there are {known}")
    if count & (count - 1) or not flavour.min_vcpu <= count <= flavour.max_vcpu:
        raise Problem(
            400,
            f"cpu {cpu['id']}: vcpuCount must be a power of two from {flavour.min_vcpu} to {flavour.max_vcpu}, "
            f"found {count}",
        )


def _with_memory(cpu: Settings) -> Settings:
    flavour = catalog.flavour(cpu["id"])
    return {**cpu, "memory": cpu["vcpuCount"] * flavour.ram_gb_per_vcpu if flavour else 0}
