"""Daily batch retraining of session-based recommenders: every step, free of any scheduler."""
