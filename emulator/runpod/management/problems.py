"""How the management API refuses: problem details (RFC 9457) that name each field [V2]."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import pydantic
from starlette.responses import JSONResponse, Response

_TITLES = {422: "Unprocessable Entity"}  # [V2]; newer Pythons know it as "Unprocessable Content"
VALIDATION_FAILED = "Request validation failed."  # [V2]

Body = TypeVar("Body", bound=pydantic.BaseModel)


class Problem(Exception):
    """`errors`: one line per field of the body that is wrong."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors

    def response(self) -> Response:
        body: dict[str, Any] = {
            "title": _TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        return JSONResponse(body, status_code=self.status, media_type="application/problem+json")


def invalid(*errors: str) -> Problem:
    return Problem(422, VALIDATION_FAILED, list(errors))


def not_found(what: str, resource_id: str) -> Problem:
    return Problem(404, f"{what} {resource_id} not found")


def parse(model: type[Body], data: object) -> Body:
    """The body as `model`. Raises `Problem` 422, with one error per field."""
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        raise invalid(*(_described(problem) for problem in error.errors(include_url=False))) from None


def _described(problem: Any) -> str:
    """As the validator in production words it: `$: additional properties 'bogus' not allowed` [V2]."""
    path = [part for part in problem["loc"] if part not in ("QUEUE_DELAY", "REQUEST_COUNT")]  # a union's own tags
    if problem["type"] == "extra_forbidden":
        return f"{_place(path[:-1])}: additional properties '{path[-1]}' not allowed"
    if problem["type"] == "missing":
        return f"{_place(path[:-1])}: missing property '{path[-1]}'"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{_place(path)}: {message[:1].lower()}{message[1:]}"


def _place(path: list[Any]) -> str:
    return "".join(["$", *(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)])
