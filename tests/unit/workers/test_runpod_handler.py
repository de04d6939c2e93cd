import json

from tests import adapters
from tests.unit.workers.test_runner import make_runner, pcm_of
from yapit.contracts import parse_event
from yapit.workers.handlers.runpod import MIN_CONCURRENCY, build_config

JOB = {"id": "1", "input": {"text": "Hello there.", "voice": "any"}}


async def test_the_handler_yields_the_events_as_json() -> None:
    handler = build_config(make_runner(adapters.Tone()))["handler"]
    outputs = [output async for output in handler(JOB)]
    events = [parse_event(json.dumps(output)) for output in outputs]
    assert [event.type for event in events] == ["audio", "done"]
    assert pcm_of(events) == adapters.tone("Hello there.")


async def test_a_bad_input_is_an_event_not_an_exception() -> None:
    handler = build_config(make_runner(adapters.Tone()))["handler"]
    outputs = [output async for output in handler({"id": "1", "input": {"text": "Hello."}})]
    assert outputs == [
        {"type": "error", "code": "invalid_request", "message": "voice: this field is required", "retryable": False}
    ]


def test_it_takes_enough_jobs_at_once_and_aggregates_the_stream() -> None:
    small = build_config(make_runner(adapters.Tone(), scaling={"concurrency": 1}))
    assert small["concurrency_modifier"](1) == MIN_CONCURRENCY >= 3
    assert small["return_aggregate_stream"] is True
    assert build_config(make_runner(adapters.Tone(), scaling={"concurrency": 9}))["concurrency_modifier"](1) == 9


async def openai_answer(**job_input: object) -> dict[str, object]:
    handler = build_config(make_runner(adapters.Tone()))["handler"]
    (answer,) = [output async for output in handler({"id": "1", "input": job_input})]
    return answer


async def test_runpods_openai_path_lists_the_function_as_a_model() -> None:
    answer = await openai_answer(openai_route="/v1/models")
    assert answer["data"] == [{"id": "tone", "object": "model", "created": 0, "owned_by": "yapit"}]


async def test_it_refuses_speech_there_and_says_where_to_have_it() -> None:
    answer = await openai_answer(openai_route="/v1/audio/speech", openai_input={"input": "Hello.", "voice": "alloy"})
    assert (answer["type"], answer["code"]) == ("error", "invalid_request")
    assert "'/v1/audio/speech', since it cannot carry audio as such" in str(answer["message"])
    assert "gateway" in str(answer["message"])
