"""About how long a day's run will take on this machine."""

from __future__ import annotations

import time

import numpy as np

from sbr_tasks.settings import Settings

_STARTUP_S = 60.0
"""What the tasks of one run take beside training, mostly imports (measured on 2 cores)."""

_SHARE_OF_PEAK = 0.3
"""Floating-point rate of training as a share of that of a large matrix product (measured on 2 cores)."""


def seconds_per_day(window_clicks: int, settings: Settings) -> float:
    """A rough estimate, from the size of the window, the model and the speed of a matrix product on this machine.

    The cost of one event is that of scoring the drawn items forwards and backwards (three products of `layers[-1]` by
    `n_sample`) and of the GRU layers (three products of 3 x units x (input + units)).
    """
    model = settings.model
    inputs = [model.layers[0], *model.layers[:-1]]
    gru = sum(3 * units * (units + width) for units, width in zip(model.layers, inputs, strict=True))
    flops = 2 * 3 * ((model.n_sample or 20_000) * model.layers[-1] + gru)
    return _STARTUP_S + window_clicks * model.n_epochs * flops / (_SHARE_OF_PEAK * _peak_flops())


def _peak_flops() -> float:
    """Floating-point operations a second of a single-precision matrix product, best of three."""
    n = 1024
    a = np.ones((n, n), np.float32)
    best = min(_timed(a) for _ in range(3))
    return float(2 * n**3 / best)


def _timed(a: np.ndarray) -> float:
    started = time.perf_counter()
    a @ a
    return time.perf_counter() - started
