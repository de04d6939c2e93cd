"""What a worker's result does to its job: the body of job-done, or what the in-process worker would have posted.

Both kinds of worker end their jobs here, so that they cannot differ.
"""

from __future__ import annotations

import logging
from typing import Any

from emulator.engine.jobs import Job
from emulator.runpod import facts

logger = logging.getLogger(__name__)


def output_limit_bytes(job: Job) -> int:
    """How large the body of a job's result may be: as large as its request."""
    is_sync = job.job_id.startswith(facts.SYNC_ID_PREFIX)
    return facts.RUNSYNC_BODY_BYTES if is_sync else facts.RUN_BODY_BYTES


def finish(job: Job, result: dict[str, Any]) -> None:
    """End a job with `{"output"?, "error"?}`; ignored where it is over already.

    A text error is kept verbatim, with the output beside it. Any other kind of error is lost, and the job completes
    without output (https://github.com/runpod/runpod-python/issues/299).
    """
    error, output = result.get("error"), result.get("output")
    if isinstance(error, str) and error:
        job.fail(error, output)
    elif error:
        logger.error("job %s: the error is no text and is lost at RunPod; return {'error': str(…)}", job.job_id)
        job.complete(None)
    else:
        job.complete(output)


def refuse_oversize(job: Job) -> None:
    """End a job whose result is too large: RunPod refuses it, and the client sees a job without data
    (https://github.com/runpod/runpod-python/issues/309)."""
    limit = output_limit_bytes(job)
    logger.error("job %s: the output is larger than %s bytes and is lost at RunPod", job.job_id, f"{limit:,}")
    job.complete(None)
