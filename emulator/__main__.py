"""`python -m emulator`: on loopback, port 8900 (`EMULATOR_HOST`, `EMULATOR_PORT`, `EMULATOR_API_KEY`)."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import uvicorn

from emulator.app import DEFAULT_API_KEY, Emulator, endpoints_from
from yapit.errors import ConfigurationError
from yapit.function_spec import functions_root


def main() -> None:
    level = os.environ.get("LOG_LEVEL", "info")
    logging.basicConfig(level=level.upper(), format="emulator  %(levelname)s %(message)s")
    routes_file = Path(os.environ.get("TTS_PROCESSORS_FILE", "tts_processors.json"))
    try:
        emulator = Emulator(
            functions_root(),
            endpoints=endpoints_from(routes_file),
            api_key=os.environ.get("EMULATOR_API_KEY", DEFAULT_API_KEY),
        )
    except ConfigurationError as error:
        sys.exit(f"emulator: {error}")
    host, port = os.environ.get("EMULATOR_HOST", "127.0.0.1"), int(os.environ.get("EMULATOR_PORT", "8900"))
    uvicorn.run(emulator.app, host=host, port=port, log_level=level, access_log=False)


if __name__ == "__main__":
    main()
