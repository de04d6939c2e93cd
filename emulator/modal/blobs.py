"""Payloads too large for a message: they travel over HTTP, to and from addresses that the RPCs give out."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from emulator.engine.clock import Clock
from emulator.modal import facts
from emulator.modal.addresses import Addresses
from emulator.modal.ids import Ids
from emulator.modal.rpc import Caller, Handlers, Once

PATH = "/modal/blobs"
MAX_BLOB_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 512 * 1024 * 1024
MAX_BLOBS = 20_000
MD5_MISMATCH = (
    "<Error><Code>BadDigest</Code>"
    "<Message>The Content-MD5 you specified did not match what we received.</Message></Error>"
)  # [SDK] it looks for this sentence


@dataclass(slots=True)
class _Blob:
    """`data` is there once it was uploaded."""

    size_bytes: int
    md5: str
    expires_at: float
    data: bytes | None = None


class BlobStore:
    """Bounded: the oldest blobs go first. An id cannot be guessed, and whoever knows it may read the blob."""

    def __init__(self, clock: Clock, ids: Ids, addresses: Addresses) -> None:
        self._clock, self._ids, self._addresses = clock, ids, addresses
        self._blobs: OrderedDict[str, _Blob] = OrderedDict()
        self._total_bytes = 0

    def __len__(self) -> int:
        return len(self._blobs)

    def handlers(self) -> Handlers:
        return {"BlobCreate": Once(self.create), "BlobGet": self.address}

    def routes(self) -> list[BaseRoute]:
        return [
            Route(f"{PATH}/{{blob_id}}", self._upload, methods=["PUT"]),
            Route(f"{PATH}/{{blob_id}}", self._download, methods=["GET"]),
        ]

    def put(self, data: bytes) -> str:
        """Keep what a container made; its id."""
        blob_id = self._add(len(data), "")
        self._blobs[blob_id].data = data
        return blob_id

    def get(self, blob_id: str) -> bytes | None:
        """None for what was not uploaded, or is not kept any more."""
        blob = self._blobs.get(blob_id)
        return blob.data if blob else None

    def create(self, request: api_pb2.BlobCreateRequest, _: Caller) -> api_pb2.BlobCreateResponse:
        if request.content_length > MAX_BLOB_BYTES:
            found = f"found {request.content_length:,}"
            raise GRPCError(Status.INVALID_ARGUMENT, f"the emulator keeps blobs of {MAX_BLOB_BYTES:,} bytes, {found}")
        blob_id = self._add(request.content_length, request.content_md5)
        address = self._address(blob_id)
        return api_pb2.BlobCreateResponse(
            blob_id=blob_id,  # this and upload_url are for older SDKs
            upload_url=address,
            blob_ids=[blob_id],
            upload_urls=api_pb2.UploadUrlList(items=[address]),
        )

    async def address(self, request: api_pb2.BlobGetRequest, _: Caller) -> api_pb2.BlobGetResponse:
        if self.get(request.blob_id) is None:
            raise GRPCError(Status.NOT_FOUND, f"there is no blob {request.blob_id!r}, or not any more")
        return api_pb2.BlobGetResponse(download_url=self._address(request.blob_id))

    async def _upload(self, request: Request) -> Response:
        blob = self._blobs.get(request.path_params["blob_id"])
        if blob is None:
            return Response("no such blob", status_code=404)
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > blob.size_bytes:
                return Response(f"the blob was to have {blob.size_bytes} bytes", status_code=400)
        digest = hashlib.md5(data, usedforsecurity=False)
        found = base64.b64encode(digest.digest()).decode()
        expected = [blob.md5, request.headers.get("content-md5", "")]
        if any(md5 and md5 != found for md5 in expected):
            return Response(MD5_MISMATCH, status_code=400, media_type="application/xml")
        blob.data = bytes(data)
        return Response(headers={"ETag": f'"{digest.hexdigest()}"'})

    async def _download(self, request: Request) -> Response:
        data = self.get(request.path_params["blob_id"])
        if data is None:
            return Response("no such blob", status_code=404)
        return Response(data, media_type="application/octet-stream")

    def _address(self, blob_id: str) -> str:
        if not self._addresses.http:
            raise GRPCError(Status.FAILED_PRECONDITION, "blobs need the emulator's base_url, and it was given none")
        return f"{self._addresses.http}{PATH}/{blob_id}"

    def _add(self, size_bytes: int, md5: str) -> str:
        now_s = self._clock.now()
        while self._blobs:
            oldest = next(iter(self._blobs.values()))
            is_full = len(self._blobs) >= MAX_BLOBS or self._total_bytes + size_bytes > MAX_TOTAL_BYTES
            if oldest.expires_at > now_s and not is_full:
                break
            self._total_bytes -= oldest.size_bytes
            self._blobs.popitem(last=False)
        blob_id = self._ids.new("bl")
        self._total_bytes += size_bytes
        self._blobs[blob_id] = _Blob(size_bytes, md5, now_s + facts.OUTPUT_RETENTION_S)
        return blob_id
