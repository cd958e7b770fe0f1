"""The errors a person may meet. Each message says what was expected, what was found, where, and what to do."""

from __future__ import annotations

from typing import ClassVar

from sbr_tasks.plain_text import in_one_line

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


class SbrError(Exception):
    """Base of every error that this package raises on purpose; its text is one line for people, without secrets."""

    is_transient: ClassVar[bool] = False
    """Whether a retry may succeed without anybody fixing something first."""

    def __init__(self, text: str) -> None:
        super().__init__(in_one_line(text))


def first_line(error: BaseException) -> str:
    """What an error says, without the dump of internals that some libraries add."""
    return str(error).strip().split("\n", 1)[0]


def system_error(error: OSError) -> str:
    """What the system refused, in words and without its number: the place, and why."""
    if error.strerror is None:
        return first_line(error)
    why = error.strerror[0].lower() + error.strerror[1:]
    place = error.filename2 or error.filename  # of a copy, the second one is where it goes
    return f"{place}: {why}" if place else why


class SettingsError(SbrError):
    """A setting is unknown, or its value is out of bounds."""


class SourceError(SbrError):
    """Clicks could not be read: a file that is absent, empty, or whose lines don't parse."""


class NotArrivedError(SourceError):
    """Clicks that a run needs aren't in the source, and may still come."""


class DayError(SbrError):
    """A run's day is missing, malformed, empty or in quarantine."""


class StoreError(SbrError):
    """What lies in the store is not what its records say, or could not be written."""

    is_transient = True


class FormatError(StoreError):
    """Another release wrote the store, and its records are of another form."""

    is_transient = False


class AlreadyExistsError(StoreError):
    """Somebody else created the key first."""


class DamagedError(StoreError):
    """A file that a record names is missing, or isn't what the record says."""

    is_transient = False


class TrackingError(SbrError):
    """MLflow is out of reach, or refuses. It only shows what the store says, so nothing is lost."""

    is_transient = True


class SparkError(SbrError):
    """Spark is out of reach, or failed at its work. Nothing was stored."""

    is_transient = True


class WindowError(SbrError):
    """A window can't be built: days are missing, cleansing left nothing to train or test on, or Spark isn't installed."""


class TrainingError(SbrError):
    """Training can't go on, for example because the loss is no longer finite."""


class EvaluationError(SbrError):
    """Models can't be compared on the given sessions: nothing is left to train or to test on."""


class StepError(SbrError):
    """A step of a run needs the result of an earlier one, and there is none: somebody marked that one as done."""


class RegistryError(SbrError):
    """A model version is unknown, its files are damaged, or nothing can be decided on it."""
