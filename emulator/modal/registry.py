"""The functions and classes that can be looked up, their variants, and the containers of each."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from modal_proto import api_pb2

from emulator.engine.clock import Clock
from emulator.engine.faults import Faults
from emulator.engine.pool import WorkerPool
from emulator.modal import parameters
from emulator.modal.definitions import Binding, Definition, Method, Settings
from emulator.modal.ids import Ids
from emulator.modal.results import POLICY

MAX_VARIANTS = 1_000


class TooManyVariants(Exception):
    """As many combinations of parameters and options were bound as may be."""


class Function:
    """A definition, bound to parameters and options, with its id and its containers."""

    def __init__(
        self, definition: Definition, binding: Binding, settings: Settings, clock: Clock, faults: Faults
    ) -> None:
        self.definition, self.binding, self.settings = definition, binding, settings
        self.pool = WorkerPool(
            lambda worker_id: definition.make_worker(worker_id, binding),
            settings.limits,
            clock,
            name=f"modal/{definition.app_name}/{definition.name}",
            policy=POLICY,
            faults=faults,
        )

    @property
    def function_id(self) -> str:
        return self.binding.function_id


class Registry:
    """`define` makes a definition known, in place of the one of the same name, whose ids it takes over."""

    def __init__(self, clock: Clock, ids: Ids, faults: Faults) -> None:
        self._clock, self._ids, self._faults = clock, ids, faults
        self._by_tag: dict[tuple[str, str], Function] = {}
        self._by_id: dict[str, Function] = {}
        self._variant_ids: dict[tuple[str, bytes, bytes], str] = {}
        self._class_ids: dict[tuple[str, str], str] = {}
        self._app_ids: dict[str, str] = {}
        self._web_labels: dict[str, tuple[str, str]] = {}
        self._replaced: list[WorkerPool] = []
        self._dropping: set[asyncio.Task[None]] = set()

    def define(self, definition: Definition, *, function_id: str | None = None, class_id: str = "") -> Function:
        replaced = self.find(definition.app_name, definition.tag)
        if function_id is None:
            function_id = replaced.function_id if replaced else self._ids.new("fu")
        function = self._put(definition, Binding(function_id), definition.settings)
        self._by_tag[definition.app_name, definition.tag] = function
        self._app_ids.setdefault(definition.app_name, self._ids.new("ap"))
        if definition.is_class:
            key = (definition.app_name, definition.name)
            self._class_ids[key] = class_id or self._class_ids.get(key) or self._ids.new("cs")
        for method in definition.methods.values():
            if method.is_web:
                self._web_labels[web_label(definition, method)] = (function_id, method.name)
        for (base_id, *_), variant_id in self._variant_ids.items():
            if base_id == function_id:
                binding = self._by_id[variant_id].binding
                self._put(definition, binding, definition.settings.with_options(binding.options))
        return function

    def bind(self, function: Function, serialized: bytes, options: api_pb2.FunctionOptions) -> Function:
        """The variant of a function with those parameters and options: the same ones, the same containers.

        Raises `BadParameters` and `TooManyVariants`.
        """
        definition = function.definition
        values = parameters.decode(serialized, definition.parameters)
        canonical = parameters.encode(values, definition.parameters)
        if not options.resources.ByteSize():
            options.ClearField("resources")  # the SDK sends an empty one where others were merged
        key = (function.function_id, canonical, options.SerializeToString(deterministic=True))
        if variant_id := self._variant_ids.get(key):
            return self._by_id[variant_id]
        if len(self._variant_ids) >= MAX_VARIANTS:
            raise TooManyVariants(f"{MAX_VARIANTS} variants of functions are bound")
        variant_id = self._variant_ids[key] = self._ids.new("fu")
        binding = Binding(variant_id, values, canonical, options)
        return self._put(definition, binding, definition.settings.with_options(options))

    def find(self, app_name: str, tag: str) -> Function | None:
        return self._by_tag.get((app_name, tag))

    def get(self, function_id: str) -> Function | None:
        return self._by_id.get(function_id)

    def web_endpoint(self, label: str) -> tuple[Function, str] | None:
        """The function, and the name of its web method, that are served under that label."""
        function_id, method = self._web_labels.get(label, ("", ""))
        function = self._by_id.get(function_id)
        return (function, method) if function else None

    def class_id(self, app_name: str, name: str) -> str | None:
        return self._class_ids.get((app_name, name))

    def app_id(self, app_name: str) -> str:
        """Empty if there is no such app."""
        return self._app_ids.get(app_name, "")

    def apps(self) -> list[str]:
        return sorted(self._app_ids)

    def functions(self) -> list[Function]:
        return list(self._by_id.values())

    def deployed_apps(self) -> list[str]:
        """Those that have functions."""
        return sorted({app_name for app_name, _ in self._by_tag})

    def reserve_app(self, app_name: str) -> str:
        """The id of an app, which may have no functions yet."""
        return self._app_ids.setdefault(app_name, self._ids.new("ap"))

    def keep_only(self, app_name: str, tags: Collection[str]) -> None:
        """What else the app has cannot be looked up any more; its containers stop."""
        gone = [(name, tag) for name, tag in self._by_tag if name == app_name and tag not in tags]
        for key in gone:
            function = self._by_tag.pop(key)
            self._class_ids.pop((app_name, function.definition.name), None)
            self._drop(function.function_id)

    def remove_app(self, app_name: str) -> None:
        """The app is gone, and its id with it."""
        self.keep_only(app_name, ())
        self._app_ids.pop(app_name, None)

    async def close(self) -> None:
        """Stop every container."""
        pools = [*self._replaced, *(function.pool for function in self._by_id.values())]
        await asyncio.gather(*self._dropping, *(pool.close() for pool in pools))

    def _drop(self, function_id: str) -> None:
        """A function with its variants and web endpoints."""
        variants = [variant_id for (base_id, *_), variant_id in self._variant_ids.items() if base_id == function_id]
        self._variant_ids = {key: found for key, found in self._variant_ids.items() if key[0] != function_id}
        self._web_labels = {label: found for label, found in self._web_labels.items() if found[0] != function_id}
        for dropped_id in (function_id, *variants):
            task = asyncio.create_task(self._by_id.pop(dropped_id).pool.close())
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)

    def _put(self, definition: Definition, binding: Binding, settings: Settings) -> Function:
        function = Function(definition, binding, settings, self._clock, self._faults)
        if replaced := self._by_id.get(binding.function_id):
            replaced.pool.hand_over(function.pool)  # its containers end what they have begun
            self._replaced = [pool for pool in (*self._replaced, replaced.pool) if not pool.is_empty]
        self._by_id[binding.function_id] = function
        return function


def web_label(definition: Definition, method: Method) -> str:
    """The part of a web endpoint's address that is its own; at Modal the first part of its host name."""
    parts = [definition.app_name, definition.name, *([method.name] if method.name else [])]
    return "-".join(parts).lower().replace("_", "-")
