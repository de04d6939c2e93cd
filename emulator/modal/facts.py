"""What Modal does, each number with where it is known from. Marks: [SDK] modal 1.6.4, [M] measured with that SDK
against a prototype, [DOCS] its documentation, [?] not verified: correct it here after one try with a real account."""

from emulator.modal.protocol import rpc_names

SDK_VERSION = "1.6.4"  # the release whose messages and behaviour these facts were read from

MAX_INLINE_BYTES = 2 * 1024 * 1024  # [SDK] MAX_OBJECT_SIZE_BYTES: larger arguments, results and chunks become blobs
MAX_INLINE_ASYNC_BYTES = 8 * 1024  # [SDK] MAX_ASYNC_OBJECT_SIZE_BYTES: the same for what is spawned
OUTPUTS_WAIT_S = 55.0  # [SDK] OUTPUTS_TIMEOUT: the longest poll for outputs
MAX_OUTPUTS = 49  # [SDK] FunctionCall.iter asks for as many at a time
MAX_INPUTS_OUTSTANDING = 1_000  # [SDK] of one map, where the server does not say

TIMEOUT_S = 300.0  # [DOCS] default of a function
OUTPUT_RETENTION_S = 7 * 86_400.0  # [DOCS] results of spawned calls can be had for a week
UNFETCHED_RETENTION_S = 300.0  # ours: of a call that somebody waited for, and left
CLEARED_RETENTION_S = 10.0  # ours: how long an output that was fetched for good can be fetched again, by a retry
LOST_ATTEMPTS = 2  # [?] an input whose container died runs once more, then it is an internal failure

CANCELLED = "the input was cancelled"  # [?] text of a cancelled input's error
TIMEOUT = "Task's current input hit its timeout of {:g}s"  # [?] text of a timed-out input's error
LOST = "the container that ran the input died"  # [?] text of an internal failure

TOKEN_ID = "ak-emulator"  # ours, in the form of Modal's  # noqa: S105

IMPLEMENTED = (
    "ClassGet",
    "FunctionCallCancel",
    "FunctionCallGetDataOut",
    "FunctionGet",
    "FunctionGetOutputs",
    "FunctionMap",
)

OPERATIONS = {name: name in IMPLEMENTED for name in rpc_names()}
"""Every RPC of Modal's control plane, and whether it is here; the rest answers UNIMPLEMENTED."""
