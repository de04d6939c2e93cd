"""What Modal does, each number with where it is known from. Marks: [SDK] modal 1.6.4, [M] measured with that SDK
against a prototype, [DOCS] its documentation, [?] not verified: correct it here after one try with a real account."""

from emulator.modal.operations import OPERATIONS as OPERATIONS

SDK_VERSION = "1.6.4"  # the release whose messages and behaviour these facts were read from

MAX_INLINE_BYTES = 2 * 1024 * 1024  # [SDK] MAX_OBJECT_SIZE_BYTES: larger arguments, results and chunks become blobs
MAX_INLINE_ASYNC_BYTES = 8 * 1024  # [SDK] MAX_ASYNC_OBJECT_SIZE_BYTES: the same for what is spawned
OUTPUTS_WAIT_S = 55.0  # [SDK] OUTPUTS_TIMEOUT: the longest poll for outputs
MAX_OUTPUTS = 49  # [SDK] FunctionCall.iter asks for as many at a time
MAX_INPUTS_OUTSTANDING = 1_000  # [SDK] of one map, where the server does not say

TIMEOUT_S = 300.0  # [DOCS] default of a function
CONTROL_PLANE_REGION = "us-east"  # [DOCS] inputs of the other regions go to the region's input plane
AUTH_TOKEN_LIFETIME_S = 20 * 60.0  # [SDK] DEFAULT_EXPIRY_OFFSET of the input plane's tokens

MAX_QUEUED = 2_000  # [DOCS] inputs of a function that wait, of calls that somebody waits for
MAX_TOTAL = 25_000  # [DOCS] and in all
MAX_SPAWNED = 50_000  # ours; [DOCS] a million
INPUTS_PER_S = 200.0  # [DOCS] of a new workspace; here only where it is asked for
RATE_BURST_S = 5.0  # [DOCS]

MIN_RETRY_DELAY_MS = 1_000  # [SDK] MIN_INPUT_RETRY_DELAY_MS

WEB_TIMEOUT_S = 150.0  # [DOCS] then a web request is answered with a redirection to its result
WEB_CALL_PARAMETER = "__modal_function_call_id"  # [DOCS] of that address

OUTPUT_RETENTION_S = 7 * 86_400.0  # [DOCS] results of spawned calls can be had for a week
UNFETCHED_RETENTION_S = 300.0  # ours: of a call that somebody waited for, and left
CLEARED_RETENTION_S = 10.0  # ours: how long an output that was fetched for good can be fetched again, by a retry
FAILED_STARTS = 1  # [M] an input whose container fails to start is told why, at once
LOST_ATTEMPTS = 2  # [?] an input whose container died runs once more, then it is an internal failure

CANCELLED = "the input was cancelled"  # [?] text of a cancelled input's error
TIMEOUT = "Task's current input hit its timeout of {:g}s"  # [?] text of a timed-out input's error
LOST = "the container that ran the input died"  # [?] text of an internal failure

SCALEDOWN_WINDOW_S = 60.0  # [DOCS] default of a function
MAX_CONTAINERS = 8  # ours, where the function sets no bound; [DOCS] the account's
HEARTBEAT_HOLD_S = 14.0  # [SDK] the runtime gives a heartbeat 15.1 s, and sends the next one 15 s after it
INPUTS_HOLD_S = 60.0  # ours: the runtime sets no deadline, and asks again at once
SILENCE_S = 300.0  # [?] containers that are not heard of are marked unhealthy "eventually" [SDK]
CANCEL_GRACE_S = 30.0  # [?] users see containers killed about as long after a cancellation (modal-client#4125)
EXIT_GRACE_S = 10.0  # ours, in real seconds; [DOCS] 30 for exit hooks
STARTUP_TIMEOUT = "the container did not start within its startup timeout of {:g}s"  # [?]

ENVIRONMENT, ENVIRONMENT_ID = "main", "en-emulator"  # [DOCS] the default's name
IMAGE_BUILDER_VERSION = "2025.06"  # [SDK] the newest stable one that 1.6.4 knows
WORKDIR = "/root"  # [DOCS] where containers run, and where code is mounted

TOKEN_ID, PROXY_KEY = "ak-emulator", "wk-emulator"  # ours, in the form of Modal's
