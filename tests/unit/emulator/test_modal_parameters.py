"""Parameters of classes, and tokens: what comes from outside is checked before it is believed."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from modal_proto import api_pb2

from emulator.modal.parameters import BadParameters, decode, encode, from_query
from emulator.modal.tokens import BadToken, Signer


def spec(name: str, kind: Any, **default: Any) -> api_pb2.ClassParameterSpec:
    return api_pb2.ClassParameterSpec(name=name, type=kind, has_default=bool(default), **default)


SPECS = (
    spec("voice", api_pb2.PARAM_TYPE_STRING, string_default="heart"),
    spec("size", api_pb2.PARAM_TYPE_INT),
    spec("key", api_pb2.PARAM_TYPE_BYTES, bytes_default=b"\0"),
    spec("loud", api_pb2.PARAM_TYPE_BOOL, bool_default=True),
)


def sent(*values: api_pb2.ClassParameterValue) -> bytes:
    return bytes(api_pb2.ClassParameterSet(parameters=values).SerializeToString())


SIZE = api_pb2.ClassParameterValue(name="size", type=api_pb2.PARAM_TYPE_INT, int_value=3)


def test_defaults_are_filled_in() -> None:
    assert decode(sent(SIZE), SPECS) == {"voice": "heart", "size": 3, "key": b"\0", "loud": True}


def test_the_same_values_are_the_same_bytes_in_any_order() -> None:
    values = decode(sent(SIZE), SPECS)
    assert encode(values, SPECS) == encode(dict(reversed(values.items())), SPECS[::-1])
    assert decode(encode(values, SPECS), SPECS) == values


@pytest.mark.parametrize(
    ("serialized", "complaint"),
    [
        (sent(), "size has no value"),
        (sent(SIZE, api_pb2.ClassParameterValue(name="speed", int_value=1)), "no parameter speed; it has voice"),
        (sent(api_pb2.ClassParameterValue(name="size", string_value="3")), "size must be int"),
        (sent(api_pb2.ClassParameterValue(name="size", bool_value=True)), "size must be int"),
        (sent(api_pb2.ClassParameterValue(name="size", pickle_value=b"N.")), "size is not a string"),
        (b"\xff\xff", "not a ClassParameterSet"),
    ],
)
def test_what_the_class_does_not_have_is_refused(serialized: bytes, complaint: str) -> None:
    with pytest.raises(BadParameters, match=complaint):
        decode(serialized, SPECS)


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_class_without_parameters_takes_the_pickle_of_no_arguments(protocol: int) -> None:
    assert decode(pickle.dumps(((), {}), protocol=protocol), ()) == {}


@pytest.mark.parametrize("serialized", [pickle.dumps((("x",), {})), pickle.dumps(((), {"a": 1})), b"no pickle"])
def test_and_no_other(serialized: bytes) -> None:
    with pytest.raises(BadParameters, match=r"no modal\.parameter"):
        decode(serialized, ())


def test_a_query_gives_values_in_text() -> None:
    query = {"size": ["3"], "loud": ["False"], "voice": ["nova"], "page": ["2"]}
    assert from_query(query, SPECS) == {"size": 3, "loud": False, "voice": "nova"}


@pytest.mark.parametrize("query", [{"size": ["three"]}, {"loud": ["perhaps"]}, {"key": ["AA=="]}])
def test_a_query_may_be_wrong(query: dict[str, list[str]]) -> None:
    with pytest.raises(BadParameters, match="cannot be"):
        from_query(query, SPECS)


def test_a_token_is_read_by_whoever_signed_it_and_by_nobody_else() -> None:
    signer = Signer()
    token = signer.sign({"call": "fc-1", "idx": 3})
    assert signer.read(token) == {"call": "fc-1", "idx": 3}
    head, _, mac = token.split(".")
    forged = f"{head}.{Signer().sign({'call': 'fc-2'}).split('.')[1]}.{mac}"
    for other in (forged, Signer().sign({"call": "fc-1"}), "", "a.b", "é.é.é"):
        with pytest.raises(BadToken):
            signer.read(other)
