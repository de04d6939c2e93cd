"""Waiting for something without sleeping for it."""

import asyncio
from collections.abc import Callable

MAX_TURNS = 10_000


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until `condition` holds; fails if it does not within `MAX_TURNS` turns."""
    for _ in range(MAX_TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"did not come true within {MAX_TURNS} turns of the event loop")
