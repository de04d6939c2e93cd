"""Modal as the conformance tests see it: an app deployed somewhere, and the unmodified SDK that calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import modal

from emulator.engine.faults import Faults
from emulator.modal.control_plane import ControlPlane
from tests.conformance.modal_served import APP

RELEASE = tuple(int(part) for part in modal.__version__.split(".")[:2])
REMEMBERS_VARIANTS = RELEASE >= (1, 5)
"""Whether the SDK binds the same options once, and not each time."""


@dataclass(slots=True)
class Cloud:
    """`proxy_headers` open web endpoints. `control_plane` and `faults` are the emulator's."""

    client: modal.Client
    proxy_headers: dict[str, str]
    control_plane: ControlPlane
    faults: Faults

    @property
    def rpcs(self) -> list[str]:
        """The names of the RPCs that were called, in order."""
        return list(self.control_plane.rpc.log)

    def cls(self, name: str = "Served") -> Any:
        return modal.Cls.from_name(APP, name, client=self.client)

    def function(self, name: str) -> Any:
        return modal.Function.from_name(APP, name, client=self.client)

    def call(self, call_id: str) -> Any:
        return modal.FunctionCall.from_id(call_id, client=self.client)


async def close(client: modal.Client) -> None:
    await (client.close if hasattr(client, "close") else client._close).aio()  # private before 1.6
