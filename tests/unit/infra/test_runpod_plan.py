"""What an endpoint is to be like, and what is done to one that is there."""

from __future__ import annotations

from typing import Any

import pytest

from infra.runpod.desired import Wanted
from infra.runpod.plan import plan
from tests.conftest import TEST_FUNCTIONS
from yapit.errors import ConfigurationError, DeploymentFailed
from yapit.function_spec import FunctionSpec, RunpodHardware

TONE = FunctionSpec.load(TEST_FUNCTIONS / "tone")
ON_GPU = TONE.model_copy(update={"runpod": RunpodHardware(gpu_pools=["AMPERE_24", "ADA_24"], min_cuda="12.4")})
QUEUE = Wanted(TONE, "queue", "cpu", "ghcr.io/me/yapit-tone:1")


def found(wanted: Wanted, **changes: Any) -> dict[str, Any]:
    """An endpoint as RunPod tells it, which is more than was set."""
    body = wanted.body()
    told = {"id": "4m7x2k9q", "gpu": None, "registry": None, "dataCenterIds": [], "createdAt": "…", **body}
    if "cpu" in body:
        told["cpu"] = [{**cpu, "memory": 4} for cpu in body["cpu"]]
    return {**told, **changes}


def test_a_queue_endpoint_says_everything_that_has_a_default_there() -> None:
    assert QUEUE.body() == {
        "name": "yapit-tone",
        "type": "QUEUE",
        "image": "ghcr.io/me/yapit-tone:1",
        "args": "python -u -m yapit.workers.handlers.runpod",
        "disk": 20,
        "env": {
            "ADAPTER_CLASS": "functions.tone.adapter.Tone",
            "RUNPOD_LOG_LEVEL": "INFO",
            "RUNPOD_MIN_MEMORY_GB": "1",
        },
        "ports": [],
        "cpu": [{"id": "cpu5c", "vcpuCount": 2}],
        "workers": {"min": 0, "max": 2, "idleTimeout": 60},
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4.0},
        "timeout": 600_000,
        "flashboot": "FLASHBOOT",
    }
    assert QUEUE.slug == "tone-runpod"


def test_a_load_balancer_has_both_ports_open() -> None:
    wanted = Wanted(ON_GPU, "load_balancer", "gpu", "ghcr.io/me/yapit-tone:1", registry="reg1")
    body = wanted.body()
    assert (body["name"], body["type"], body["registry"]) == ("yapit-tone-lb", "LOAD_BALANCER", "reg1")
    assert (body["args"], body["ports"]) == ("python -u -m yapit.workers.handlers.local", ["8000/http"])
    assert {"PORT": "8000", "PORT_HEALTH": "8000", "HOST": "0.0.0.0"}.items() <= body["env"].items()
    assert body["gpu"] == {"pools": ["AMPERE_24", "ADA_24"], "count": 1, "minCudaVersion": "12.4"}
    assert body["scaling"] == {"type": "REQUEST_COUNT", "requestCount": 4}
    assert wanted.route("abc")["endpoint_type"] == "load_balancer"


def test_a_gpu_that_the_spec_does_not_name_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r'gpu_pools = \["AMPERE_24", "ADA_24"\], or deploy with COMPUTE=cpu'):
        Wanted(TONE, "queue", "gpu", "x/y:1").body()


@pytest.mark.parametrize(
    ("image", "host"),
    [("ghcr.io/me/x:1", "ghcr.io"), ("me/x:1", "docker.io"), ("x", "docker.io"), ("host:5000/x", "host:5000")],
)
def test_credentials_are_named_after_the_images_host(image: str, host: str) -> None:
    assert Wanted(TONE, "queue", "cpu", image).registry_host == host


def test_a_new_endpoint_is_created_whole() -> None:
    planned = plan(QUEUE, None)
    assert (planned.endpoint_id, planned.changes) == (None, QUEUE.body())
    assert "create the endpoint yapit-tone\n" in str(planned)
    assert "  workers: min 0, max 2, idleTimeout 60" in str(planned)


def test_an_endpoint_as_it_should_be_is_left_alone() -> None:
    for wanted in (QUEUE, Wanted(ON_GPU, "load_balancer", "gpu", "x/y:1")):
        planned = plan(wanted, found(wanted))
        assert (planned.endpoint_id, planned.changes, planned.lines) == ("4m7x2k9q", {}, ())
        assert str(planned) == f"the endpoint {wanted.name} (4m7x2k9q) is as it should be"


def test_what_runpod_leaves_out_because_it_is_empty_is_no_difference() -> None:
    told = {key: value for key, value in found(QUEUE).items() if key not in ("ports", "registry", "gpu")}
    assert plan(QUEUE, {**told, "name": "yapit-tone -fb"}).changes == {}


def test_only_what_differs_is_changed() -> None:
    planned = plan(QUEUE, found(QUEUE, image="ghcr.io/me/yapit-tone:0", timeout=0, workers={"min": 0, "max": 9}))
    assert set(planned.changes) == {"image", "timeout", "workers"}
    assert str(planned).splitlines() == [
        "change the endpoint yapit-tone (4m7x2k9q)",
        "  image: ghcr.io/me/yapit-tone:0 → ghcr.io/me/yapit-tone:1",
        "  workers.max: 9 → 2",
        "  workers.idleTimeout: none → 60",
        "  timeout: 0 → 600000",
    ]


def test_variables_set_by_hand_stay_and_are_not_told() -> None:
    env = {"HF_TOKEN": "hf_secret", "ADAPTER_CLASS": "functions.old.adapter.Old"}
    planned = plan(QUEUE, found(QUEUE, env=env))
    assert planned.changes == {"env": {"HF_TOKEN": "hf_secret", **QUEUE.body()["env"]}}
    assert "hf_secret" not in str(planned)
    assert plan(QUEUE, found(QUEUE, env={**QUEUE.body()["env"], "HF_TOKEN": "x"})).changes == {}


def test_what_runpod_does_not_change_is_refused() -> None:
    with pytest.raises(DeploymentFailed, match="is of type LOAD_BALANCER, which RunPod does not change to QUEUE"):
        plan(QUEUE, found(QUEUE, type="LOAD_BALANCER"))
    with pytest.raises(DeploymentFailed, match="runs on no CPU"):
        plan(QUEUE, found(Wanted(ON_GPU, "queue", "gpu", "x/y:1")))
