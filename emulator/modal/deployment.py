"""Everything that a deploy needs, put together: its RPCs, and the containers that run what was deployed."""

from __future__ import annotations

from collections.abc import Callable

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.modal.blobs import BlobStore
from emulator.modal.containers import Containers
from emulator.modal.deploys import Deploys, OwnDefinition
from emulator.modal.ids import Ids
from emulator.modal.images import Images
from emulator.modal.logs import Logs
from emulator.modal.lookup import Lookup
from emulator.modal.mounts import Mounts
from emulator.modal.registry import Registry
from emulator.modal.rpc import Handlers
from emulator.modal.stored import Stored


class Deployment:
    """`all_handlers` are the whole control plane's: what runs in a container may ask for all of it."""

    def __init__(
        self,
        registry: Registry,
        lookup: Lookup,
        blobs: BlobStore,
        ids: Ids,
        clock: Clock,
        faults: Faults,
        *,
        all_handlers: Callable[[], Handlers],
        own: OwnDefinition,
    ) -> None:
        self.stored, self.logs = Stored(ids), Logs(clock)
        self._images, self._mounts = Images(ids), Mounts(ids, blobs)
        self.containers = Containers(
            registry,
            images=self._images,
            mounts=self._mounts,
            stored=self.stored,
            logs=self.logs,
            blobs=blobs,
            ids=ids,
            clock=clock,
            faults=faults,
            handlers=all_handlers,
        )
        self.apps = Deploys(registry, lookup, ids, clock, containers=self.containers, blobs=blobs, own=own)

    def handlers(self) -> Handlers:
        areas = (self.stored, self.logs, self._images, self._mounts, self.containers, self.apps)
        return {name: handler for area in areas for name, handler in area.handlers().items()}

    def close(self) -> None:
        self._mounts.close()
