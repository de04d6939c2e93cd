"""What goes in as text comes out as words, through the gateway and both providers' paths, in every codec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.conftest import Stack, running_stack
from tests.e2e.listening import recognised_share, transcribe, word_error_rate
from yapit.contracts import Codec

SENTENCES = (Path(__file__).parents[1] / "data" / "harvard.txt").read_text().splitlines()
FUNCTIONS = Path(__file__).parents[2] / "functions"
CODECS: list[Codec] = ["pcm", "wav", "flac", "mp3", "opus", "aac"]
MAX_WORD_ERROR_RATE = 0.06


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(FUNCTIONS, tmp_path_factory.mktemp("routes")) as running:
        yield running


def say(stack: Stack, text: str, codec: Codec, model: str = "hibari") -> bytes:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", timeout=120) as client:
        spoken = client.audio.speech.create(model=model, voice="heart", input=text, response_format=codec)
        return spoken.content


def say_everywhere(stack: Stack, text: str, codec: Codec) -> bytes:
    """The clip, after seeing that the other paths give the same bytes: listening to one is listening to all."""
    clip = say(stack, text, codec)
    for model in ("hibari-runpod", "hibari-modal"):
        assert say(stack, text, codec, model) == clip, model
    return clip


@pytest.mark.parametrize("codec", CODECS)
def test_a_few_sentences(stack: Stack, codec: Codec) -> None:
    text = " ".join(SENTENCES[20:26])
    heard = transcribe(say_everywhere(stack, text, codec), codec)
    assert word_error_rate([text], [heard]) <= MAX_WORD_ERROR_RATE
    assert min(recognised_share(SENTENCES[20:26], heard)) >= 0.6


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("codec", CODECS)
def test_fifty_sentences(stack: Stack, codec: Codec) -> None:
    heard = [transcribe(say_everywhere(stack, sentence, codec), codec) for sentence in SENTENCES]
    rate = word_error_rate(SENTENCES, heard)
    print(f"word error rate over {len(SENTENCES)} sentences in {codec}: {rate:.1%}")
    assert rate <= MAX_WORD_ERROR_RATE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("codec", CODECS)
def test_a_two_minute_text(stack: Stack, codec: Codec) -> None:
    text = " ".join(SENTENCES)
    clip = say_everywhere(stack, text, codec)
    heard = transcribe(clip, codec)
    rate, shares = word_error_rate([text], [heard]), recognised_share(SENTENCES, heard)
    print(f"word error rate of the two-minute text in {codec}: {rate:.1%}; worst sentence {min(shares):.0%} heard")
    assert rate <= MAX_WORD_ERROR_RATE
    assert min(shares) >= 0.5  # no sentence is missing, doubled or out of order
