"""What RunPod does, each number with where it is known from. Marks: [DOCS] its documentation, [SDK] runpod 1.12.0,
[JS] and [GO] the other SDKs, [V2] the description of management API v2, [LIVE] captures from production by RunPod's
staff, [MCP] its own MCP server, [RUN] seen when the SDK was run, [?] not verified: correct it here after one capture
with a real key."""

from emulator.engine.jobs import JobState
from emulator.operations import Operation

SDK_VERSION = "1.12.0"  # [SDK] the runpod package these facts were read from, and the in-process worker does as

STATUS = {
    JobState.QUEUED: "IN_QUEUE",
    JobState.RUNNING: "IN_PROGRESS",
    JobState.COMPLETED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED_OUT",
}  # [SDK] the six names; FINAL_STATES leaves out CANCELLED

ID_SUFFIX = "-u1"  # [LIVE 23] `<uuid>-u2`; also -u1, -e1, -e2
SYNC_ID_PREFIX = "sync-"  # [LIVE 23]

RUN_BODY_BYTES = 10 * 1024 * 1024  # [DOCS]
RUNSYNC_BODY_BYTES = 20 * 1024 * 1024  # [DOCS]
RUN_OUTPUT_BYTES = RUN_BODY_BYTES  # [?] job-done answers 400 above a limit; taken to be the request's
RUNSYNC_OUTPUT_BYTES = RUNSYNC_BODY_BYTES  # [?] as above
OVERSIZE_STATUS = 413  # [?] of a request; the documented codes are 400, 401, 404, 429 and 500
STREAM_CHUNK_BYTES = 1_000_000  # [DOCS] 1 MB per chunk; larger ones are split

WAIT_MIN_MS, WAIT_MAX_MS = 1_000, 300_000  # [DOCS] for /runsync; [MCP] for /stream
RUNSYNC_WAIT_MS = 90_000  # [DOCS] default
STATUS_SYNC_WAIT_MS = 90_000  # [?] as /runsync
STREAM_WAIT_MS = 10_000  # [MCP] an empty reply is held this long by default

EXECUTION_TIMEOUT_MS = 600_000  # [DOCS] default
EXECUTION_TIMEOUT_RANGE_MS = (5_000, 7 * 86_400_000)  # [DOCS]
TTL_MS = 86_400_000  # [DOCS] default, counted from submission
TTL_RANGE_MS = (10_000, 7 * 86_400_000)  # [DOCS]
RUN_RETENTION_S = 30 * 60.0  # [DOCS] after completion of /run
RUNSYNC_RETENTION_S = 60.0  # [DOCS] after completion of /runsync

RATE_WINDOW_S = 10.0  # [DOCS]
RATE_LIMITS: dict[str, tuple[int, int | None]] = {
    "run": (1_000, 200),
    "runsync": (2_000, 400),
    "status": (2_000, 400),
    "status-sync": (2_000, 400),  # [?] as runsync
    "stream": (2_000, 400),
    "cancel": (100, 20),
    "purge-queue": (2, None),
    "openai": (2_000, 400),
    "requests": (10, 2),
}  # [DOCS] per window, at once
QUEUE_LIMIT_MIN, QUEUE_LIMIT_PER_MAX_WORKER = 50, 500  # [DOCS] older ones: 429 above both 50 and workersMax × 500

MAX_ATTEMPTS = 2  # [LIVE 15] a job whose worker is lost runs once more, then fails
LOST_ERROR = "job timed out after {retries} retries"  # [LIVE 15]
EXECUTION_TIMEOUT_ERROR = "executionTimeout exceeded"  # with FAILED, in several users' production logs

WEBHOOK_DELAYS_S = (0.0, 5.0, 20.0)  # [LIVE 16] seen at +0, +5 and +20 s; the documentation says 10 s apart

