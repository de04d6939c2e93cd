"""What a container finds when it starts: its files, its arguments, its environment (modal 1.6.4, `config` and
`_container_entrypoint`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2

from emulator.engine.process import kept_environment
from emulator.modal import facts
from emulator.modal.images import Image
from emulator.modal.mounts import Mounts

ENTRYPOINT = """\
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("modal._container_entrypoint", run_name="__main__", alter_sys=True)
"""
"""A shell starts what runs in its background with SIGINT ignored, and children inherit that; the runtime cancels inputs
by SIGINT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One function as deployed, for containers that are to run it."""

    app_id: str
    function_id: str
    function: api_pb2.Function
    layout: api_pb2.AppLayout
    image: Image
    variables: Mapping[str, str]
    """From its secrets."""

    @property
    def takes_snapshots(self) -> bool:
        return self.function.checkpointing_enabled

    @property
    def startup_timeout_s(self) -> float:
        return float(self.function.startup_timeout_secs or self.function.timeout_secs or facts.TIMEOUT_S)

    def definition(self) -> api_pb2.Function:
        """The function as its container is told of it. There is no GPU here whose memory could be in a snapshot."""
        told = api_pb2.Function()
        told.CopyFrom(self.function)
        told.is_checkpointing_function = self.takes_snapshots
        told._experimental_enable_gpu_snapshot = False
        return told


class ContainerFiles:
    """A folder of its own, gone with `close`: `/` of the container is `root` in it. Made in a thread: it copies."""

    def __init__(self, task_id: str, program: Program, serialized_parameters: bytes, mounts: Mounts) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="modal-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self.root = folder / "root"
        self.socket = folder / "api.sock"
        self.restore_state = folder / "restore-state.json"
        self._arguments = folder / "arguments.pb"
        self.workdir = self.root / (program.image.workdir or facts.WORKDIR).lstrip("/")
        self.workdir.mkdir(parents=True)
        (self.root / facts.WORKDIR.lstrip("/")).mkdir(parents=True, exist_ok=True)
        mounts.unpack((*program.image.context_mount_ids, *program.function.mount_ids), self.root)
        self._arguments.write_bytes(_arguments(task_id, program, serialized_parameters))
        self._task_id, self._program = task_id, program

    def environment(self) -> dict[str, str]:
        """Later ones win: this machine's, the image's, the secrets', Modal's."""
        kept = kept_environment()
        brought = {**self._program.image.variables, **self._program.variables}
        paths = [str(self.root / facts.WORKDIR.lstrip("/")), str(self.workdir), brought.get("PYTHONPATH", "")]
        modal = {
            "MODAL_SERVER_URL": f"unix://{self.socket}",
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(self._arguments),
            "MODAL_RESTORE_STATE_PATH": str(self.restore_state),
            "MODAL_ENABLE_SNAP_RESTORE": "1" if self._program.takes_snapshots else "0",
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self._task_id,
            "MODAL_IMAGE_ID": self._program.function.image_id,
            "MODAL_ENVIRONMENT": facts.ENVIRONMENT,
            "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_UNSPECIFIED",
            "MODAL_REGION": "local",
            "MODAL_CONFIG_PATH": os.devnull,  # nobody's own token gets into a container
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        return {**kept, **brought, **modal}

    def close(self) -> None:
        self._folder.cleanup()


def _arguments(task_id: str, program: Program, serialized_parameters: bytes) -> bytes:
    layout = api_pb2.AppLayout()
    layout.CopyFrom(program.layout)
    known = {item.object_id for item in layout.objects}
    for dependency in program.function.object_dependencies:  # the runtime looks all of them up in the layout
        if dependency.object_id not in known:
            layout.objects.append(_dependency(dependency.object_id))
    arguments = api_pb2.ContainerArguments(
        task_id=task_id,
        function_id=program.function_id,
        app_id=program.app_id,
        function_def=program.definition(),
        serialized_params=serialized_parameters,
        environment_name=facts.ENVIRONMENT,
        checkpoint_id=f"ch-{task_id.removeprefix('ta-')}" if program.takes_snapshots else "",
        app_layout=layout,
    )
    return bytes(arguments.SerializeToString())


def _dependency(object_id: str) -> api_pb2.Object:
    if object_id.startswith("mo-"):
        return api_pb2.Object(object_id=object_id, mount_handle_metadata=api_pb2.MountHandleMetadata())
    if object_id.startswith("vo-"):
        return api_pb2.Object(object_id=object_id, volume_metadata=api_pb2.VolumeMetadata())
    return api_pb2.Object(object_id=object_id)
