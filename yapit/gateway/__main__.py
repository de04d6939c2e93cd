"""`python -m yapit.gateway`."""

from __future__ import annotations

import sys

import pydantic
import uvicorn

from yapit.errors import ConfigurationError, InvalidRequest
from yapit.gateway.app import create_app
from yapit.gateway.settings import Settings


def main() -> None:
    try:
        settings = Settings()
        settings.check_bind()
        app = create_app(settings)
    except ConfigurationError as error:
        sys.exit(f"gateway: {error}")
    except pydantic.ValidationError as error:
        sys.exit(f"gateway: the environment: {InvalidRequest.from_validation(error)}")
    uvicorn.run(
        app, host=settings.gateway_host, port=settings.gateway_port, log_level=settings.log_level, access_log=False
    )


if __name__ == "__main__":
    main()
