"""`python -m infra.runpod plan|deploy|destroy FUNCTION [--type …] [--compute …] [--target emulator]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from infra.runpod.deployment import Deployment
from infra.runpod.desired import Compute
from infra.runpod.management import ManagementClient
from infra.runpod.settings import RunpodSettings
from infra.runpod.target import reachable
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.function_spec import discover, functions_root

COMMANDS = {"plan": Deployment.plan, "deploy": Deployment.deploy, "destroy": Deployment.destroy}


def main(arguments: Sequence[str] | None = None) -> str:
    """What was done, for the one who asked. Raises `ConfigurationError` or `DeploymentFailed`."""
    parser = argparse.ArgumentParser(prog="python -m infra.runpod", description="Functions at RunPod.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument("--type", choices=("queue", "load_balancer"), default="queue")
    parser.add_argument("--compute", choices=("gpu", "cpu"), help="default: gpu where the spec names gpu_pools")
    parser.add_argument("--target", choices=("runpod", "emulator"), default="runpod")
    chosen = parser.parse_args(arguments)
    specs = discover(functions_root())
    if chosen.function not in specs:
        raise ConfigurationError(f"FUNCTION={chosen.function!r} is no function; there is {', '.join(specs)}")
    spec = specs[chosen.function]
    compute: Compute = chosen.compute or ("gpu" if spec.runpod.gpu_pools else "cpu")
    settings = RunpodSettings.read(chosen.target)
    key = settings.runpod_api_key.get_secret_value()
    with reachable(chosen.target, settings), ManagementClient(settings.runpod_management_base, key) as client:
        return COMMANDS[chosen.command](Deployment(spec, chosen.type, compute, chosen.target, settings, client))


if __name__ == "__main__":
    try:
        print(main())
    except (ConfigurationError, DeploymentFailed) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: what was made so far stays at the provider; run it again, or destroy it")
