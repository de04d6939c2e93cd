"""The functions and classes that can be looked up, and the containers of each."""

from __future__ import annotations

from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.engine.pool import WorkerPool
from emulator.modal.definitions import Definition, Parameters
from emulator.modal.ids import Ids
from emulator.modal.results import POLICY


class Function:
    """A definition with its id and its containers."""

    def __init__(
        self, function_id: str, definition: Definition, parameters: Parameters, clock: Clock, faults: Faults
    ) -> None:
        self.function_id, self.definition, self.parameters = function_id, definition, parameters
        self.timeout_s = definition.timeout_s
        self.retry_policy: api_pb2.FunctionRetryPolicy = definition.retry_policy
        self.pool = WorkerPool(
            lambda worker_id: definition.make_worker(worker_id, parameters),
            definition.limits,
            clock,
            name=f"modal/{definition.app_name}/{definition.name}",
            policy=POLICY,
            faults=faults,
        )


class Registry:
    """`define` makes a definition known, in place of the one of the same name."""

    def __init__(self, clock: Clock, ids: Ids, faults: Faults) -> None:
        self._clock, self._ids, self._faults = clock, ids, faults
        self._by_tag: dict[tuple[str, str], Function] = {}
        self._by_id: dict[str, Function] = {}
        self._class_ids: dict[tuple[str, str], str] = {}

    def define(self, definition: Definition) -> Function:
        function = Function(self._ids.new("fu"), definition, {}, self._clock, self._faults)
        self._by_tag[definition.app_name, definition.tag] = function
        self._by_id[function.function_id] = function
        if definition.is_class:
            self._class_ids.setdefault((definition.app_name, definition.name), self._ids.new("cs"))
        return function

    def find(self, app_name: str, tag: str) -> Function | None:
        return self._by_tag.get((app_name, tag))

    def get(self, function_id: str) -> Function | None:
        return self._by_id.get(function_id)

    def class_id(self, app_name: str, name: str) -> str | None:
        return self._class_ids.get((app_name, name))

    def apps(self) -> set[str]:
        return {app_name for app_name, _ in self._by_tag}

    def functions(self) -> list[Function]:
        return list(self._by_id.values())
