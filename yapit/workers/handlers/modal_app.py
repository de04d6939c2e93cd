"""What `modal deploy` is given, whatever the function:

    YAPIT_FUNCTION=hibari python -m modal deploy -m yapit.workers.handlers.modal_app

The module is imported once here, to say what the class needs, and once in every container. The variable reaches the
containers through the image, which is that of the function's own Dockerfile. The function's folder is mounted beside
this package, so that a change of code needs no new image.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import modal

from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec, functions_root
from yapit.workers.handlers.build_context import copy_context
from yapit.workers.handlers.modal import ModalWorker

FUNCTION_VARIABLE = "YAPIT_FUNCTION"
REMOTE_ROOT = Path("/root")
"""Where Modal mounts the packages that it finds at deployment, this one among them (modal 1.6.4, `ROOT_DIR`)."""
_context = tempfile.TemporaryDirectory(prefix="yapit-context-")  # read until the deployment is over
MIN_SCALEDOWN_S, MAX_SCALEDOWN_S = 2, 3_600  # Modal's bounds (docs)


def find_spec() -> tuple[FunctionSpec, Path]:
    """The function that the environment names, and its folder. Raises `ConfigurationError`."""
    root = functions_root() if modal.is_local() else Path(__file__).parents[3] / "functions"
    found = [path.parent.name for path in sorted(root.glob("[!_.]*/pyproject.toml"))]
    name = os.environ.get(FUNCTION_VARIABLE, "")
    if name not in found:
        raise ConfigurationError(f"{FUNCTION_VARIABLE}={name!r} names no function; there is {', '.join(found)}")
    os.environ["FUNCTIONS_DIR"] = str(root)
    return FunctionSpec.load(root / name), root / name


def image_of(spec: FunctionSpec, folder: Path) -> modal.Image:
    """The function's own image. Modal puts its command where the entrypoint would be; RunPod keeps that, and so none of
    our Dockerfiles has one, but a base image may. What Modal mounts lies under /root, where other users may not look.
    """
    remote = REMOTE_ROOT / "functions" / spec.name
    if modal.is_local():
        copy_context(folder / "Dockerfile", folder.parents[1], Path(_context.name))
    return (
        modal.Image.from_dockerfile(folder / "Dockerfile", context_dir=_context.name)
        .entrypoint([])
        .dockerfile_commands("USER root")
        .env({FUNCTION_VARIABLE: spec.name})
        .add_local_dir(folder, remote.as_posix(), ignore=["**/__pycache__", "**/*.pyc"])
    )


def class_options(spec: FunctionSpec, folder: Path) -> dict[str, Any]:
    """What `app.cls` takes. `timeout` is a job's; a cold start has its own."""
    hardware, scaling, timeouts = spec.modal, spec.scaling, spec.timeouts
    volumes = {path: modal.Volume.from_name(name) for path, name in hardware.volumes.items()}
    return {
        "image": image_of(spec, folder),
        "gpu": hardware.gpus or None,
        "cpu": hardware.cpus,
        "memory": hardware.memory_mib,
        "volumes": {path: volume.with_mount_options(read_only=True) for path, volume in volumes.items()},
        "secrets": [modal.Secret.from_name(secret.name, required_keys=secret.keys) for secret in hardware.secrets],
        "min_containers": scaling.min_workers,
        "max_containers": scaling.max_workers,
        "buffer_containers": hardware.buffer_workers,
        "scaledown_window": min(MAX_SCALEDOWN_S, max(MIN_SCALEDOWN_S, math.ceil(scaling.idle_timeout_s))),
        "timeout": spec.modal_timeout_s,
        "startup_timeout": math.ceil(timeouts.cold_start_s),
        "enable_memory_snapshot": hardware.snapshot != "off",
        "experimental_options": {"enable_gpu_snapshot": True} if hardware.snapshot == "gpu" else {},
    }


spec, folder = find_spec()
app = modal.App(spec.deployment_name)


@app.cls(**class_options(spec, folder))
@modal.concurrent(max_inputs=spec.scaling.concurrency, target_inputs=spec.modal.target_concurrency)
class TTS:
    """All of it asynchronous: cancelling a synchronous input takes its container down, and its neighbours with it."""

    @modal.enter(snap=spec.modal.snapshot != "off")
    async def load(self) -> None:
        self.worker = ModalWorker(spec.adapter_class)
        await self.worker.load()

    @modal.enter(snap=spec.modal.snapshot == "gpu")
    async def start(self) -> None:
        await self.worker.start()

    @modal.method()
    async def synthesize(self, job_input: dict[str, Any]) -> list[dict[str, Any]]:
        return await self.worker.synthesize(job_input)

    @modal.method()
    async def stream(self, job_input: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(self.worker.stream(job_input, modal.current_function_call_id() or "")) as items:
            async for item in items:
                yield item

    @modal.asgi_app(requires_proxy_auth=True)
    def web(self) -> Any:
        return self.worker.web()

    @modal.exit()
    async def stop(self) -> None:
        await self.worker.stop()
