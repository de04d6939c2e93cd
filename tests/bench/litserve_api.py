"""The same answer from LitServe, which pickles its API class and so wants it in a module."""

import base64
from typing import Any

import litserve

from tests.bench.adapter import PCM


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def predict(self, request: Any) -> bytes:
        return PCM

    def encode_response(self, output: bytes) -> dict[str, str]:
        return {"audio_base64": base64.b64encode(output).decode()}
