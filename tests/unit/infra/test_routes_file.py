"""Entries are changed by slug; what else stands in the file keeps its text."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from infra.routes_file import put_entry, read_entries, remove_entry, routes_file
from yapit.errors import ConfigurationError
from yapit.gateway.routes import load_routes

COMMITTED = Path(__file__).parents[3] / "tts_processors.json"
ENTRY = {
    "slug": "kokoro-runpod",
    "function": "kokoro",
    "processor": "yapit.gateway.processors.tts.runpod.RunpodProcessor",
    "runpod_endpoint_id": "4m7x2k9q",
    "fallback": ["hibari", "espeak"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tts_processors.json"
    path.write_text(COMMITTED.read_text())
    return path


def test_adding_and_removing_an_entry_leaves_the_file_as_it_was(path: Path) -> None:
    before = path.read_text()
    assert put_entry(path, ENTRY)
    assert path.read_text().startswith(before[: before.rindex("}") + 1])
    assert '    "fallback": ["hibari", "espeak"]\n' in path.read_text()
    assert load_routes(path)[-1].options == {"runpod_endpoint_id": "4m7x2k9q"}
    assert remove_entry(path, "kokoro-runpod")
    assert path.read_text() == before


def test_what_is_written_reads_like_what_is_committed(path: Path) -> None:
    hibari, *others = read_entries(path)
    for other in others:
        remove_entry(path, other["slug"])
    committed = path.read_text()
    remove_entry(path, "hibari")
    put_entry(path, hibari)
    assert path.read_text() == committed


def test_no_text_is_changed_by_its_layout(path: Path) -> None:
    words = [f'a  "b", c{number} \\ ü' for number in range(40)]
    entry = {**ENTRY, "voice_aliases": dict(zip(words, words, strict=True)), "aliases": words, "fallback": []}
    put_entry(path, entry)
    assert read_entries(path)[-1] == entry
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_an_entry_is_replaced_where_it_stands(path: Path) -> None:
    others = read_entries(path)[1:]
    first = {**read_entries(path)[0], "max_parallel": 7}
    assert put_entry(path, first)
    assert read_entries(path) == [first, *others]


def test_what_is_there_already_is_not_written_again(path: Path) -> None:
    put_entry(path, ENTRY)
    before = path.stat()
    assert not put_entry(path, dict(reversed(ENTRY.items())))
    assert not remove_entry(path, "nobody")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_missing_file_is_made_and_an_emptied_one_is_still_a_list(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    assert read_entries(path) == []
    put_entry(path, {**ENTRY, "fallback": []})
    assert read_entries(path) == [{**ENTRY, "fallback": []}]
    remove_entry(path, "kokoro-runpod")
    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize("slug", ["", "No Good", "../x", "-x", "x" * 65, "x\n", None, 5])
def test_a_slug_that_will_not_do_is_refused(path: Path, slug: object) -> None:
    before = path.read_text()
    with pytest.raises(ConfigurationError, match="no name for a route"):
        put_entry(path, {**ENTRY, "slug": slug})
    assert path.read_text() == before


def test_an_entry_that_another_falls_back_to_stays(path: Path) -> None:
    put_entry(path, ENTRY)
    with pytest.raises(ConfigurationError, match="kokoro-runpod falls back to espeak"):
        remove_entry(path, "espeak")


@pytest.mark.parametrize(("content", "said"), [("[", "not JSON"), ("{}", "must be a list"), ("[1]", "must be a list")])
def test_a_file_that_is_no_list_of_entries_is_not_touched(path: Path, content: str, said: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        put_entry(path, ENTRY)
    assert path.read_text() == content


def test_a_folder_that_is_not_there_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TTS_PROCESSORS_FILE"):
        put_entry(tmp_path / "absent" / "routes.json", ENTRY)


def test_where_the_disk_is_full_the_old_file_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_text()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        put_entry(path, ENTRY)
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link_and_permissions_stay(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    put_entry(link, ENTRY)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_entries(path)[-1] == ENTRY


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    slugs = [f"model-{number}" for number in range(24)]
    writers = [threading.Thread(target=put_entry, args=(path, {**ENTRY, "slug": slug})) for slug in slugs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {entry["slug"] for entry in read_entries(path)} >= {*slugs, "hibari", "espeak"}


def test_the_environment_names_the_file() -> None:
    assert routes_file({}) == Path("tts_processors.json")
    assert routes_file({"TTS_PROCESSORS_FILE": "/x/y.json"}) == Path("/x/y.json")
