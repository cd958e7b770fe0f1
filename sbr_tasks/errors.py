"""The errors that people may see. Each message says what was expected, what was found, where, and what to do next."""

from __future__ import annotations

from typing import ClassVar

from sbr_tasks.plain_text import in_one_line

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


class SbrError(Exception):
    """Base of all errors that this package raises on purpose; the text is one line for people, without secrets."""

    is_transient: ClassVar[bool] = False
    """Whether a retry may succeed without anyone fixing something first."""

    def __init__(self, text: str) -> None:
        super().__init__(in_one_line(text))


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the internals that some libraries append."""
    return str(error).strip().split("\n", 1)[0]


def system_error(error: OSError) -> str:
    """The path and the reason of an `OSError`, without its number."""
    if error.strerror is None:
        return first_line(error)
    why = error.strerror[0].lower() + error.strerror[1:]
    place = error.filename2 or error.filename  # of a copy, the second one is the target
    return f"{place}: {why}" if place else why


class SettingsError(SbrError):
    """A setting is unknown, or its value is out of bounds."""


class ReasonError(SbrError):
    """A person does something that needs a reason, and gives none."""


class SourceError(SbrError):
    """Clicks can't be read: a file is missing or empty, or its lines don't parse."""


class NotArrivedError(SourceError):
    """Clicks that a run needs aren't in the source yet."""


class DayError(SbrError):
    """A run's day is missing, malformed, empty or in quarantine."""


class StoreError(SbrError):
    """The store can't be read or written, or its content doesn't match its records."""

    is_transient = True


class FormatError(StoreError):
    """Another release wrote the store, and its records are of another form."""

    is_transient = False


class AlreadyExistsError(StoreError):
    """The key exists: another writer created it first."""


class DamagedError(StoreError):
    """A file is missing or damaged: its content doesn't match its record."""

    is_transient = False


class TrackingError(SbrError):
    """MLflow can't be reached or rejects a request. It only mirrors the store, so nothing is lost."""

    is_transient = True


class SparkError(SbrError):
    """Spark can't be reached, or failed. Nothing was stored."""

    is_transient = True


class WindowError(SbrError):
    """A window can't be built: days are missing, cleansing left nothing to train or test on, or Spark isn't installed."""


class TrainingError(SbrError):
    """Training can't continue, for example because the loss is no longer finite."""


class EvaluationError(SbrError):
    """Models can't be compared on the given sessions: nothing remains to train or test on."""


class StepError(SbrError):
    """A step of a run needs the result of an earlier step that has none, because somebody marked it as done."""


class RegistryError(SbrError):
    """A model version is unknown, its files are damaged, or no decision about it is possible."""
