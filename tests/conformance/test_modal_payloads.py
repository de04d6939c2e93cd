"""Items 23 to 25 of the checklist: large payloads, and many inputs at once."""

from __future__ import annotations

import base64
import hashlib

import httpx
import modal
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from emulator.modal.blobs import MAX_BLOB_BYTES
from tests.conformance.modal_cloud import Cloud
from tests.conformance.modal_raw import raw

MIB = 1024 * 1024


async def test_23_a_large_argument_and_a_large_result(modal_cloud: Cloud) -> None:
    served, data = modal_cloud.cls()(), b"\2" * (5 * MIB)
    assert await served.size_of.remote.aio(data) == len(data)
    assert modal_cloud.rpcs.count("BlobCreate") == 1
    assert await served.answer_of.remote.aio(5 * MIB) == b"\1" * (5 * MIB)
    assert modal_cloud.rpcs.count("BlobGet") == 1


async def test_23_what_is_not_the_announced_blob_is_refused(modal_cloud: Cloud) -> None:
    data = b"the right bytes"
    async with raw(modal_cloud) as rpcs, httpx.AsyncClient() as http:
        blob = await rpcs.call("BlobCreate", _announced(data))
        url = blob.upload_urls.items[0]
        wrong = await http.put(url, content=b"the wrong bytes")
        assert (wrong.status_code, "Content-MD5" in wrong.text) == (400, True)
        assert (await http.put(url, content=data + b"!")).status_code == 400
        with pytest.raises(GRPCError, match="no blob"):
            await rpcs.call("BlobGet", api_pb2.BlobGetRequest(blob_id=blob.blob_ids[0]))
        right = await http.put(url, content=data)
        assert right.headers["etag"] == f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        found = await rpcs.call("BlobGet", api_pb2.BlobGetRequest(blob_id=blob.blob_ids[0]))
        assert (await http.get(found.download_url)).content == data


async def test_23_a_blob_that_is_too_large_is_refused(modal_cloud: Cloud) -> None:
    async with raw(modal_cloud) as rpcs:
        with pytest.raises(GRPCError, match="268,435,456") as refused:
            await rpcs.call("BlobCreate", api_pb2.BlobCreateRequest(content_length=MAX_BLOB_BYTES + 1))
        assert refused.value.status is Status.INVALID_ARGUMENT


async def test_24_what_is_spawned_is_large_sooner(modal_cloud: Cloud) -> None:
    call = await modal_cloud.cls()().size_of.spawn.aio(b"\2" * 20_000)
    assert await call.get.aio() == 20_000
    assert modal_cloud.rpcs.count("BlobCreate") == 1


async def test_24_a_large_chunk(modal_cloud: Cloud) -> None:
    chunks = [chunk async for chunk in modal_cloud.cls()().chunks_of.remote_gen.aio(3 * MIB, 2)]
    assert chunks == [b"\0" * (3 * MIB), b"\1" * (3 * MIB)]
    assert modal_cloud.rpcs.count("BlobGet") == 2


async def test_25_a_map_in_order_and_out_of_it(modal_cloud: Cloud) -> None:
    size_of, sizes = modal_cloud.cls()().size_of, range(120)
    inputs = [b"\0" * size for size in sizes]
    assert [size async for size in size_of.map.aio(inputs)] == list(sizes)
    assert {size async for size in size_of.map.aio(inputs, order_outputs=False)} == set(sizes)
    assert [size async for size in size_of.map.aio([])] == []


async def test_25_a_map_with_failures(modal_cloud: Cloud) -> None:
    fail = modal_cloud.cls()().fail
    with pytest.raises(modal.exception.RemoteError, match="ValueError"):
        [_ async for _ in fail.map.aio(["a", "b"])]
    found = [error async for error in fail.map.aio(["a", "b"], return_exceptions=True)]
    assert [str(error) for error in found] == ["ValueError('a', 42)", "ValueError('b', 42)"]


async def test_25_a_map_is_retried_input_by_input(modal_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tries")
    tries = [(str(folder / name), failures) for name, failures in (("a", 0), ("b", 1))]
    found = modal_cloud.cls("Retried")().try_again.starmap.aio(tries)
    assert [count async for count in found] == [0, 1]


async def test_25_a_spawned_map(modal_cloud: Cloud) -> None:
    call = await modal_cloud.cls()().size_of.experimental_spawn_map.aio([b"", b"a", b"ab"])
    assert [size async for size in call.iter.aio()] == [0, 1, 2]
    assert await call.get.aio(index=2) == 2


def _announced(data: bytes) -> api_pb2.BlobCreateRequest:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return api_pb2.BlobCreateRequest(content_md5=base64.b64encode(digest).decode(), content_length=len(data))
