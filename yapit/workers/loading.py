"""From `ADAPTER_CLASS=package.module.Class` to an adapter with its function spec."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from yapit.errors import ConfigurationError
from yapit.function_spec import FunctionSpec, functions_root
from yapit.workers.adapters.base import SynthAdapter
from yapit.workers.runner import Runner

ADAPTER_CLASS_VARIABLE = "ADAPTER_CLASS"


def adapter_class_from(environ: Mapping[str, str] = os.environ) -> str:
    """The adapter that the environment names. Raises `ConfigurationError` if it names none."""
    try:
        return environ[ADAPTER_CLASS_VARIABLE]
    except KeyError:
        raise ConfigurationError(
            f"{ADAPTER_CLASS_VARIABLE} is not set; it names the adapter to serve, "
            f"for example {ADAPTER_CLASS_VARIABLE}=functions.hibari.adapter.HibariAdapter"
        ) from None


def load_runner(adapter_class: str) -> Runner:
    """A runner for `package.module.Class`, not yet initialised.

    The spec is the `pyproject.toml` beside the module; a class without one gets the defaults.
    Raises `ConfigurationError` saying what was found instead of an adapter.
    """
    cls = _import(adapter_class)
    folder = Path(sys.modules[adapter_class.rpartition(".")[0]].__file__ or "").parent
    spec = FunctionSpec.load(folder) if _is_function(folder) else _default_spec(cls)
    try:
        adapter = cls()
    except TypeError as error:
        raise ConfigurationError(f"{adapter_class}: {error}") from None
    return Runner(adapter, spec)


def import_functions_from(root: Path) -> None:
    """Make `functions.<name>` importable from `root`, the folder named `functions` that holds them."""
    if root.name != "functions":
        raise ConfigurationError(f"{root}: the folder that holds the functions must be called 'functions'")
    if str(root.parent) not in sys.path:
        sys.path.insert(0, str(root.parent))
        importlib.invalidate_caches()


def _import(adapter_class: str) -> type[SynthAdapter]:
    module_name, _, class_name = adapter_class.rpartition(".")
    if not module_name:
        raise ConfigurationError(f"{adapter_class!r} is no dotted path; write package.module.Class")
    if module_name.startswith("functions."):
        import_functions_from(functions_root())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(f"{adapter_class}: cannot import {module_name}: {error}") from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, SynthAdapter)):
        found = [n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, SynthAdapter)]
        found = [name for name in found if name != SynthAdapter.__name__]
        raise ConfigurationError(
            f"{adapter_class}: not a SynthAdapter subclass; {module_name} has {', '.join(found) or 'none'}"
        )
    return cls


def _is_function(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    return path.is_file() and "[tool.yapit.function]" in path.read_text(encoding="utf-8")


def _default_spec(cls: type[SynthAdapter]) -> FunctionSpec:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower().strip("_").removesuffix("_adapter")
    return FunctionSpec(
        name=re.sub(r"\W", "", name, flags=re.ASCII)[:40] or "adapter",
        version="0",
        adapter=f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}",
        display_name=cls.__name__,
        license="unknown",
        languages=["und"],
        sample_rate=cls.sample_rate,
        channels=cls.channels,
    )
