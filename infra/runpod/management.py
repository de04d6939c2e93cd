"""RunPod's management API v2 over HTTP: its own SDK cannot set what a function needs (arguments, timeout, FlashBoot on
an existing endpoint; runpod 1.12.0). Shapes: `api-reference-v2/openapi.json` in RunPod's documentation.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import httpx

from yapit.errors import DeploymentFailed

Json = dict[str, Any]
FLASHBOOT_ENDING = " -fb"  # [?] of a name: turned FlashBoot on in older APIs, and may be told by v2
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class ManagementClient:
    """Raises `DeploymentFailed` for every refusal, with RunPod's words and what to do."""

    def __init__(self, base_url: str, api_key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {api_key}"}, timeout=_TIMEOUT, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def find(self, name: str) -> Json | None:
        """The endpoint of that name. Names are not unique at RunPod: raises where there are several."""
        endpoints: list[Json] = self._call("GET", "/serverless")["endpoints"]
        found = [endpoint for endpoint in endpoints if endpoint["name"].removesuffix(FLASHBOOT_ENDING) == name]
        if len(found) > 1:
            ids = ", ".join(endpoint["id"] for endpoint in found)
            raise DeploymentFailed(
                f"{len(found)} endpoints are called {name!r} ({ids}): nobody can say which is meant. Rename or delete "
                "all but one at https://console.runpod.io/serverless"
            )
        return found[0] if found else None

    def create(self, body: Json) -> Json:
        return self._call("POST", "/serverless", json=body)

    def patch(self, endpoint_id: str, changes: Json) -> Json:
        return self._call("PATCH", f"/serverless/{endpoint_id}", json=changes)

    def delete(self, endpoint_id: str) -> None:
        self._call("DELETE", f"/serverless/{endpoint_id}")

    def workers(self, endpoint_id: str) -> list[Json]:
        workers: list[Json] = self._call("GET", f"/serverless/{endpoint_id}/workers")["workers"]
        return workers

    def last_lines(self, endpoint_id: str, worker_id: str, count: int) -> list[str]:
        """The newest lines of a worker's log; what has not come after `_LOG_WAIT_S` is not waited for."""
        lines: list[str] = []
        path = f"/serverless/{endpoint_id}/workers/{worker_id}/logs"
        timeout = httpx.Timeout(10.0, read=_LOG_WAIT_S)
        try:
            with self._client.stream("GET", path, params={"tail": count}, timeout=timeout) as response:
                if response.status_code != 200:
                    return []
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        lines.append(json.loads(line.removeprefix("data:"))["line"])
                    if len(lines) >= count:
                        break
        except (httpx.TransportError, ValueError, KeyError):
            pass  # the stream stays open for lines to come: silence is its end
        return lines[-count:]

    def registry_named(self, name: str) -> str | None:
        """The id of the registry credentials of that name."""
        registries = self._call("GET", "/registries")["registries"]
        return next((registry["id"] for registry in registries if registry["name"] == name), None)

    def create_registry(self, name: str, username: str, password: str) -> str:
        body = {"name": name, "username": username, "password": password}
        return str(self._call("POST", "/registries", json=body)["id"])

    def _call(self, method: str, path: str, **arguments: Any) -> Json:
        what = f"{method} {self._client.base_url}{path.removeprefix('/')}"
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise DeploymentFailed(f"{what}: no answer ({type(error).__name__}); try again") from None
        if response.status_code == 204:
            return {}
        try:
            data = response.json()
        except ValueError:
            data = None
        if not response.is_success:
            raise DeploymentFailed(f"{what}: {_refusal(response, data)}")
        if not isinstance(data, dict):
            raise DeploymentFailed(
                f"{what} answered {response.status_code} without a JSON object; is the address right?"
            )
        return data


_LOG_WAIT_S = 2.0


def _refusal(response: httpx.Response, data: object) -> str:
    """What RunPod said, and what to do about it."""
    problem = data if isinstance(data, dict) else {}
    said = "; ".join([str(problem.get("detail", response.reason_phrase)), *map(str, problem.get("errors", []))])
    request_id = response.headers.get("x-request-id")
    told = f"{response.status_code} {said}" + (f" (request {request_id})" if request_id else "")
    return f"{told}. {advice}" if (advice := _advice(response, said.lower())) else told


def _advice(response: httpx.Response, said: str) -> str:
    status = response.status_code
    if status == 401:
        return "RunPod does not know this key: check RUNPOD_API_KEY"
    if status == 403:
        return "The key may not do this: it needs read and write access to endpoints"
    if "quota" in said or "max workers" in said:
        return "Lower max_workers in this function's spec or on another endpoint; the quota grows with your balance"
    if status == 402 or "balance" in said or "fund" in said:
        return "Add funds at https://console.runpod.io/user/billing"
    if status == 429:
        return f"Try again in {response.headers.get('retry-after', '60')} s"
    if status >= 500:
        return "That is RunPod's own failure: try again"
    return ""
