"""How often a step is tried again: after an error, never after the signal to stop."""

import sys

import dagster as dg


class RetriesOfErrors(dg.RetryPolicy):
    """A retry policy that lets a stopped run end.

    Dagster applies a policy to interruptions as well: the run would wait for its next attempt, and begin its work
    again, until somebody kills it.
    """

    def calculate_delay(self, attempt_num: int) -> float:
        """Seconds until the next attempt. Raises the interruption that is being handled, if it is one."""
        cause = sys.exception()
        if isinstance(cause, (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)):
            raise cause
        return super().calculate_delay(attempt_num)


RETRIES = RetriesOfErrors(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""A database that restarts must not leave a window without its scores."""
