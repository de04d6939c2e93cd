"""Entries of `tts_processors.json`, as the deploy commands change them: by slug, atomically, the others untouched."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yapit.contracts import SLUG_PATTERN
from yapit.errors import ConfigurationError

Entry = dict[str, Any]
SHARED_FIELDS = ("voice_aliases",)
"""What a route through a provider takes over from the one that is called like its function."""
_INDENT = "  "
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class _Written:
    """An entry with the text that stands in the file."""

    entry: Entry
    text: str


def routes_file(environ: Mapping[str, str] = os.environ) -> Path:
    """`TTS_PROCESSORS_FILE`, or `tts_processors.json` in the working directory."""
    return Path(environ.get("TTS_PROCESSORS_FILE", "tts_processors.json"))


def read_entries(path: Path) -> list[Entry]:
    """The entries in order; none where there is no file. Raises `ConfigurationError` where it is no list of objects."""
    return [written.entry for written in _read(path)]


def completed(entry: Entry, entries: Iterable[Entry]) -> Entry:
    """The entry with what somebody set by hand in the one it replaces. A new one has `shared_fields`."""
    for before in entries:
        if before.get("slug") == entry["slug"]:
            return {**before, **entry}
    return {**shared_fields(str(entry["function"]), entries), **entry}


def shared_fields(function: str, entries: Iterable[Entry]) -> Entry:
    """The `SHARED_FIELDS` of the route that is called like the function."""
    found = next((entry for entry in entries if entry.get("slug") == function), {})
    return {key: found[key] for key in SHARED_FIELDS if key in found}


def put_entry(path: Path, entry: Entry) -> bool:
    """Replace the entry with this one's slug where it stands, or add it at the end; whether the file changed.

    The other entries keep their text. Raises `ConfigurationError` for a slug that will not do.
    """
    slug = _checked(entry)
    with _locked(path):
        written = _read(path)
        if entry in [old.entry for old in written]:
            return False
        new = _Written(entry, _text_of(entry))
        slugs = [old.entry.get("slug") for old in written]
        if slug in slugs:
            written[slugs.index(slug)] = new
        else:
            written.append(new)
        _write(path, written)
        return True


def remove_entry(path: Path, slug: str) -> bool:
    """Remove the entry with that slug; whether there was one. Raises `ConfigurationError` where another entry falls
    back to it: a gateway would refuse the file."""
    with _locked(path):
        written = _read(path)
        left = [old for old in written if old.entry.get("slug") != slug]
        if users := [str(old.entry.get("slug")) for old in left if slug in old.entry.get("fallback", [])]:
            raise ConfigurationError(f'{path}: {", ".join(users)} falls back to {slug}; change its "fallback" first')
        if len(left) == len(written):
            return False
        _write(path, left)
        return True


def _checked(entry: Entry) -> str:
    slug = entry.get("slug")
    if not isinstance(slug, str) or not re.fullmatch(SLUG_PATTERN, slug):
        raise ConfigurationError(
            f"{slug!r} is no name for a route: lower-case letters, digits, '.', '_' and '-', starting with a letter or "
            "digit, at most 64 characters"
        )
    return slug


def _read(path: Path) -> list[_Written]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; TTS_PROCESSORS_FILE names the routes") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not text: {error}") from None
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(f"{path}: must be a list of entries")
    return list(_spans(text))


def _spans(text: str) -> Iterator[_Written]:
    """Each entry with its text. `text` is known to be a JSON list of objects."""
    decoder, position = json.JSONDecoder(), text.index("[")
    while (start := text.find("{", position)) >= 0:
        entry, position = decoder.raw_decode(text, start)
        yield _Written(entry, text[start:position])


def _text_of(entry: Entry) -> str:
    """A field per line; lists and objects in it fill lines of `_WIDTH`."""
    fields = [_field(key, value) for key, value in entry.items()]
    return "{\n" + ",\n".join(fields) + f"\n{_INDENT}}}"


def _field(key: str, value: object) -> str:
    indent = _INDENT * 2
    name, text = _json(key), _json(value)
    if not isinstance(value, list | dict) or len(f"{indent}{name}: {text},") <= _WIDTH:
        return f"{indent}{name}: {text}"
    if isinstance(value, list):
        parts = [_json(item) for item in value]
    else:
        parts = [f"{_json(inner)}: {_json(item)}" for inner, item in value.items()]
    body = "\n".join(f"{indent}{_INDENT}{line}" for line in _filled(parts, _WIDTH - len(indent + _INDENT)))
    return f"{indent}{name}: {text[0]}\n{body}\n{indent}{text[-1]}"


def _filled(parts: list[str], width: int) -> Iterator[str]:
    """Parts with commas between them, as many on a line as fit."""
    line = ""
    for number, part in enumerate(parts, 1):
        part += "," if number < len(parts) else ""
        if line and len(line) + 1 + len(part) > width:
            yield line
            line = part
        else:
            line = f"{line} {part}" if line else part
    yield line


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, written: list[_Written]) -> None:
    """All or nothing: a reader finds the old file or the new one."""
    body = (",\n" + _INDENT).join(entry.text for entry in written)
    text = f"[\n{_INDENT}{body}\n]\n" if written else "[]\n"
    path = path.resolve()
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigurationError(f"{path}: its folder cannot be written to: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The folder is what is locked: the file itself is replaced."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; TTS_PROCESSORS_FILE names the routes") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
