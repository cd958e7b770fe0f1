"""Daily batch retraining of session-based recommenders: every step, free of any scheduler."""

__version__ = "0.1.0"
