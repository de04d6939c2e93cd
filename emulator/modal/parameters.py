"""The values of a class's `modal.parameter`s, as protobuf carries them."""

from __future__ import annotations

import pickletools
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from modal_proto import api_pb2

ParameterSpecs = Sequence[api_pb2.ClassParameterSpec]
TYPES: Mapping[int, type] = {
    api_pb2.PARAM_TYPE_STRING: str,
    api_pb2.PARAM_TYPE_INT: int,
    api_pb2.PARAM_TYPE_BYTES: bytes,
    api_pb2.PARAM_TYPE_BOOL: bool,
}
_FIELDS: Mapping[int, str] = {
    api_pb2.PARAM_TYPE_STRING: "string",
    api_pb2.PARAM_TYPE_INT: "int",
    api_pb2.PARAM_TYPE_BYTES: "bytes",
    api_pb2.PARAM_TYPE_BOOL: "bool",
}
_NO_ARGUMENTS = {"PROTO", "FRAME", "EMPTY_TUPLE", "EMPTY_DICT", "TUPLE2", "MEMOIZE", "STOP"}
"""The opcodes of the pickle `((), {})`, which the SDK sends for classes without parameters."""


class BadParameters(ValueError):
    """The values are not those that the class has; the message says which."""


def decode(serialized: bytes, specs: ParameterSpecs) -> dict[str, Any]:
    """Every parameter's value, defaults included. Raises `BadParameters`."""
    if not specs:
        _check_none(serialized)
        return {}
    try:
        found = api_pb2.ClassParameterSet.FromString(serialized)
    except DecodeError:
        raise BadParameters("the parameters are not a ClassParameterSet") from None
    values = {value.name: _value(value) for value in found.parameters}
    return checked(values, specs)


def encode(values: Mapping[str, Any], specs: ParameterSpecs) -> bytes:
    """The same bytes for the same values, whatever their order."""
    encoded = api_pb2.ClassParameterSet()
    for spec in sorted(specs, key=lambda spec: spec.name):
        kind = type_of(spec)
        value = api_pb2.ClassParameterValue(name=spec.name, type=kind)
        setattr(value, f"{_FIELDS[kind]}_value", values[spec.name])
        encoded.parameters.append(value)
    return bytes(encoded.SerializeToString(deterministic=True))


def from_query(query: Mapping[str, Sequence[str]], specs: ParameterSpecs) -> dict[str, Any]:
    """Those that are in a web address's query, which may hold other things besides. Raises `BadParameters`."""
    return {spec.name: _parsed(spec, query[spec.name][0]) for spec in specs if spec.name in query}


def checked(values: Mapping[str, Any], specs: ParameterSpecs) -> dict[str, Any]:
    """With defaults for what is missing. Raises `BadParameters`."""
    names = [spec.name for spec in specs]
    if unknown := sorted(values.keys() - set(names)):
        raise BadParameters(f"the class has no parameter {', '.join(unknown)}; it has {', '.join(names)}")
    complete = {}
    for spec in specs:
        if spec.name in values:
            complete[spec.name] = values[spec.name]
        elif spec.has_default:
            complete[spec.name] = getattr(spec, f"{_FIELDS[type_of(spec)]}_default")
        else:
            raise BadParameters(f"parameter {spec.name} has no value")
        if type(complete[spec.name]) is not TYPES[type_of(spec)]:
            raise BadParameters(f"parameter {spec.name} must be {TYPES[type_of(spec)].__name__}")
    return complete


def type_of(spec: api_pb2.ClassParameterSpec) -> api_pb2.ParameterType.ValueType:
    return spec.full_type.base_type or spec.type


def _parsed(spec: api_pb2.ClassParameterSpec, text: str) -> Any:
    kind = TYPES[type_of(spec)]
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return {str: str, int: int}[kind](text)
    except (KeyError, ValueError):
        raise BadParameters(f"parameter {spec.name}, {kind.__name__}, cannot be {text!r} in a query") from None


def _value(value: api_pb2.ClassParameterValue) -> Any:
    field = value.WhichOneof("value_oneof")
    if field is None or field == "pickle_value":  # a pickle could run code in this process
        raise BadParameters(f"parameter {value.name} is not a string, a number, bytes or a truth value")
    return getattr(value, field)


def _check_none(serialized: bytes) -> None:
    """The SDK sends a pickle of no arguments; it is looked at, and never loaded."""
    try:
        opcodes = {opcode.name for opcode, _, _ in pickletools.genops(serialized)} if serialized else set()
    except Exception:  # whatever pickletools thinks of bytes that are no pickle
        opcodes = {"unreadable"}
    if not opcodes <= _NO_ARGUMENTS:
        raise BadParameters("the class has no modal.parameter, and so takes no arguments")
