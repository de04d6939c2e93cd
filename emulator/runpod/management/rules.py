"""What is known of the management API, each with its source. Marks as in `emulator.runpod.facts`; [V2] is the OpenAPI
document."""

RESERVED_IDS = frozenset({"serverless", "templates", "registries", "network-volumes", "catalog", "billing", "pods"})
"""First path segments of this API: no endpoint is called like that. In the cloud the hosts differ instead."""

DEFAULT_TIMEOUT_MS = 0  # [LIVE] of an endpoint created without one; the document says 300000
DEFAULT_FLASHBOOT = "OFF"  # [V2] [LIVE]
DEFAULT_MIN_WORKERS, DEFAULT_MAX_WORKERS = 0, 3  # [V2]
DEFAULT_IDLE_TIMEOUT_S = 10  # [V2]; the console's is 5 [DOCS]
DEFAULT_DISK_GB = 20  # [?]

QUOTA_STATUS = 400  # [?]
QUOTA_DETAIL = "max workers across all endpoints must not exceed your workers quota ({quota})"  # [?]
UNKNOWN_REFERENCE_STATUS = 400  # [?] of a registry or network volume that is not there

RATE_POLICY = {"minute": (60, 60), "hour": (3_000, 3_600), "day": (50_000, 86_400)}  # [V2] example: requests, seconds

WORKER_FAILURE_SHOWN_S = 60.0  # [?] how long a worker that crashed is listed as UNHEALTHY
LOG_TAIL_LINES, LOG_TAIL_MAX = 100, 5_000  # [V2]
