"""Files that a deploy uploads, kept once by content, and the mounts that name them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal.blobs import BlobStore
from emulator.modal.ids import Ids
from emulator.modal.rpc import Caller, Handlers

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_STORE_BYTES = 2 * 1024 * 1024 * 1024
MAX_MOUNTS = 10_000
MAX_FILES = 100_000
"""Of one mount."""
GLOBAL = api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL


class Mounts:
    """Contents are kept in a temporary folder until `close`."""

    def __init__(self, ids: Ids, blobs: BlobStore) -> None:
        self._ids, self._blobs = ids, blobs
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._known: set[str] = set()
        self._total_bytes = 0
        self._mounts: dict[str, list[api_pb2.MountFile]] = {}
        self._named: dict[str, str] = {}

    def handlers(self) -> Handlers:
        return {
            "MountBatchedCheckExistence": self.check_existence,
            "MountGetOrCreate": self.get_or_create,
            "MountPutFile": self.put_file,
        }

    async def check_existence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest, _: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        missing = [digest for digest in request.sha256_hex_hashes if digest not in self._known]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing, checked_at=_now())

    async def put_file(self, request: api_pb2.MountPutFileRequest, _: Caller) -> api_pb2.MountPutFileResponse:
        """Without content it is a question: whether the file is here (SDKs before 1.5 ask so)."""
        kind = request.WhichOneof("data_oneof")
        if kind is not None and request.sha256_hex not in self._known:
            content = request.data if kind == "data" else self._blobs.get(request.data_blob_id)
            if content is None:
                raise GRPCError(Status.NOT_FOUND, f"there is no blob {request.data_blob_id!r}, or not any more")
            self._keep(request.sha256_hex, content)
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in self._known, checked_at=_now())

    async def get_or_create(
        self, request: api_pb2.MountGetOrCreateRequest, _: Caller
    ) -> api_pb2.MountGetOrCreateResponse:
        """What Modal itself brings (its client, a Python to add) is a mount without files: containers run on this
        machine's Python, and find the SDK beside the emulator."""
        files = [*request.files]
        if not files and request.namespace != GLOBAL and request.deployment_name not in self._named:
            raise GRPCError(Status.NOT_FOUND, f"there is no mount {request.deployment_name!r}")
        if absent := [file.filename for file in files if file.sha256_hex not in self._known]:
            raise GRPCError(Status.FAILED_PRECONDITION, f"these files were not uploaded: {', '.join(absent[:5])}")
        if len(files) > MAX_FILES or len(self._mounts) >= MAX_MOUNTS:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"the emulator keeps at most {MAX_MOUNTS:,} mounts of {MAX_FILES:,} files each",
            )
        for file in files:
            _checked(file.filename)
        digest = _digest(files)
        name = request.deployment_name or digest
        mount_id = self._named.get(name)
        if mount_id is None or (files and digest != _digest(self._mounts[mount_id])):
            mount_id = self._named[name] = self._ids.new("mo")
            self._mounts[mount_id] = files
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount_id, handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=digest)
        )

    def unpack(self, mount_ids: Iterable[str], root: Path) -> None:
        """Lay the files of these mounts out below `root` as they lie below `/` in a container; later ones win."""
        for mount_id in mount_ids:
            for file in self._mounts.get(mount_id, []):
                target = root / _checked(file.filename).relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copyfile(self._path(file.sha256_hex), target)
                target.chmod((file.mode & 0o777 or 0o644) | 0o600)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _keep(self, digest: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != digest:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the content of {digest!r} has another SHA-256")
        if len(content) > MAX_FILE_BYTES or self._total_bytes + len(content) > MAX_STORE_BYTES:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"the emulator keeps files of at most {MAX_FILE_BYTES:,} bytes, {MAX_STORE_BYTES:,} in all",
            )
        self._path(digest).write_bytes(content)
        self._known.add(digest)
        self._total_bytes += len(content)

    def _path(self, digest: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="modal-files-")
        return Path(self._folder.name) / digest


def _checked(filename: str) -> PurePosixPath:
    """A file's place in a container. Raises `GRPCError` for one that could lead out of it."""
    path = PurePosixPath(filename)
    if not path.is_absolute() or ".." in path.parts or "\0" in filename:
        raise GRPCError(Status.INVALID_ARGUMENT, f"a mounted file needs an absolute path, found {filename!r}")
    return path


def _digest(files: Iterable[api_pb2.MountFile]) -> str:
    lines = sorted(f"{file.filename}\0{file.sha256_hex}\0{file.mode}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
