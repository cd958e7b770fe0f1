"""Which errors are worth another attempt."""

from __future__ import annotations

from airflow.sdk import Context, RetryDecision, RetryPolicy

from sbr_tasks.errors import SbrError


class RetryTransientErrors(RetryPolicy):
    """Fails at once on an error that a retry can't fix, with its message as the reason in the log."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Retries errors of other packages, and this package's own if they are transient."""
        if isinstance(exception, SbrError) and not exception.is_transient:
            return RetryDecision.fail(str(exception))
        return RetryDecision.default()
