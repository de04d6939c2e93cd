"""The management API v2 as its OpenAPI document has it, and as production was seen to differ from it."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from emulator.app import Emulator
from emulator.engine.clock import VirtualClock
from tests.conftest import API_KEY, TEST_FUNCTIONS
from tests.waiting import until
from yapit.errors import ConfigurationError

BODY: dict[str, Any] = {
    "name": "yapit-tone",
    "type": "QUEUE",
    "image": "org/tone:1",
    "env": {"ADAPTER_CLASS": "functions.tone.adapter.Tone"},
    "gpu": {"pools": ["AMPERE_24", "ADA_24"]},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
}
REQUEST = {"scaling": {"type": "REQUEST_COUNT", "requestCount": 4}}
SPEAK = {"input": {"text": "Hello.", "voice": "sine"}}


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in BODY.items() if name != key}


class Api:
    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(emulator.app),
            base_url="http://emulator/v2",
            headers={"Authorization": f"Bearer {API_KEY}"},
        )

    async def call(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        response = await self.client.request(method, path, **({"json": body} if body is not None else {}))
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    async def create(self, **changes: Any) -> Any:
        return await self.call("POST", "/serverless", {**BODY, **changes}, status=201)

    async def refuse(self, method: str, path: str, body: object, status: int) -> Any:
        response = await self.client.request(method, path, json=body)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        return response.json()


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Api]:
    emulator = Emulator(TEST_FUNCTIONS, api_key=API_KEY, clock=VirtualClock(starts_at=1_800_000_000))
    api = Api(emulator)
    yield api
    await api.client.aclose()
    await emulator.close()


async def test_a_created_endpoint_is_told_whole_with_the_defaults_of_production(api: Api) -> None:
    made = await api.create()
    assert made == {
        **{key: made[key] for key in ("id", "createdAt", "requestUrls")},
        **BODY,
        "args": "",
        "disk": 20,
        "ports": [],
        "registry": None,
        "gpu": {
            "pools": ["AMPERE_24", "ADA_24"],
            "excludedTypes": [],
            "count": 1,
            "allowedCudaVersions": [],
            "minCudaVersion": None,
        },
        "workers": {"min": 0, "max": 3, "idleTimeout": 10},
        "dataCenterIds": [],
        "networkVolumes": [],
        "timeout": 0,
        "flashboot": "OFF",
    }
    assert made["createdAt"] == "2027-01-15T08:00:00.000Z"
    assert made["requestUrls"]["runSync"] == f"http://emulator/v2/{made['id']}/runsync"
    assert await api.call("GET", f"/serverless/{made['id']}") == made
    assert await api.call("GET", "/serverless") == {"endpoints": [made]}


async def test_it_is_callable_at_once_and_gone_when_deleted(api: Api) -> None:
    endpoint_id = (await api.create())["id"]
    answer = await api.call("POST", f"/{endpoint_id}/runsync", SPEAK)
    assert [event["type"] for event in answer["output"]] == ["audio", "done"]
    assert answer["output"][-1]["function"] == "tone"
    await api.call("DELETE", f"/serverless/{endpoint_id}", status=204)
    await api.call("POST", f"/{endpoint_id}/runsync", SPEAK, status=404)
    await api.call("GET", f"/serverless/{endpoint_id}", status=404)


async def test_a_load_balancer_answers_at_its_base() -> None:
    api = Api(Emulator(TEST_FUNCTIONS, api_key=API_KEY))  # its workers' health is asked for as time goes by
    made = await api.create(type="LOAD_BALANCER", **REQUEST, ports=["8000/http"])
    assert made["requestUrls"] == {
        "base": f"http://emulator/lb/{made['id']}",
        "health": f"http://emulator/lb/{made['id']}/ping",
    }
    response = await api.client.post(f"{made['requestUrls']['base']}/synthesize", json=SPEAK["input"])
    assert response.json()["function"] == "tone"
    await api.client.aclose()
    await api.emulator.close()


async def test_deleting_cancels_the_jobs(api: Api) -> None:
    endpoint_id = (await api.create(workers={"max": 0}))["id"]
    job = api.emulator.endpoints[endpoint_id].submit(SPEAK, is_sync=False)  # type: ignore[attr-defined]
    await api.call("DELETE", f"/serverless/{endpoint_id}", status=204)
    assert job.state.name == "CANCELLED"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({**BODY, "bogus": 1}, 422, "$: additional properties 'bogus' not allowed"),
        ({**BODY, "entrypoint": ["x"]}, 422, "$: additional properties 'entrypoint' not allowed"),
        ({**BODY, "gpu": {"pools": ["ADA_24"], "typo": 1}}, 422, "$.gpu: additional properties 'typo' not allowed"),
        ({**BODY, "scaling": {"type": "QUEUE_DELAY", "value": 4}}, 422, "$.scaling: missing property 'queueDelay'"),
        ({**BODY, "workers": {"min": -1}}, 422, "$.workers.min: input should be greater than or equal to 0"),
        ({**BODY, "workers": {"max": "3"}}, 422, "$.workers.max: input should be a valid integer"),
        ({**BODY, "ports": ["8000"]}, 422, "$.ports[0]: string should match pattern"),
        ({**BODY, "image": None}, 422, "$: property 'image' must not be null"),
        (without("type"), 422, "$: missing property 'type'"),
        (without("image"), 422, "$: missing property 'image'"),
        ([], 422, "$: input should be"),
        ({**BODY, "type": "LOAD_BALANCER"}, 422, "$.scaling.type: value must be 'REQUEST_COUNT'"),
        ({**BODY, **REQUEST, "workers": {"idleTimeout": 5}}, 422, "$.workers.idleTimeout: not applicable"),
        ({**without("gpu"), "cpu": [{"id": "cpu5c", "vcpuCount": 1}]}, 422, "$.cpu[0].vcpuCount: input should be"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_by_field(api: Api, body: object, status: int, said: str) -> None:
    problem = await api.refuse("POST", "/serverless", body, status)
    assert problem["title"] == "Unprocessable Entity"
    assert (problem["status"], problem["detail"]) == (status, "Request validation failed.")
    assert any(error.startswith(said) for error in problem["errors"]), problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu": None}, "exactly one of gpu or cpu"),
        ({"cpu": [{"id": "cpu5c", "vcpuCount": 4}]}, "exactly one of gpu or cpu"),
        ({"gpu": {"pools": ["RTX_9090"]}}, "unknown gpu pools: RTX_9090"),
        ({"gpu": {"pools": ["ADA_24"], "excludedTypes": ["NVIDIA L4"]}}, "not in the selected pools: NVIDIA L4"),
        (
            {"gpu": {"pools": ["ADA_24"], "minCudaVersion": "12.1", "allowedCudaVersions": ["12.8"]}},
            "mutually exclusive",
        ),
        ({"gpu": None, "cpu": [{"id": "cpu9", "vcpuCount": 4}]}, "unknown cpu flavor cpu9"),
        ({"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 6}]}, "must be a power of two"),
        ({"registry": "nowhere"}, "registry nowhere not found"),
        ({"networkVolumes": ["nowhere"]}, "network volume nowhere not found"),
        ({"workers": {"min": 4}}, "workers.min (4) must not be above workers.max (3)"),
    ],
)
async def test_what_contradicts_itself_is_a_bad_request(api: Api, changes: dict[str, Any], said: str) -> None:
    body = {key: value for key, value in {**BODY, **changes}.items() if value is not None}
    assert said in (await api.refuse("POST", "/serverless", body, 400))["detail"]


async def test_names_are_not_unique(api: Api) -> None:
    first, second = await api.create(), await api.create()
    assert first["id"] != second["id"]
    assert first["name"] == second["name"]


async def test_a_patch_changes_what_it_names_and_replaces_the_variables_whole(api: Api) -> None:
    endpoint_id = (await api.create(env={**BODY["env"], "A": "1", "B": "2"}, timeout=5_000))["id"]
    changed = await api.call(
        "PATCH", f"/serverless/{endpoint_id}", {"env": {"A": "3"}, "workers": {"max": 2}, "flashboot": "FLASHBOOT"}
    )
    assert changed["env"] == {"A": "3"}
    assert changed["workers"] == {"min": 0, "max": 2, "idleTimeout": 10}
    assert (changed["flashboot"], changed["timeout"], changed["image"]) == ("FLASHBOOT", 5_000, "org/tone:1")


async def test_type_and_compute_family_never_change(api: Api) -> None:
    path = f"/serverless/{(await api.create())['id']}"
    problem = await api.refuse("PATCH", path, {"type": "LOAD_BALANCER"}, 422)
    assert problem["errors"] == ["$: additional properties 'type' not allowed"]
    problem = await api.refuse("PATCH", path, {"cpu": [{"id": "cpu5c", "vcpuCount": 4}]}, 400)
    assert "immutable" in problem["detail"]


async def test_new_pools_forget_the_excluded_cards_and_another_scaler_the_idle_timeout(api: Api) -> None:
    path = f"/serverless/{(await api.create(gpu={'pools': ['AMPERE_24'], 'excludedTypes': ['NVIDIA L4']}))['id']}"
    assert (await api.call("PATCH", path, {"gpu": {"minCudaVersion": "12.4"}}))["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    gpu = (await api.call("PATCH", path, {"gpu": {"pools": ["ADA_24"], "minCudaVersion": ""}}))["gpu"]
    assert (gpu["pools"], gpu["excludedTypes"], gpu["minCudaVersion"]) == (["ADA_24"], [], None)
    assert "idleTimeout" not in (await api.call("PATCH", path, REQUEST))["workers"]
    problem = await api.refuse("PATCH", path, {"gpu": {"excludedTypes": ["NVIDIA L4"]}}, 422)
    assert "'pools' required" in problem["errors"][0]


async def test_a_release_rolls_out_as_workers_become_free(api: Api) -> None:
    endpoint_id = (await api.create(workers={"min": 1}))["id"]
    path, pool = f"/serverless/{endpoint_id}", api.emulator.endpoints[endpoint_id].pool
    api.emulator.open()
    await until(lambda: pool.workers()["idle"] == 1)
    (worker,) = (await api.call("GET", f"{path}/workers"))["workers"]
    assert (worker["status"], worker["version"], worker["isStale"], worker["gpuCount"]) == ("IDLE", 1, False, 1)
    await api.call("PATCH", path, {"workers": {"max": 2}})
    assert (await api.call("GET", f"{path}/releases"))["endpointVersion"] == 1  # no release: it holds at once
    await api.call("PATCH", path, {"image": "org/tone:2"})
    await until(lambda: pool.workers()["idle"] == 1)
    listed = await api.call("GET", f"{path}/workers")
    assert listed["workers"][0]["id"] != worker["id"]
    assert listed["workers"][0]["version"] == listed["endpointVersion"] == 2
    assert listed["summary"] == {
        "running": 0, "idle": 1, "initializing": 0, "throttled": 0, "unhealthy": 0, "total": 1,
    }  # fmt: skip
    releases = await api.call("GET", f"{path}/releases")
    assert releases["rollout"] == {
        "inProgress": False, "workersOnLatest": 1, "workersTotal": 1, "percentOnLatest": 100,
    }  # fmt: skip
    assert [release["version"] for release in releases["releases"]] == [2, 1]
    assert releases["releases"][0]["diff"] == [{"field": "image", "old": "org/tone:1", "new": "org/tone:2"}]


async def test_another_function_is_served_after_a_patch(api: Api) -> None:
    endpoint_id = (await api.create())["id"]
    await api.call("POST", f"/{endpoint_id}/runsync", SPEAK)
    env = {"ADAPTER_CLASS": "functions.loud.adapter.Nobody"}
    await api.call("PATCH", f"/serverless/{endpoint_id}", {"env": env})
    failed = await api.call("POST", f"/{endpoint_id}/runsync", SPEAK)
    assert failed["status"] == "FAILED"
    assert "the emulator runs no images, but functions" in failed["error"]
    crashed = await api.call("GET", f"/serverless/{endpoint_id}/workers")
    assert {worker["status"] for worker in crashed["workers"]} == {"UNHEALTHY"}
    await api.call("PATCH", f"/serverless/{endpoint_id}", {"env": BODY["env"]})
    assert (await api.call("POST", f"/{endpoint_id}/runsync", SPEAK))["status"] == "COMPLETED"


async def test_the_endpoints_timeout_is_that_of_jobs_without_one(api: Api) -> None:
    endpoint_id = (await api.create(timeout=7_000))["id"]
    endpoint = api.emulator.endpoints[endpoint_id]

    def timeout_s() -> float:
        return endpoint.submit(SPEAK, is_sync=False).execution_timeout_s  # type: ignore[attr-defined,no-any-return]

    assert timeout_s() == 7.0
    await api.call("PATCH", f"/serverless/{endpoint_id}", {"timeout": 0})
    assert timeout_s() == 600.0


async def test_the_quota_bounds_all_endpoints_together() -> None:
    emulator = Emulator(TEST_FUNCTIONS, api_key=API_KEY, max_workers_quota=5)
    api = Api(emulator)
    first = await api.create(workers={"max": 3})
    assert "workers quota (5)" in (await api.refuse("POST", "/serverless", BODY, 400))["detail"]
    await api.create(workers={"max": 2})
    assert await api.refuse("PATCH", f"/serverless/{first['id']}", {"workers": {"max": 4}}, 400)
    await api.client.aclose()
    await emulator.close()


async def test_templates_are_copied_once(api: Api) -> None:
    container = {"image": "org/base:1", "args": "x", "disk": 7, "env": {"A": "1", **BODY["env"]}}
    template = await api.call("POST", "/templates", {"name": "t", "serverless": True, **container}, status=201)
    made = await api.create(templateId=template["id"], env={"A": "2"}, image="org/tone:9")
    assert (made["image"], made["args"], made["disk"]) == ("org/tone:9", "x", 7)
    assert made["env"] == {"A": "2", **BODY["env"]}
    await api.call("PATCH", f"/templates/{template['id']}", {"args": "y"})
    assert (await api.call("GET", f"/serverless/{made['id']}"))["args"] == "x"
    await api.call("DELETE", f"/templates/{template['id']}", status=204)
    await api.refuse("POST", "/serverless", {**BODY, "templateId": template["id"]}, 404)
    pod = await api.call("POST", "/templates", {"name": "t", "image": "i"}, status=201)
    await api.refuse("POST", "/serverless", {**BODY, "templateId": pod["id"]}, 422)


async def test_registries_never_tell_their_password(api: Api) -> None:
    login = {"name": "ghcr.io", "username": "me", "password": "hunter2"}
    made = await api.call("POST", "/registries", login, status=201)
    assert await api.call("GET", "/registries") == {"registries": [{"id": made["id"], "name": "ghcr.io"}]}
    assert (await api.create(registry=made["id"]))["registry"] == made["id"]
    problem = await api.refuse("POST", "/registries", {**login, "password": ""}, 422)
    assert "hunter2" not in json.dumps(problem)


async def test_volumes_only_grow(api: Api) -> None:
    body = {"name": "v", "size": 50, "dataCenter": "EU-RO-1"}
    volume = await api.call("POST", "/network-volumes", body, status=201)
    assert volume == {"id": volume["id"], "type": "STANDARD", **body}
    path = f"/network-volumes/{volume['id']}"
    assert (await api.call("PATCH", path, {"size": 60}))["size"] == 60
    assert "cannot be reduced" in (await api.refuse("PATCH", path, {"size": 50}, 400))["detail"]
    await api.refuse("PATCH", path, {}, 422)
    await api.refuse("POST", "/network-volumes", {**body, "size": 9}, 422)
    assert (await api.create(networkVolumes=[volume["id"]]))["networkVolumes"] == [volume["id"]]


async def test_the_catalogue_names_the_pools(api: Api) -> None:
    gpus = (await api.call("GET", "/catalog/gpus"))["gpus"]
    (rtx,) = [gpu for gpu in gpus if gpu["name"] == "RTX 4090"]
    assert (rtx["pool"], rtx["memory"], rtx["price"]["serverless"]) == ("ADA_24", 24, 1.116)
    assert "cpu5c" in [cpu["id"] for cpu in (await api.call("GET", "/catalog/cpus"))["cpus"]]
    await api.call("GET", "/catalog/gpus?include=AVAILABILITY", status=501)


@pytest.mark.parametrize(
    "path",
    ["/pods", "/billing/serverless", "/registries/delegations/x", "/catalog/datacenters", "/serverless/x/builds"],
)
async def test_what_is_not_here_says_so(api: Api, path: str) -> None:
    answer = await api.call("GET", path, status=501)
    assert "does not implement" in answer["detail"]


async def test_keys_headers_and_methods(api: Api) -> None:
    bare = httpx.AsyncClient(transport=httpx.ASGITransport(api.emulator.app), base_url="http://emulator/v2")
    missing = await bare.get("/serverless")
    assert (missing.status_code, missing.json()["detail"]) == (401, "missing bearer token")
    assert missing.headers["x-request-id"]
    assert (await bare.get("/serverless", headers={"Authorization": "Bearer x"})).status_code == 401
    first, second = [await api.client.get("/serverless") for _ in range(2)]
    assert first.headers["ratelimit"].startswith('"minute";r=59;t=60, "hour";r=2999;t=3600')
    assert second.headers["ratelimit"].startswith('"minute";r=58')
    assert first.headers["ratelimit-policy"] == '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'
    await api.emulator.clock.advance(61)  # type: ignore[attr-defined]
    assert (await api.client.get("/serverless")).headers["ratelimit"].startswith('"minute";r=59')
    assert (await api.refuse("PUT", "/serverless", {}, 405))["title"] == "Method Not Allowed"
    response = await api.client.post("/serverless", content=b"{")
    assert (response.status_code, response.json()["title"]) == (400, "Bad Request")
    await bare.aclose()


async def test_deployments_outlive_a_restart_but_not_secrets(tmp_path: Path) -> None:
    state = tmp_path / "var" / "emulator.json"

    def emulator() -> Emulator:
        return Emulator(TEST_FUNCTIONS, api_key=API_KEY, state_file=state)

    before = Api(emulator())
    made = await before.create()
    gone = await before.create()
    await before.call("POST", "/registries", {"name": "r", "username": "me", "password": "hunter2"}, status=201)
    await before.call("DELETE", f"/serverless/{gone['id']}", status=204)
    await before.emulator.close()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert "hunter2" not in state.read_text()
    after = Api(emulator())
    assert await after.call("GET", "/serverless") == {"endpoints": [made]}
    assert (await after.call("POST", f"/{made['id']}/runsync", SPEAK))["status"] == "COMPLETED"
    await after.emulator.close()


@pytest.mark.parametrize("content", ["[", "{}", '{"version": 2}', '{"version": 1, "endpoints": 5}'])
def test_a_state_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    state = tmp_path / "emulator.json"
    state.write_text(content)
    with pytest.raises(ConfigurationError, match="delete it to start with an empty account"):
        Emulator(TEST_FUNCTIONS, state_file=state)


def test_a_function_cannot_be_called_like_a_path_of_this_api(tmp_path: Path) -> None:
    routes = tmp_path / "routes.json"
    routes.write_text(json.dumps([{"slug": "tone", "runpod_endpoint_id": "serverless"}]))
    with pytest.raises(ConfigurationError, match="path of the management API"):
        Emulator(TEST_FUNCTIONS, routes_file=routes)
