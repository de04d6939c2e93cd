"""How the account's resources look in the API's answers [V2]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

STATUSES = ("RUNNING", "IDLE", "INITIALIZING", "THROTTLED", "UNHEALTHY")
QUEUE_URLS = {
    "run": "run",
    "runSync": "runsync",
    "status": "status/{job_id}",
    "stream": "stream/{job_id}",
    "cancel": "cancel/{job_id}",
    "retry": "retry/{job_id}",
    "purgeQueue": "purge-queue",
    "health": "health",
}


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as its pool knows it; `version` of the endpoint's settings that it was started with."""

    worker_id: str
    status: str
    version: int
    started_at: str
    uptime_s: float


def endpoint_view(endpoint: Json, base_url: str) -> Json:
    settings: Json = endpoint["settings"]
    urls = request_urls(endpoint["id"], settings, base_url.rstrip("/"))
    return {"id": endpoint["id"], **settings, "requestUrls": urls, "createdAt": endpoint["createdAt"]}


def request_urls(endpoint_id: str, settings: Json, base_url: str) -> dict[str, str]:
    """In the cloud these are at api.runpod.ai: `/v2/{id}/…`, or `https://{id}.api.runpod.ai` of a load balancer."""
    if settings["type"] == "QUEUE":
        return {name: f"{base_url}/v2/{endpoint_id}/{path}" for name, path in QUEUE_URLS.items()}
    health_path = settings["env"].get("HEALTH_CHECK_PATH", "/ping")
    base = f"{base_url}/lb/{endpoint_id}"
    return {"base": base, "health": f"{base}{health_path}"}


def workers_view(endpoint: Json, workers: Iterable[WorkerView]) -> Json:
    listed = [_worker(endpoint, worker) for worker in workers]
    counts = Counter(worker["status"] for worker in listed)
    summary = {status.lower(): counts[status] for status in STATUSES}
    return {
        "endpointVersion": endpoint["version"],
        "workers": listed,
        "summary": {**summary, "total": len(listed)},
    }


def releases_view(endpoint: Json, workers: list[WorkerView]) -> Json:
    versions = Counter(worker.version for worker in workers)
    latest, total = versions[endpoint["version"]], len(workers)
    return {
        "endpointVersion": endpoint["version"],
        "rollout": {
            "inProgress": latest < total,
            "workersOnLatest": latest,
            "workersTotal": total,
            "percentOnLatest": 100 * latest // total if total else 0,
        },
        "releases": [{**release, "workerCount": versions[release["version"]]} for release in endpoint["releases"]],
    }


def _worker(endpoint: Json, worker: WorkerView) -> Json:
    settings, gpu = endpoint["settings"], endpoint["settings"]["gpu"]
    return {
        "id": worker.worker_id,
        "status": worker.status,
        "isStale": worker.version != endpoint["version"],
        "version": worker.version,
        "gpuCount": gpu["count"] if gpu else 0,
        "image": settings["image"],
        "uptimeSeconds": int(worker.uptime_s),
        "gpuTypeId": None,
        "dataCenterId": None,
        "startedAt": worker.started_at,
    }
