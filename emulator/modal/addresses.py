"""Where the emulator is reached, as it tells its clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Addresses:
    """Base URLs without a slash at the end; empty while unknown. Blobs need an IP address or `localhost` as the host
    of `http`: the SDK refuses others (modal 1.6.4, `use_md5`)."""

    http: str = ""
    rpc: str = ""
