"""`python -m infra.modal plan|deploy|destroy FUNCTION [--target emulator]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from infra import smoke
from infra.modal.account import Account
from infra.modal.cli import ModalCli
from infra.modal.plan import plan, route
from infra.modal.settings import ModalSettings
from infra.routes_file import completed, put_entry, read_entries, remove_entry
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.function_spec import FunctionSpec, discover, functions_root


def show_plan(spec: FunctionSpec, settings: ModalSettings) -> str:
    """Changes nothing. Raises `ConfigurationError` or `DeploymentFailed`."""
    entry = route(spec, settings.modal_environment)
    return f"{plan(spec, Account(settings))}\n  route       {entry['slug']}"


def deploy(spec: FunctionSpec, settings: ModalSettings) -> str:
    """Deploy, speak one sentence through it, and only then write its route.

    Raises `ConfigurationError`, or `DeploymentFailed` with what the CLI said or, where the containers failed, with the
    last of their log.
    """
    planned = plan(spec, Account(settings))
    if planned.missing:
        raise DeploymentFailed("\n".join((f"{spec.name} was not deployed:", *planned.missing)))
    print(planned, file=sys.stderr, flush=True)
    cli, entry = ModalCli(), route(spec, settings.modal_environment)
    cli.deploy(spec)
    try:
        spoken = smoke.speak_once(spec, entry, os.environ)
    except DeploymentFailed as error:
        log = cli.logs(spec)
        said = f"\nits containers said:\n{log}" if log else "\nits containers said nothing"
        raise DeploymentFailed(
            f"{error}{said}\nthe route was not written; the app {spec.deployment_name} stays"
        ) from None
    path = settings.tts_processors_file
    is_new = put_entry(path, completed(entry, read_entries(path)))
    return f"{spoken}\n{path}: {entry['slug']} {'is written' if is_new else 'was there'}"


def destroy(spec: FunctionSpec, settings: ModalSettings) -> str:
    """The route first: nobody is sent to an app that is going. Raises `ConfigurationError` or `DeploymentFailed`."""
    had_app = Account(settings).has_class(spec)
    had_route = remove_entry(settings.tts_processors_file, route(spec, settings.modal_environment)["slug"])
    if had_app:
        ModalCli().stop(spec)
    app = f"the app {spec.deployment_name} is stopped" if had_app else f"there was no app {spec.deployment_name}"
    return f"{app}; {'its route is removed' if had_route else 'it had no route'}"


COMMANDS = {"plan": show_plan, "deploy": deploy, "destroy": destroy}


def main(arguments: Sequence[str] | None = None) -> str:
    """Raises `ConfigurationError` or `DeploymentFailed`."""
    parser = argparse.ArgumentParser(prog="python -m infra.modal", description="Functions at Modal.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument("--target", choices=("modal", "emulator"), default="modal")
    chosen = parser.parse_args(arguments)
    specs = discover(functions_root())
    if chosen.function not in specs:
        raise ConfigurationError(f"FUNCTION={chosen.function!r} is no function; there is {', '.join(specs)}")
    settings = ModalSettings.read(chosen.target)
    with settings.reachable(chosen.target):
        return COMMANDS[chosen.command](specs[chosen.function], settings)


if __name__ == "__main__":
    try:
        print(main())
    except (ConfigurationError, DeploymentFailed) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: what was made so far stays at the provider; run it again, or destroy it")
