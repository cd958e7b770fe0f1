"""TensorFlow without its start-up messages. Import this module only where TensorFlow is needed: it takes seconds."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_start() -> Iterator[None]:
    """Hides what C++ code writes to standard error, which no Python logger can filter; shows it if an error is raised."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            with os.fdopen(os.dup(shown), "wb") as stderr:
                shutil.copyfileobj(written, stderr)
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _name, _level in (("absl", logging.ERROR), ("tensorflow", logging.WARNING)):
    logging.getLogger(_name).setLevel(_level)
with silent_start():
    import tensorflow as tf

__all__ = ["tf"]
