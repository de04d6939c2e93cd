"""The gateway as its clients see it: the `openai` SDK, unmodified, and raw HTTP, through both providers' paths."""

import base64
import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.adapters import tone
from tests.conftest import Stack
from yapit import audio

TEXT = "Hello there. How are you today?"
PCM = tone("Hello there.") + tone("How are you today?")
MODELS = ["tone", "tone-runpod", "tone-modal"]


@pytest.fixture
def client(tone_stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tone_stack.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", MODELS)
def test_the_openai_sdk_gets_the_adapters_pcm(client: openai.OpenAI, model: str) -> None:
    speech = client.audio.speech.create(model=model, voice="sine", input=TEXT, response_format="pcm")
    assert speech.content == PCM


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("codec", ["wav", "flac", "mp3", "opus", "aac"])
def test_the_openai_sdk_streams_every_codec(client: openai.OpenAI, model: str, codec: str) -> None:
    arguments = {"model": model, "voice": "sine", "input": TEXT, "response_format": codec}
    with client.audio.speech.with_streaming_response.create(**arguments) as response:
        assert response.headers["content-type"] == audio.CONTENT_TYPES[codec]
        data = b"".join(response.iter_bytes())
    samples, rate = audio.decode(data, "adts" if codec == "aac" else None)
    assert len(PCM) / 48_000 - 0.001 <= len(samples) / rate <= len(PCM) / 48_000 + 1_152 / rate


def test_mp3_is_the_default(client: openai.OpenAI) -> None:
    speech = client.audio.speech.create(model="tone", voice="sine", input=TEXT)
    assert speech.response.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("model", MODELS)
def test_server_sent_events(tone_stack: Stack, model: str) -> None:
    body = {"model": model, "voice": {"id": "sine"}, "input": TEXT, "stream_format": "sse", "response_format": "pcm"}
    # the SDK asks for octet-stream even here, so nothing may hang on Accept
    response = httpx.post(
        f"{tone_stack.url}/v1/audio/speech", json=body, headers={"Accept": "application/octet-stream"}
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [event["type"] for event in events]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == PCM
    done = events[-1]
    assert done["type"] == "speech.audio.done"
    seconds = len(PCM) / 48_000
    assert done["usage"] == {
        "input_tokens": len(TEXT),
        "output_tokens": round(seconds * 20),
        "total_tokens": len(TEXT) + round(seconds * 20),
    }


def test_every_response_says_where_the_time_went(tone_stack: Stack) -> None:
    body = {"model": "tone", "voice": "sine", "input": TEXT}
    headers = {"X-Request-ID": "mine-1"}
    response = httpx.post(f"{tone_stack.url}/v1/audio/speech", json=body, headers=headers)
    parts = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert parts == ["queue", "cold_start", "synthesis", "encoding", "gateway"]
    assert response.headers["x-request-id"] == "mine-1"
    refused = httpx.post(f"{tone_stack.url}/v1/audio/speech", json={}, headers={"X-Request-ID": "not\tfine"})
    assert refused.headers["x-request-id"].startswith("req_")
    assert refused.headers["server-timing"].startswith("gateway;dur=")


def test_models_and_voices(client: openai.OpenAI, tone_stack: Stack) -> None:
    models = client.models.list().data
    assert {*MODELS} <= {model.id for model in models}
    assert {model.object for model in models} == {"model"}
    assert client.models.retrieve("tone").id == "tone"
    voices = httpx.get(f"{tone_stack.url}/v1/audio/voices", params={"model": "tone"}).json()["voices"]
    assert voices == [{"id": "sine", "name": "Sine", "language": "en", "gender": "neutral", "model": "tone"}]


def test_health_and_readiness(tone_stack: Stack) -> None:
    assert httpx.get(f"{tone_stack.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{tone_stack.url}/readyz")
    assert (ready.status_code, set(ready.json()["models"].values())) == (200, {True})


GOOD = {"model": "tone", "voice": "sine", "input": "Hello."}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"input": ""}, 400, "nothing_to_say", "input"),
        ({"input": " \n "}, 400, "nothing_to_say", "input"),
        ({"input": "?! …"}, 400, "nothing_to_say", "input"),
        ({"input": "x" * 4_097}, 400, "invalid_request", "input"),
        ({"input": "a\0b"}, 400, "invalid_request", "input"),
        ({"input": 5}, 400, "invalid_request", "input"),
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"voice": "nobody"}, 400, "voice_not_found", "voice"),
        ({"voice": "../../etc/passwd"}, 400, "voice_not_found", "voice"),
        ({"response_format": "ogg"}, 400, "invalid_request", "response_format"),
        ({"colour": "red"}, 400, "invalid_request", "colour"),
        ({"speed": 0}, 400, "invalid_request", "speed"),
        ({"speed": -1}, 400, "invalid_request", "speed"),
        ({"speed": 9}, 400, "invalid_request", "speed"),
        ({"speed": "fast"}, 400, "invalid_request", "speed"),
        ({"stream_format": "telepathy"}, 400, "invalid_request", "stream_format"),
        ({"parameters": {"x": 1}}, 400, "invalid_request", "parameters"),
    ],
)
def test_bad_input_is_a_clear_error_and_the_server_stays_healthy(
    tone_stack: Stack, model: str, changes: dict[str, object], status: int, code: str, param: str
) -> None:
    response = httpx.post(f"{tone_stack.url}/v1/audio/speech", json={**GOOD, "model": model, **changes})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-should-retry"] == "false"
    assert httpx.post(f"{tone_stack.url}/v1/audio/speech", json={**GOOD, "model": model}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model":"tone","voice":"sine","input":"\\ud800"}', 400),
        (b'{"model":"tone","voice":"sine","input":"Hi","speed":NaN}', 400),
        (b'{"model":', 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"[" * 200_000, 400),
        (b" " * 20_000_000, 413),
    ],
    ids=["lone surrogate", "NaN", "malformed", "not text", "no object", "nested", "20 MB"],
)
def test_a_bad_body_is_a_clear_error_and_the_server_stays_healthy(tone_stack: Stack, body: bytes, status: int) -> None:
    with httpx.Client() as http:
        try:
            response = http.post(f"{tone_stack.url}/v1/audio/speech", content=body)
        except httpx.WriteError:
            assert status == 413  # refused while it was still being sent
        else:
            assert response.status_code == status
            assert response.json()["error"]["type"] == "invalid_request_error"
    assert httpx.post(f"{tone_stack.url}/v1/audio/speech", json=GOOD).status_code == 200


def test_the_sdk_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.speech.create(model="nobody", voice="sine", input="Hello.")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.audio.speech.create(model="tone", voice="nobody", input="Hello.")
    assert bad.value.param == "voice"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nope", 404), ("GET", "/v1/audio/speech", 405)])
def test_unknown_routes_answer_in_the_same_shape(tone_stack: Stack, method: str, path: str, status: int) -> None:
    response = httpx.request(method, tone_stack.url + path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_openapi_document_resolves(tone_stack: Stack) -> None:
    document = httpx.get(f"{tone_stack.url}/openapi.json").json()
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]
    assert "SpeechRequest" in document["components"]["schemas"]
