"""Every error that this project raises or sends.

    YapitError                      code                   HTTP  retryable
    ├── InvalidRequest              invalid_request         400  no
    │   ├── TextTooLong             text_too_long           400  no
    │   ├── NothingToSay            nothing_to_say          400  no
    │   ├── UnsupportedText         unsupported_text        400  no
    │   ├── UnknownVoice            voice_not_found         400  no
    │   └── PayloadTooLarge         payload_too_large       413  no
    ├── AuthenticationFailed        invalid_api_key         401  no
    ├── NotFound                    not_found               404  no
    │   └── UnknownModel            model_not_found         404  no
    ├── Overloaded                  overloaded              429  yes, after `retry_after_s`
    ├── JobCancelled                cancelled               499  no
    ├── AdapterFailed               adapter_failed          500  no
    │   ├── InvalidAudio            invalid_audio           500  no
    │   └── NoAudio                 no_audio                500  no
    ├── ConfigurationError          configuration_error     500  no
    │   └── NotConfigured           not_configured          503  no
    ├── DeploymentFailed            deployment_failed       500  no
    ├── UpstreamFailed              upstream_failed         502  yes
    │   ├── UpstreamRefused         upstream_refused        502  no
    │   └── TruncatedStream         truncated_stream        502  yes
    ├── WorkerUnavailable           worker_unavailable      503  yes, after `retry_after_s`
    │   └── NoWorkerYet             no_worker_yet           503  yes, after `retry_after_s`
    └── SynthesisTimeout            synthesis_timeout       504  yes

The classes cross process boundaries as `{"type":"error","code","message","retryable"}`: `from_code`
turns such an event back into the class it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pydantic

RETRY_AFTER_S = 1.0
"""What a caller is told to wait where nothing better is known."""


class YapitError(Exception):
    """Base of the tree. `str(error)` is written for the person who made the request."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: bool = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s if retry_after_s is not None else (RETRY_AFTER_S if self.retryable else None)


class InvalidRequest(YapitError):
    code = "invalid_request"
    http_status = 400

    @classmethod
    def from_validation(cls, error: pydantic.ValidationError) -> InvalidRequest:
        """One sentence per problem, each naming the field and what was found there."""
        problems = error.errors(include_url=False)
        return cls("; ".join(_describe(p) for p in problems), param=_field(problems[0]) or None)


class TextTooLong(InvalidRequest):
    code = "text_too_long"


class NothingToSay(InvalidRequest):
    code = "nothing_to_say"


class UnsupportedText(InvalidRequest):
    code = "unsupported_text"


class UnknownVoice(InvalidRequest):
    code = "voice_not_found"


class PayloadTooLarge(InvalidRequest):
    code = "payload_too_large"
    http_status = 413


class AuthenticationFailed(YapitError):
    code = "invalid_api_key"
    http_status = 401


class NotFound(YapitError):
    code = "not_found"
    http_status = 404


class UnknownModel(NotFound):
    code = "model_not_found"


class Overloaded(YapitError):
    code = "overloaded"
    http_status = 429
    retryable = True


class JobCancelled(YapitError):
    code = "cancelled"
    http_status = 499


class AdapterFailed(YapitError):
    code = "adapter_failed"
    http_status = 500


class InvalidAudio(AdapterFailed):
    code = "invalid_audio"


class NoAudio(AdapterFailed):
    code = "no_audio"


class ConfigurationError(YapitError):
    code = "configuration_error"
    http_status = 500


class NotConfigured(ConfigurationError):
    """A provider has a route here, but the account's key or the SDK is missing; other routes are none the worse."""

    code = "not_configured"
    http_status = 503


class DeploymentFailed(YapitError):
    """Building, pushing, creating or trying a function at a provider went wrong; the message says what to do."""

    code = "deployment_failed"
    http_status = 500


class UpstreamFailed(YapitError):
    code = "upstream_failed"
    http_status = 502
    retryable = True


class UpstreamRefused(UpstreamFailed):
    code = "upstream_refused"
    retryable = False


class TruncatedStream(UpstreamFailed):
    code = "truncated_stream"


class WorkerUnavailable(YapitError):
    code = "worker_unavailable"
    http_status = 503
    retryable = True


class NoWorkerYet(WorkerUnavailable):
    """The provider had no worker in time, so that nothing has run."""

    code = "no_worker_yet"


class SynthesisTimeout(YapitError):
    code = "synthesis_timeout"
    http_status = 504
    retryable = True


def _tree(cls: type[YapitError]) -> Iterator[type[YapitError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)


def from_code(code: str, message: str, *, retryable: bool) -> YapitError:
    """The error that a worker sent as `code` and `message`; an unknown code becomes `UpstreamFailed`."""
    error = {cls.code: cls for cls in _tree(YapitError)}.get(code, UpstreamFailed)(message)
    error.retryable = retryable
    return error


def _field(problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"])


def _describe(problem: Any) -> str:
    field, message = _field(problem), problem["msg"]
    if problem["type"] == "missing":
        return f"{field}: this field is required"
    if problem["type"] == "extra_forbidden":
        return f"{field}: no such field"
    if problem["type"] == "string_unicode":
        return f"{field}: holds a lone surrogate, which is no character; remove it"
    found = repr(problem["input"])
    if len(found) > 60:
        found = found[:57] + "..."
    return f"{field}: {message[:1].lower()}{message[1:]} (found {found})" if field else f"{message} (found {found})"
