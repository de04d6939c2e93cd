"""Modal's wire protocol, from the messages in `modal_proto`: the RPCs there are, and CBOR payloads."""

from __future__ import annotations

from typing import Any

import cbor2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_pb2

CBOR = api_pb2.DATA_FORMAT_CBOR
GENERATOR_DONE = api_pb2.DATA_FORMAT_GENERATOR_DONE


class NotCbor(ValueError):
    """A payload that is not in CBOR, or holds what CBOR cannot say; the message says which."""


def service() -> ServiceDescriptor:
    """Modal's control plane."""
    return api_pb2.DESCRIPTOR.services_by_name["ModalClient"]


def rpcs() -> list[MethodDescriptor]:
    return list(service().methods)


def rpc_names() -> list[str]:
    return sorted(rpc.name for rpc in rpcs())


def decode_arguments(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The positional and the named arguments of a call. Raises `NotCbor`."""
    try:
        positional, named = cbor2.loads(payload)
        return list(positional), {str(name): value for name, value in named.items()}
    except (cbor2.CBORError, ValueError, TypeError, AttributeError) as error:
        raise NotCbor(f"the arguments are not CBOR's [[…], {{…}}]: {error}") from None


def encode(value: Any) -> bytes:
    """Raises `NotCbor` for what CBOR has no form for."""
    try:
        return cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError) as error:
        raise NotCbor(f"{type(value).__name__} cannot be sent as CBOR: {error}") from None


class StatusDetails(StatusDetailsCodecBase):
    """Details of an error as the SDK reads them: a `RPCStatus` with messages of Modal's own."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        encoded = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            if isinstance(detail, Message):
                encoded.details.add().Pack(detail, type_url_prefix="type.modal.com/")
        return bytes(encoded.SerializeToString())

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:  # noqa: ARG002
        return api_pb2.RPCStatus.FromString(data)
