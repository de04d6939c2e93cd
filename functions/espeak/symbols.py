"""Where an ELF library keeps its hidden functions and variables.

The library that the wheel carries is not stripped: its symbol table (`.symtab`) also names what it does not export.
"""

from __future__ import annotations

import struct
from pathlib import Path

_SYMTAB = 2  # sh_type
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


def symbol_offsets(library: Path, names: frozenset[str]) -> dict[str, int]:
    """The offsets of `names` in a 64-bit ELF file, those that it names; empty for any other kind of file."""
    image = library.read_bytes()
    if image[:6] != b"\x7fELF\x02\x01":
        return {}
    header = _HEADER.unpack_from(image)
    first, size, count = header[6], header[11], header[12]
    sections = [_SECTION.unpack_from(image, first + index * size) for index in range(count)]
    offsets: dict[str, int] = {}
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        strings = sections[section[6]][4]
        for name_at, _, _, _, value, _ in _SYMBOL.iter_unpack(image[section[4] : section[4] + section[5]]):
            start = strings + name_at
            name = image[start : image.index(b"\0", start)].decode("ascii", "replace")
            if name in names:
                offsets[name] = value
    return offsets
