import re

import pytest

from yapit import errors


def tree(cls: type[errors.YapitError] = errors.YapitError) -> list[type[errors.YapitError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in tree(child))]


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_class_stands_in_the_drawing_with_its_code_and_status(cls: type[errors.YapitError]) -> None:
    if cls is errors.YapitError:
        return
    drawn = re.search(rf"─ {cls.__name__} +(\w+) +(\d+) +(yes|no)", errors.__doc__ or "")
    assert drawn is not None
    assert drawn.groups() == (cls.code, str(cls.http_status), "yes" if cls.retryable else "no")


def test_codes_are_distinct() -> None:
    codes = [cls.code for cls in tree()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_an_error_that_crossed_a_process_is_the_same_class(cls: type[errors.YapitError]) -> None:
    error = errors.from_code(cls.code, "because", retryable=cls.retryable)
    assert type(error) is cls
    assert (str(error), error.retryable) == ("because", cls.retryable)


def test_an_unknown_code_is_the_upstreams_failure_and_keeps_what_was_said() -> None:
    error = errors.from_code("martian", "because", retryable=False)
    assert type(error) is errors.UpstreamFailed
    assert not error.retryable


def test_only_retryable_errors_say_when() -> None:
    assert errors.Overloaded("full").retry_after_s == errors.RETRY_AFTER_S
    assert errors.Overloaded("full", retry_after_s=7).retry_after_s == 7
    assert errors.NoAudio("none").retry_after_s is None
