"""Apps as they are deployed: what the SDK has created of one, and what of it is published."""

from __future__ import annotations

from dataclasses import dataclass, field

from modal_proto import api_pb2

DEPLOYED, STOPPED = api_pb2.APP_STATE_DEPLOYED, api_pb2.APP_STATE_STOPPED


@dataclass(eq=False, slots=True)
class App:
    """`created` are the functions that a deploy has made, by id, whether they are published yet or not."""

    app_id: str
    name: str
    created_at: float
    state: api_pb2.AppState.ValueType = api_pb2.APP_STATE_INITIALIZING
    created: dict[str, api_pb2.Function] = field(default_factory=dict)
    function_ids: dict[str, str] = field(default_factory=dict)
    """Of functions that are published, by tag."""
    class_ids: dict[str, str] = field(default_factory=dict)
    deployed_at: float = 0.0
    stopped_at: float = 0.0
    version: int = 0

    @property
    def is_deployed(self) -> bool:
        return self.deployed_at > 0 and self.state != STOPPED

    @property
    def lifecycle(self) -> api_pb2.AppLifecycle:
        return api_pb2.AppLifecycle(
            app_state=self.state,
            created_at=self.created_at,
            deployed_at=self.deployed_at,
            stopped_at=self.stopped_at,
            version=self.version,
        )
