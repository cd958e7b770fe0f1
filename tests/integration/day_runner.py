"""Does days of a shop in one process: most of the time that a day takes is the import of TensorFlow.

    python day_runner.py retrain:DAY train:DAY ...

A file and not `python -c`: there PySpark, which Great Expectations imports, takes itself to be under its own tests and exits.
"""

import sys

from sbr_tasks import steps

for word in sys.argv[1:]:
    step, day = word.split(":")
    if step == "retrain":
        steps.retrain(day)
    else:
        steps.ingest_clicks(day), steps.validate_clicks(day)
        steps.train_gru4rec(day, steps.build_window(day)["window"])
