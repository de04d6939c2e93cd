"""What a worker's result does to its job: the body of job-done, or what the in-process worker would have posted.

Both kinds of worker end their jobs here, so that they cannot differ.
"""

from __future__ import annotations

import logging
from typing import Any

from emulator.engine.jobs import Attempt
from emulator.runpod.payload import RawJson

logger = logging.getLogger(__name__)


def finish(attempt: Attempt, output: RawJson | None, error: Any = None) -> None:
    """End a job; ignored where it is over already.

    A text error is kept verbatim, with the output beside it. Any other kind of error is lost, and the job completes
    without output (https://github.com/runpod/runpod-python/issues/299). So does one whose output is too large
    (https://github.com/runpod/runpod-python/issues/309).
    """
    if isinstance(error, str) and error:
        attempt.fail(error, output)
    elif error:
        logger.error("job %s: the error is no text and is lost at RunPod; return {'error': str(…)}", attempt.job_id)
        attempt.complete(None)
    elif output is not None and (limit := limit_bytes(attempt)) is not None and len(output) > limit:
        refuse_oversize(attempt)
    else:
        attempt.complete(output)


def limit_bytes(attempt: Attempt) -> int | None:
    """How large the job's result may be."""
    limit: int | None = attempt.labels.get("max_output_bytes")
    return limit


def refuse_oversize(attempt: Attempt) -> None:
    """End a job whose result RunPod refuses: the client sees COMPLETED without data; chunks already streamed are not
    lost."""
    limit = f"{limit_bytes(attempt):,}"
    logger.error("job %s: its output is over RunPod's limit of %s bytes and is lost, as there", attempt.job_id, limit)
    attempt.complete(None)
