import pytest
from hypothesis import given
from hypothesis import strategies as st

from yapit.errors import InvalidRequest, NothingToSay, TextTooLong
from yapit.text import check_text, is_speakable, split_text

PARAGRAPH = (
    'Dr. Smith paid $3.50 to Mr. Jones. He said "Hello there! How are you?" Then he left, slowly; the rain - as ever -'
    " fell.\n\nA new paragraph, e.g. this one, starts here. Really?! ... Yes."
)


def spoken(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


@pytest.mark.parametrize("by_sentence", [True, False])
@given(text=st.text(max_size=400) | st.text("ab, .\n", max_size=400), max_characters=st.integers(20, 120))
def test_every_letter_is_in_exactly_one_piece(by_sentence: bool, text: str, max_characters: int) -> None:
    pieces = split_text(text, max_characters=max_characters, by_sentence=by_sentence)
    assert spoken("".join(piece.text for piece in pieces)) == spoken(text)
    position = 0
    for piece in pieces:
        assert 0 < len(piece.text) <= max_characters
        assert piece.start >= position
        assert text[piece.start : piece.start + len(piece.text)] == piece.text
        assert is_speakable(piece.text)
        position = piece.start + len(piece.text)


def test_sentences_end_where_a_reader_would_end_them() -> None:
    pieces = [piece.text for piece in split_text(PARAGRAPH, max_characters=200, by_sentence=True)]
    assert pieces[0] == "Dr. Smith paid $3.50 to Mr. Jones."
    assert pieces[1] == 'He said "Hello there! How are you?"'
    assert pieces[3].startswith("A new paragraph, e.g. this one")
    assert pieces[4] == "Really?! ..."


def test_a_long_sentence_is_cut_after_a_clause_then_between_words_then_anywhere() -> None:
    clauses = split_text("one two three four, five six seven eight nine", max_characters=25, by_sentence=True)
    assert [piece.text for piece in clauses] == ["one two three four,", "five six seven eight nine"]
    words = split_text("one two three four five six seven", max_characters=20, by_sentence=True)
    assert [piece.text for piece in words] == ["one two three four", "five six seven"]
    assert [piece.text for piece in split_text("x" * 45, max_characters=20, by_sentence=True)] == ["x" * 20] * 2 + [
        "x" * 5
    ]


@pytest.mark.parametrize("max_characters", [30, 60, 200])
def test_splitting_a_piece_again_gives_the_piece(max_characters: int) -> None:
    for piece in split_text(PARAGRAPH, max_characters=max_characters, by_sentence=True):
        again = split_text(piece.text, max_characters=max_characters, by_sentence=True)
        assert [part.text for part in again] == [piece.text]


def test_whole_sentences_are_packed_by_length() -> None:
    pieces = split_text("One. Two. Three. Four.", max_characters=20, by_sentence=False)
    assert [piece.text for piece in pieces] == ["One. Two. Three.", "Four."]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", NothingToSay, "no letter or digit"),
        (" \n\t", NothingToSay, "no letter or digit"),
        ("?! …", NothingToSay, "no letter or digit"),
        ("abcdef", TextTooLong, "6 characters, the limit is 5"),
        ("a\0b", InvalidRequest, "U+0000 at character 1"),
        ("ab\udc80", InvalidRequest, "U+DC80 at character 2"),
    ],
)
def test_what_cannot_be_spoken_is_refused(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        check_text(text, max_characters=5)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["7", "é", "你好", "ok\n", "👍 a"])
def test_what_can_be_spoken_passes(text: str) -> None:
    check_text(text, max_characters=5)