JOB_TAKE_HOLD_S = 20.0  # [?] how long production holds a poll; the SDK gives up after 90 s [SDK]
JOB_STOP_HOLD_S = 20.0  # [?] as job-take
STRANGER_HOLD_S = 1.0  # ours: how long a worker that is not of this endpoint waits for its 400
MAX_BATCH_SIZE = 1_000  # ours: how many jobs job-take-batch gives at most
PING_INTERVAL_MS = 10_000  # [SDK] default of RUNPOD_PING_INTERVAL
SILENCE_S = 40.0  # [LIVE 15] executionTime 42078 of a job that no ping named: four pings missed

UNAUTHORIZED = {"error": "unauthorized"}  # [?] body of a 401
NOT_FOUND_JOB = {"error": "job not found"}  # [?] body of a 404
NOT_FOUND_ENDPOINT = {"error": "endpoint not found"}  # [?] body of a 404
TOO_MANY_REQUESTS = "too many requests"  # [?] text of a 429
EMPTY_INPUT_RETRIES = 1  # [LIVE 15]
NOT_FOUND_WORKER = {"error": "worker not found"}  # [?] job-take of a worker that was replaced
OUTPUT_TOO_LARGE = {"error": "output is too large"}  # [?] body of job-done's 400 (worker-comfyui issue 129)
EMPTY_INPUT_ERROR = LOST_ERROR.format(retries=EMPTY_INPUT_RETRIES)  # [LIVE 15] `{"input": {}}` ends like this

LB_HOST_PART = ".api.runpod."  # [DOCS] https://{id}.api.runpod.ai; ours is {id}.api.runpod.localhost
LB_PAYLOAD_BYTES = 30 * 1024 * 1024  # [DOCS] each way
LB_NO_WORKER_S = 120.0  # [DOCS] how long a request waits for a worker
LB_PROCESSING_S = 330.0  # [DOCS] 5.5 min; then 524
LB_NO_WORKER_STATUS = 400  # [DOCS] after LB_NO_WORKER_S, or at once where none can come
LB_TIMED_OUT = {"error": "timed out waiting for worker"}  # [LIVE 14]
LB_NO_WORKERS = {"error": "no workers available"}  # [LIVE 14]; which of the two comes when is not known [?]
LB_PROCESSING_STATUS = 524  # [DOCS]
LB_WORKER_BROKE_STATUS = 502  # [?] seen by users whose worker's port was wrong
LB_OVERSIZE_STATUS = 413  # [?]
LB_WRONG_TYPE_STATUS = 400  # [?]
LB_WRONG_TYPE = {"error": "not allowed for QB API"}  # [LIVE 14] a queue endpoint at the LB's address, or the reverse
LB_WORKER_HEADER = "x-runpod-worker-id"  # [LIVE] in every answer; of a request: "[strict |strict-resume ]<worker>"
LB_HEALTH_PATH = "/ping"  # [DOCS] HEALTH_CHECK_PATH's default: 200 healthy, 204 initialising, else removed
LB_HEALTH_STARTING_S = 0.25  # [?] between two health checks of a worker that is not ready yet
LB_HEALTH_S = 5.0  # [?] between two of one that is

OPENAI_STREAM_FIELD = "stream"  # [DOCS] as in OpenAI's chat API: the answer comes as server-sent events
OPENAI_FAILED_STATUS = 500  # [?] of a job that failed
REQUESTS_KEY = "requests"  # [?] only the rate limit of GET /requests is documented
STATUS_TTL_RANGE_MS = (1, TTL_RANGE_MS[1])  # [DOCS] has 6000, below the policy's lower bound; counted from the call [?]

