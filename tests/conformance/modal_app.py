"""The tests' app as it is deployed: the same classes and functions that `modal_in_process` defines.

Without postponed annotations: the SDK reads the types of parameters from them.
"""

from pathlib import Path
from typing import Any

import modal

from tests.conformance import modal_served

app = modal.App(modal_served.APP, image=modal.Image.debian_slim().pip_install("starlette"))
THRICE = modal.Retries(max_retries=2, backoff_coefficient=1.0, initial_delay=0.0, max_delay=1.0)


class Methods:
    """What `modal_served.Served` does, as a class of Modal's."""

    voice: str = ""

    @modal.enter()
    def enter(self) -> None:
        self.served = modal_served.Served(self.voice)

    @modal.method()
    async def echo(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return await self.served.echo(*args, **kwargs)

    @modal.method()
    async def who(self) -> dict[str, str]:
        return await self.served.who()

    @modal.method()
    async def fail(self, message: str) -> None:
        await self.served.fail(message)

    @modal.method()
    async def hold(self, gate: str) -> str:
        return await self.served.hold(gate)

    @modal.method()
    def hold_blocking(self, gate: str) -> str:
        return self.served.hold_blocking(gate)

    @modal.method()
    async def answer_of(self, size: int) -> bytes:
        return await self.served.answer_of(size)

    @modal.method()
    async def size_of(self, data: bytes) -> int:
        return await self.served.size_of(data)

    @modal.method()
    async def try_again(self, tries: str, failures: int) -> int:
        return await self.served.try_again(tries, failures, tries_before(tries))

    @modal.method()
    async def note_leave(self, note: str) -> None:
        await self.served.note_leave(note)

    @modal.method()
    async def count(self, items: int) -> Any:
        async for item in self.served.count(items):
            yield item

    @modal.method()
    async def chunks_of(self, size: int, items: int) -> Any:
        async for chunk in self.served.chunks_of(size, items):
            yield chunk

    @modal.method()
    async def gated(self, gate: str) -> Any:
        async for item in self.served.gated(gate, modal.current_function_call_id() or ""):
            yield item

    @modal.method()
    async def fail_after(self, items: int) -> Any:
        async for item in self.served.fail_after(items):
            yield item

    @modal.asgi_app(requires_proxy_auth=True)
    def web(self) -> Any:
        return self.served.web()


def tries_before(tries: str) -> int:
    """In place of the retry count, of which Modal tells a container nothing."""
    return len(Path(tries).read_text().split()) if Path(tries).exists() else 0


def served(**options: Any) -> Any:
    """Decorates as most of the classes are: two containers of eight inputs each."""

    def decorate(cls: type) -> Any:
        return app.cls(max_containers=2, scaledown_window=60, **options)(modal.concurrent(max_inputs=8)(cls))

    return decorate


@served(timeout=86_400)
class Served(Methods):
    """Called by most tests."""


@served()
class Voiced(Methods):
    voice: str = modal.parameter(default="heart")


@served(timeout=1)
class Short(Methods):
    """Its calls have a second."""


@served(retries=THRICE)
class Retried(Methods):
    """Its calls are made three times."""


@served(retries=THRICE, routing_region="eu-west")
class Regional(Methods):
    """Called over an input plane."""


@app.cls(max_containers=1, scaledown_window=60)
class Single(Methods):
    """One input at a time."""


@app.cls(max_containers=1, scaledown_window=60, timeout=86_400)
@modal.concurrent(max_inputs=8)
class Alone(Methods):
    """For tests that end its container."""


@served()
class Unused(Methods):
    """Never called."""


@served()
class Leaving(Methods):
    """Says when it ends."""

    @modal.exit()
    def exit(self) -> None:
        self.served.leave()


@served()
class Broken(Methods):
    @modal.enter()
    def enter(self) -> None:
        raise ValueError("no weights")


@app.function(max_containers=2, scaledown_window=60)
@modal.concurrent(max_inputs=8)
async def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return await modal_served.Served().echo(*args, **kwargs)


@app.function(max_containers=2, scaledown_window=60)
@modal.concurrent(max_inputs=8)
async def count(items: int) -> Any:
    async for item in modal_served.Served().count(items):
        yield item
