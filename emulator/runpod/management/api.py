"""Routes of the management API, `/v2/serverless` and what belongs to it, beside the client API on one port."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.engine.clock import Clock
from emulator.runpod import facts
from emulator.runpod.auth import is_authorised
from emulator.runpod.management import catalog, rules
from emulator.runpod.management.account import Account
from emulator.runpod.management.bodies import (
    CreateEndpoint,
    CreateRegistry,
    CreateTemplate,
    CreateVolume,
    PatchEndpoint,
    PatchTemplate,
    PatchVolume,
)
from emulator.runpod.management.fleet import EndpointFleet
from emulator.runpod.management.logs import stream_logs
from emulator.runpod.management.problems import Problem, parse
from emulator.runpod.management.quota import RequestQuota
from emulator.runpod.management.views import endpoint_view, releases_view, workers_view
from yapit.asgi import read_json
from yapit.errors import InvalidRequest, PayloadTooLarge

Operation = Callable[[Request], Awaitable[Response]]
MAX_BODY_BYTES = 1024 * 1024
ROOT = "/v2"


class ManagementApi:
    """`fleet` runs what `account` holds."""

    def __init__(self, account: Account, fleet: EndpointFleet, *, api_key: str, clock: Clock) -> None:
        self.account = account
        self._fleet, self._api_key, self._clock = fleet, api_key, clock
        self._quota = RequestQuota(clock)

    def routes(self) -> list[BaseRoute]:
        """To stand before the client API's, whose endpoint ids would match the same paths."""
        endpoint = "/serverless/{id}"
        return [
            self._route("/serverless", GET=self._endpoints, POST=self._create_endpoint),
            self._route(endpoint, GET=self._endpoint, PATCH=self._patch_endpoint, DELETE=self._delete_endpoint),
            self._route(f"{endpoint}/workers", GET=self._workers),
            self._route(f"{endpoint}/releases", GET=self._releases),
            self._route(f"{endpoint}/workers/{{worker_id}}/logs", GET=self._logs),
            self._route("/templates", GET=self._list("templates"), POST=self._create_template),
            self._route(
                "/templates/{id}",
                GET=self._one("templates"),
                PATCH=self._patch_template,
                DELETE=self._delete("templates"),
            ),
            self._route("/registries", GET=self._list("registries"), POST=self._create_registry),
            self._route("/registries/{id}", GET=self._one("registries"), DELETE=self._delete("registries")),
            self._route("/network-volumes", GET=self._list("networkVolumes"), POST=self._create_volume),
            self._route(
                "/network-volumes/{id}",
                GET=self._one("networkVolumes"),
                PATCH=self._patch_volume,
                DELETE=self._delete("networkVolumes"),
            ),
            self._route("/catalog/gpus", GET=_answering({"gpus": catalog.gpu_types()})),
            self._route("/catalog/cpus", GET=_answering({"cpus": catalog.cpu_types()})),
            *(
                self._route(f"/{name}{suffix}")
                for name in sorted(rules.RESERVED_IDS)
                for suffix in ("", "/{rest:path}")
            ),
        ]

    def _route(self, path: str, **operations: Operation) -> Route:
        async def handle(request: Request) -> Response:
            headers = {"x-request-id": str(uuid.uuid4())}
            try:
                self._check_key(request)
                headers |= self._quota.count()
                response = await _operation(request, operations)(request)
            except Problem as problem:
                response = problem.response()
            response.headers.update(headers)
            return response

        return Route(ROOT + path, handle, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])

    def _check_key(self, request: Request) -> None:
        if not request.headers.get("authorization"):
            raise Problem(401, "missing bearer token")
        if not is_authorised(request, self._api_key):
            raise Problem(401, "invalid bearer token")

    async def _endpoints(self, request: Request) -> Response:
        found = [endpoint_view(endpoint, str(request.base_url)) for endpoint in self.account.all("endpoints")]
        return JSONResponse({"endpoints": found})

    async def _create_endpoint(self, request: Request) -> Response:
        made = self.account.create_endpoint(parse(CreateEndpoint, await _body(request)))
        return JSONResponse(endpoint_view(made, str(request.base_url)), status_code=201)

    async def _endpoint(self, request: Request) -> Response:
        return JSONResponse(endpoint_view(self._found(request), str(request.base_url)))

    async def _patch_endpoint(self, request: Request) -> Response:
        body = parse(PatchEndpoint, await _body(request))
        changed = self.account.patch_endpoint(request.path_params["id"], body)
        return JSONResponse(endpoint_view(changed, str(request.base_url)))

    async def _delete_endpoint(self, request: Request) -> Response:
        await self.account.delete_endpoint(request.path_params["id"])
        return Response(status_code=204)

    async def _workers(self, request: Request) -> Response:
        endpoint = self._found(request)
        return JSONResponse(workers_view(endpoint, self._fleet.workers(endpoint["id"])))

    async def _releases(self, request: Request) -> Response:
        endpoint = self._found(request)
        return JSONResponse(releases_view(endpoint, self._fleet.workers(endpoint["id"])))

    async def _logs(self, request: Request) -> Response:
        endpoint_id, worker_id = self._found(request)["id"], request.path_params["worker_id"]
        return stream_logs(request, lambda: self._fleet.log(endpoint_id, worker_id), self._clock)

    async def _create_template(self, request: Request) -> Response:
        made = self.account.create_template(parse(CreateTemplate, await _body(request)))
        return JSONResponse(made, status_code=201)

    async def _patch_template(self, request: Request) -> Response:
        body = parse(PatchTemplate, await _body(request))
        return JSONResponse(self.account.patch_template(request.path_params["id"], body))

    async def _create_registry(self, request: Request) -> Response:
        made = self.account.create_registry(parse(CreateRegistry, await _body(request)))
        return JSONResponse(made, status_code=201)

    async def _create_volume(self, request: Request) -> Response:
        made = self.account.create_volume(parse(CreateVolume, await _body(request)))
        return JSONResponse(made, status_code=201)

    async def _patch_volume(self, request: Request) -> Response:
        body = parse(PatchVolume, await _body(request))
        return JSONResponse(self.account.patch_volume(request.path_params["id"], body))

    def _found(self, request: Request) -> dict[str, Any]:
        return self.account.get("endpoints", request.path_params["id"])

    def _list(self, kind: str) -> Operation:
        async def answer(_: Request) -> Response:
            return JSONResponse({kind: self.account.all(kind)})

        return answer

    def _one(self, kind: str) -> Operation:
        async def answer(request: Request) -> Response:
            return JSONResponse(self.account.get(kind, request.path_params["id"]))

        return answer

    def _delete(self, kind: str) -> Operation:
        async def answer(request: Request) -> Response:
            self.account.drop(kind, request.path_params["id"])
            return Response(status_code=204)

        return answer


def _operation(request: Request, operations: dict[str, Operation]) -> Operation:
    if not operations:
        known = ", ".join(operation.name for operation in facts.OPERATIONS if operation.is_here)
        raise Problem(501, f"the emulator does not implement {request.method} {request.url.path}; it has {known}")
    try:
        return operations[request.method]
    except KeyError:
        raise Problem(405, f"{request.method} is not supported here; {', '.join(operations)} is") from None


def _answering(content: dict[str, Any]) -> Operation:
    async def answer(request: Request) -> Response:
        if request.query_params:
            raise Problem(501, f"the emulator's catalogue takes no parameters, found {request.url.query}")
        return JSONResponse(content)

    return answer


async def _body(request: Request) -> object:
    try:
        return await read_json(request, max_bytes=MAX_BODY_BYTES)
    except (InvalidRequest, PayloadTooLarge) as error:
        raise Problem(error.http_status, str(error)) from None
