"""A second app, for what only a container does: hooks, snapshots, batches. What happened is told in files.

Without postponed annotations: the SDK reads the types of parameters from them.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import modal

APP = "hooks"
app = modal.App(APP, image=modal.Image.debian_slim().env({"GREETING": "hello"}).workdir("/srv"))


@app.function()
async def double(number: int) -> int:
    return 2 * number


@app.cls(enable_memory_snapshot=True, scaledown_window=60)
class Snapped:
    """Also calls a function by itself, before and after the snapshot: its client must outlive that."""

    @modal.enter(snap=True)
    async def load(self) -> None:
        self.log: list[Any] = ["load", await double.remote.aio(1)]

    @modal.enter(snap=False)
    async def wake(self) -> None:
        self.log += ["wake", await double.remote.aio(2)]

    @modal.method()
    async def what(self) -> dict[str, Any]:
        return {"log": self.log, "task": os.environ["MODAL_TASK_ID"]}


@app.function(scaledown_window=60)
@modal.batched(max_batch_size=3, wait_ms=400)
async def batched(numbers: list[int]) -> list[dict[str, int]]:
    return [{"number": number, "batch": len(numbers)} for number in numbers]


@app.cls(max_containers=2, scaledown_window=60)
@modal.concurrent(max_inputs=2)
class Crowded:
    @modal.enter()
    def enter(self) -> None:
        self.now = self.most = 0

    @modal.method()
    async def crowd(self) -> dict[str, Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.05)
        self.now -= 1
        return {"most": self.most, "pid": os.getpid()}


@app.function(secrets=[modal.Secret.from_dict({"KEY": "of the secret"})], scaledown_window=60)
def environment() -> dict[str, Any]:
    names = ("GREETING", "KEY", "MODAL_TOKEN_SECRET", "NEVER_BROUGHT")
    return {**{name: os.environ.get(name) for name in names}, "folder": str(Path.cwd())}


@app.function(scaledown_window=60)
def tell(line: str) -> None:
    print(line)


@app.function(scaledown_window=60)
def die() -> None:
    print("out of memory, say", flush=True)
    os._exit(137)
