"""The servers that are compared, each a process of its own: `python -m tests.bench.servers NAME PORT`."""

from __future__ import annotations

import sys

from tests.bench.adapter import PCM

ADAPTER = "tests.bench.adapter.Free"


def floor(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request) -> Response:
        await request.json()
        return Response(PCM, media_type="audio/pcm")

    uvicorn.run(Starlette(routes=[Route("/", echo, methods=["POST"])]), port=port, log_level="error", access_log=False)


def worker(port: int) -> None:
    import uvicorn

    from yapit.workers.handlers.local import create_app

    uvicorn.run(create_app(ADAPTER), port=port, log_level="error", access_log=False)


def litserve(port: int) -> None:
    from litserve import LitServer

    from tests.bench.litserve_api import Api

    LitServer(Api(), accelerator="cpu").run(port=port, log_level="error", generate_client_file=False)


def rp_serve_api(port: int) -> None:
    sys.argv = ["handler", "--rp_serve_api", "--rp_api_port", str(port), "--rp_log_level", "ERROR"]
    import runpod

    from yapit.workers.handlers.runpod import build_config
    from yapit.workers.loading import load_runner

    runpod.serverless.start(build_config(load_runner(ADAPTER)))


SERVERS = {server.__name__: server for server in (floor, worker, litserve, rp_serve_api)}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
