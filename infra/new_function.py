"""`python -m infra.new_function NAME [--root functions]`: a new function, copied from `_template`."""

from __future__ import annotations

import argparse
import keyword
import re
import shutil
import sys
from pathlib import Path

from yapit.errors import ConfigurationError
from yapit.function_spec import NAME_PATTERN, FunctionSpec, functions_root

TEMPLATE = "_template"
_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")


def create_function(name: str, root: Path) -> Path:
    """Copy `root/_template` to `root/name`, with the names in it derived from `name`; the new folder.

    Raises `ConfigurationError` where the name will not do, the folder exists, or there is no template.
    """
    if not re.fullmatch(NAME_PATTERN, name) or keyword.iskeyword(name):
        raise ConfigurationError(
            f"{name!r} is no name for a function: lower-case letters, digits and _, starting with a letter, "
            f"at most 40 characters, no Python keyword; {_taken(root)}"
        )
    template, folder = root / TEMPLATE, root / name
    if folder.exists():
        raise ConfigurationError(f"{folder} exists already; {_taken(root)}")
    if not template.is_dir():
        raise ConfigurationError(f"{template}: no such folder; --root names the one that holds the functions")
    shutil.copytree(template, folder, ignore=_SKIPPED)
    for path in folder.iterdir():
        path.write_text(_renamed(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    FunctionSpec.load(folder)
    return folder


def _renamed(text: str, name: str) -> str:
    words = name.strip("_").split("_")
    replacements = {
        TEMPLATE: name,
        "TemplateAdapter": "".join(word.capitalize() for word in words) + "Adapter",
        '"Template"': f'"{" ".join(word.capitalize() for word in words if word)}"',
        "yapit-function-template": f"yapit-function-{'-'.join(word for word in words if word)}",
        "yapit-template": f"yapit-{'-'.join(word for word in words if word)}",
    }
    # in one pass, or a function called "template" would be renamed twice
    return re.sub("|".join(map(re.escape, replacements)), lambda found: replacements[found[0]], text)


def _taken(root: Path) -> str:
    names = sorted(path.parent.name for path in root.glob("*/pyproject.toml") if path.parent.name != TEMPLATE)
    return f"there is {', '.join(names)}" if names else "there is no function yet"


def main(arguments: list[str] | None = None) -> str:
    """What to do next, for the one who asked. Raises `ConfigurationError`."""
    parser = argparse.ArgumentParser(prog="python -m infra.new_function", description=__doc__)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--root", type=Path, default=functions_root(), help="the folder that holds the functions")
    options = parser.parse_args(arguments)
    folder = create_function(options.name, options.root)
    return (
        f"{folder} is a function that hums. Hear it:\n"
        f'  make say TEXT="Hello." MODEL={options.name}\n'
        "Then make it speak:\n"
        f"  {folder / 'adapter.py'}      load your model, turn text into PCM\n"
        f"  {folder / 'pyproject.toml'}  its dependencies, languages, limits: look for REPLACE\n"
        f"  {folder / 'voices.json'}     its voices\n"
        f"  make install FUNCTION={options.name}   then `make emulate`, or `make say` again"
    )


if __name__ == "__main__":
    try:
        print(main())
    except ConfigurationError as error:
        sys.exit(str(error))
