"""What a deployment would do, and what the account lacks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from infra.routes_file import Entry
from yapit.function_spec import MODAL_CLASS, FunctionSpec, ModalSecret


class Asked(Protocol):
    """What a plan asks an account (`Account`)."""

    def has_class(self, spec: FunctionSpec) -> bool: ...

    def has_secret(self, secret: ModalSecret) -> bool: ...

    def has_volume(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """`missing` says for each thing that a deployment needs and does not find how to make it."""

    heading: str
    lines: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.heading, *(f"  {line}" for line in (*self.lines, *self.missing))])


def plan(spec: FunctionSpec, account: Asked) -> Plan:
    name = spec.deployment_name
    is_there = account.has_class(spec)
    heading = f"deploy the app {name} again: its ids stay" if is_there else f"create the app {name}"
    return Plan(heading, tuple(_settings(spec)), tuple(_missing(spec, account)))


def route(spec: FunctionSpec, environment: str) -> Entry:
    """The entry of `tts_processors.json`."""
    entry = {
        "slug": f"{spec.name}-modal",
        "function": spec.name,
        "processor": "yapit.gateway.processors.tts.modal.ModalProcessor",
        "modal_app": spec.deployment_name,
        "modal_class": MODAL_CLASS,
    }
    return {**entry, "modal_environment": environment} if environment else entry


def _settings(spec: FunctionSpec) -> Iterator[str]:
    hardware, scaling, timeouts = spec.modal, spec.scaling, spec.timeouts
    target = f", another beyond {hardware.target_concurrency}" if hardware.target_concurrency else ""
    yield f"class       {MODAL_CLASS}: synthesize, stream, and the HTTP worker behind proxy authentication"
    yield f"image       functions/{spec.name}/Dockerfile"
    yield f"hardware    {' or '.join(hardware.gpus) or 'CPU'}"
    yield (
        f"containers  {scaling.min_workers} to {scaling.max_workers}, {hardware.buffer_workers} spare under load, "
        f"stopped after {scaling.idle_timeout_s:g} s without a job"
    )
    yield f"jobs        {scaling.concurrency} at a time in each{target}"
    yield f"timeouts    {timeouts.job_s:g} s for a job, {timeouts.cold_start_s:g} s for a cold start"
    yield f"snapshot    {hardware.snapshot}"
    if scaling.min_workers:
        yield f"cost        {scaling.min_workers} container(s) day and night; min_workers = 0 costs nothing when idle"


def _missing(spec: FunctionSpec, account: Asked) -> Iterator[str]:
    for secret in spec.modal.secrets:
        if not account.has_secret(secret):
            keys = " ".join(f"{key}=…" for key in secret.keys)
            yield (
                f"the secret {secret.name} with {', '.join(secret.keys)} is missing: "
                f".venv/bin/python -m modal secret create --force {secret.name} {keys}"
            )
    for path, name in spec.modal.volumes.items():
        if not account.has_volume(name):
            yield f"the volume {name}, for {path}, is missing: .venv/bin/python -m modal volume create {name}"