OPERATIONS = (
    Operation("POST /v2/{id}/run", "[DOCS] [SDK]", gaps="body of a 413 [?]"),
    Operation("POST /v2/{id}/runsync", "[DOCS] [SDK]", gaps="no proxy timeout at 100 s [LIVE 20]"),
    Operation("GET|POST /v2/{id}/status/{job}", "[DOCS] [LIVE 15, 23]", gaps="body of a 404 [?]"),
    Operation("GET|POST /v2/{id}/status/{job}?ttl=", "[DOCS]", gaps="what it counts from [?]"),
    Operation("GET|POST /v2/{id}/status-sync/{job}", "[JS] [GO]", gaps="default wait [?]"),
    Operation("GET|POST /v2/{id}/stream/{job}", "[DOCS] [LIVE 12] [MCP]", gaps="cutting what is no text [?]"),
    Operation("POST /v2/{id}/cancel/{job}", "[DOCS] [SDK]"),
    Operation("POST /v2/{id}/retry/{job}", "[DOCS]"),
    Operation("POST /v2/{id}/purge-queue", "[DOCS] [SDK]"),
    Operation("GET /v2/{id}/health", "[DOCS] [SDK]"),
    Operation("GET /v2/{id}/metrics", "[SDK] runpod-flash", gaps="only what runpod-flash reads"),
    Operation("GET /v2/{id}/requests", "[DOCS]", gaps="shape [?]"),
    Operation("GET|POST /v2/{id}/openai/v1/*", "[DOCS] worker-vllm", gaps="how a result is unwrapped [?]"),
    Operation("policy: executionTimeout, ttl, lowPriority", "[DOCS]", gaps="body of TIMED_OUT [?]"),
    Operation("webhook", "[LIVE 16]"),
    Operation("webhookV2", "[JS] [GO]", is_here=False),
    Operation("s3Config", "[DOCS]", is_here=False),
    Operation("POST /v2/{id}/batch", "[DOCS]", is_here=False, gaps="beta since August 2026"),
    Operation("rate limits", "[DOCS]", gaps="off unless `RunpodLimits` are given; raised with no workers [?]"),
    Operation("GET /v2/{id}/job-take/{worker}", "[SDK] [RUN]", gaps="how long a poll is held [?]"),
    Operation("GET /v2/{id}/job-take-batch/{worker}", "[SDK] [RUN]", gaps="as job-take"),
    Operation("GET /v2/{id}/job-stop/{worker}", "[SDK]", gaps="as job-take"),
    Operation("POST /v2/{id}/job-done/{worker}/{job}", "[SDK] [RUN]", gaps="limit of an output [?]"),
    Operation("POST /v2/{id}/job-stream/{worker}/{job}", "[SDK] [RUN]"),
    Operation("GET /v2/{id}/ping/{worker}", "[SDK] [RUN]"),
    Operation(
        "load balancing: any method and path",
        "[DOCS] [LIVE 14]",
        gaps="the edge's own answers [?]; a worker process answers once it has the whole request",
    ),
    Operation("load balancing: /ping, 200, 204 or removed", "[DOCS]", gaps="intervals [?]; HEALTH_CHECK_PATH is /ping"),
    Operation("load balancing: X-Runpod-Worker-Id in answers", "[LIVE]", gaps="in requests it is a wish"),
    Operation("load balancing: X-Runpod-Worker-Id: strict …", "[LIVE]", is_here=False),
    Operation("load balancing: WebSocket", "[LIVE]", is_here=False),
    Operation("GET|POST /v2/serverless", "[V2]"),
    Operation("GET|PATCH|DELETE /v2/serverless/{id}", "[V2]"),
    Operation("GET /v2/serverless/{id}/workers", "[V2]"),
    Operation("GET /v2/serverless/{id}/workers/{worker}/logs", "[V2]"),
    Operation("GET /v2/serverless/{id}/releases", "[V2]"),
    Operation("GET|POST|PATCH|DELETE /v2/templates", "[V2]"),
    Operation("GET|POST|DELETE /v2/registries", "[V2]"),
    Operation("/v2/registries/delegations", "[V2]", is_here=False),
    Operation("GET|POST|PATCH|DELETE /v2/network-volumes", "[V2]"),
    Operation("GET /v2/catalog/gpus", "[V2]"),
    Operation("GET /v2/catalog/cpus", "[V2]"),
    Operation("GET /v2/catalog/datacenters", "[V2]", is_here=False),
    Operation("GET /v2/catalog/templates", "[V2]", is_here=False),
    Operation("/v2/billing", "[V2]", is_here=False),
    Operation("/v2/pods", "[V2]", is_here=False),
)
