"""What the coverage page says of Modal's API is what is there."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.engine.clock import VirtualClock
from emulator.engine.faults import Faults
from emulator.modal import facts
from emulator.modal.container_api import ContainerApi
from emulator.modal.control_plane import ControlPlane, default_tokens
from emulator.modal.operations import RPCS
from emulator.modal.protocol import rpc_names


@pytest.fixture
def control_plane() -> ControlPlane:
    token, proxy_token = default_tokens("key")
    return ControlPlane(token=token, proxy_token=proxy_token, clock=VirtualClock(), faults=Faults())


def test_every_rpc_that_is_answered_is_listed_and_no_other(control_plane: ControlPlane) -> None:
    of_containers = ContainerApi.__new__(ContainerApi).handlers()
    assert set(RPCS) == {*control_plane.rpc.implemented, *of_containers}


def test_every_rpc_of_modal_is_on_the_list() -> None:
    listed = {operation.name: operation for operation in facts.OPERATIONS}
    assert set(rpc_names()) <= set(listed)
    assert (listed["FunctionMap"].is_here, listed["DictGet"].is_here) == (True, False)


def test_what_is_not_implemented_is_in_the_grpc_mapping_all_the_same(control_plane: ControlPlane) -> None:
    """It answers by name, and is logged; gRPC's own answer would be `Method not found`."""
    mapping: dict[str, Any] = control_plane.rpc.__mapping__()
    assert {path.rpartition("/")[2] for path in mapping} == set(rpc_names())
