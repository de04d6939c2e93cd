"""Errors as OpenAI's SDK reads them: `{"error": {message, type, param, code}}`, all four keys, and retry headers."""

from __future__ import annotations

import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from yapit.asgi import ClientLeft
from yapit.errors import InvalidRequest, NotFound, YapitError

logger = logging.getLogger(__name__)


def error_response(error: YapitError) -> JSONResponse:
    body = {"message": error.message, "type": _type(error.http_status), "param": error.param, "code": error.code}
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["Retry-After-Ms"] = str(math.ceil(error.retry_after_s * 1000))
    return JSONResponse({"error": body}, status_code=error.http_status, headers=headers)


def install(app: FastAPI) -> None:
    @app.exception_handler(YapitError)
    async def _(_: Request, error: YapitError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}"
        problem = (
            NotFound(f"{what}: no such route")
            if error.status_code == 404
            else InvalidRequest(f"{what}: {error.detail}")
        )
        response = error_response(problem)
        response.status_code = error.status_code
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> Response:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'][1:]))}: {p['msg']}" for p in error.errors())
        return error_response(InvalidRequest(problems))

    @app.exception_handler(ClientLeft)
    async def _(_: Request, __: ClientLeft) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(YapitError("internal error; the request id finds it in the gateway's log"))


def _type(http_status: int) -> str:
    if http_status == 429:
        return "rate_limit_error"
    return "server_error" if http_status >= 500 else "invalid_request_error"
