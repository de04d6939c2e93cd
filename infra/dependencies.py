"""`python -m infra.dependencies [NAME …]`: what functions need installed, one requirement a line.

Without names: every function whose spec says `install = "default"`.
"""

from __future__ import annotations

import sys

from yapit.errors import ConfigurationError
from yapit.function_spec import discover, functions_root


def requirements(names: list[str]) -> list[str]:
    """Sorted requirements of the named functions. Raises `ConfigurationError` for a name that is none."""
    specs = discover(functions_root())
    if unknown := [name for name in names if name not in specs]:
        raise ConfigurationError(f"no function {', '.join(unknown)}; there is {', '.join(specs)}")
    chosen = [specs[name] for name in names] or [spec for spec in specs.values() if spec.install == "default"]
    return sorted({requirement for spec in chosen for requirement in spec.dependencies})


if __name__ == "__main__":
    try:
        print("\n".join(requirements(sys.argv[1:])))
    except ConfigurationError as error:
        sys.exit(str(error))
