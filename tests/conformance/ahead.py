"""Tests that have to wait begin together when the first test of their back end does, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.conformance.backends import Backend

Body = Callable[[Backend, str], None]
_bodies: dict[str, Body] = {}


def begun_ahead(*clients: str) -> Callable[[Body], Callable[..., None]]:
    """Make a test of `body(backend, client)`, once per client, whose body was begun ahead."""

    def decorate(body: Body) -> Callable[..., None]:
        _bodies[body.__name__] = body

        @pytest.mark.parametrize("client", clients)
        def test(ahead: Ahead, client: str) -> None:
            ahead.finish(body.__name__, client)

        test.__name__ = body.__name__
        return test

    return decorate


class Ahead:
    def __init__(self, backend: Backend, items: Sequence[pytest.Item]) -> None:
        import runpod  # noqa: F401 - here, and not in several threads at once

        self._futures: dict[tuple[str, str], Future[None]] = {}
        wanted = [key for item in items if (key := _key(item, backend))]
        self._threads = ThreadPoolExecutor(max_workers=max(1, len(wanted)))
        for name, client in wanted:
            self._futures[name, client] = self._threads.submit(_bodies[name], backend, client)

    def finish(self, name: str, client: str) -> None:
        """Wait for the body, and raise what it raised."""
        self._futures[name, client].result()

    def close(self) -> None:
        self._threads.shutdown()


def _key(item: pytest.Item, backend: Backend) -> tuple[str, str] | None:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    name = getattr(item, "originalname", "")
    if name in _bodies and params.get("backend_and_ahead") == backend.name:
        return name, params["client"]
    return None
