import pytest
from starlette.requests import Request

from emulator.__main__ import check_bind
from emulator.app import DEFAULT_API_KEY
from emulator.runpod.auth import is_authorised
from yapit.errors import ConfigurationError


@pytest.mark.parametrize(
    ("host", "key"), [("127.0.0.1", DEFAULT_API_KEY), ("localhost", DEFAULT_API_KEY), ("0.0.0.0", "a key of one's own")]
)
def test_loopback_or_a_key_of_ones_own(host: str, key: str) -> None:
    check_bind(host, key)


def test_beyond_loopback_the_default_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="set EMULATOR_API_KEY"):
        check_bind("0.0.0.0", DEFAULT_API_KEY)


def test_an_empty_key_opens_nothing() -> None:
    assert not is_authorised(Request({"type": "http", "headers": []}), "")
