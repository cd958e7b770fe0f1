"""Training batches as arrays, prepared a few hundred steps at a time.

The score columns of a step are the *distinct* items among its targets and negatives. An item that was drawn three times gets
one column that counts three times in the softmax: the loss and the summed gradient are the same, with fewer columns, and every
row of the item table is written once per step, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sbr_tasks.gru4rec.sampling import NegativeSampler
from sbr_tasks.gru4rec.schedule import Schedule
from sbr_tasks.settings import ModelSettings

_CELLS_PER_CHUNK = 2**19
_MAX_STEPS_PER_CHUNK = 256
_COLUMNS_ROUNDED_TO = 32


class Chunk(NamedTuple):
    """Steps `[first_step, first_step + n)` of an epoch; `B` lanes, `C` score columns.

    A step's *block* is the rows of the item tables that it reads and writes: its `C` columns, then up to `B` input items. With
    one shared table these are the inputs that aren't columns; with a separate input table, all distinct inputs. Unused places
    hold the spare row `n_items`, which belongs to no item and gets no gradient.

    Attributes:
        rows: Shape `(n, C + B)`, int32; item of each row of the block.
        offsets: Shape `(n, C)`, float32; log of how often the column's item occurs in the batch, each occurrence weighted by
            the logQ correction of cross-entropy; -inf for unused columns.
        inputs: Shape `(n, B)`, int32; row of each lane's input item in the block.
        targets: Shape `(n, B)`, int32; column of each lane's target item; -1 in lanes that have run out.
        target_offsets: Shape `(n, B)`, float32; added to the target's score, on top of its column's offset.
        starts_session: Shape `(n, B)`, bool; the lane's hidden state is zeroed before the step.
        first_step: Number of the first step within the epoch.
    """

    rows: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.float32]
    inputs: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    target_offsets: npt.NDArray[np.float32]
    starts_session: npt.NDArray[np.bool_]
    first_step: int


class _Step(NamedTuple):
    """One step before it is padded: its block without spare rows, and places in it."""

    items: npt.NDArray[np.int32]
    n_columns: int
    offsets: npt.NDArray[np.float64]
    inputs: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    target_offsets: npt.NDArray[np.float64]


class Batches:
    """Prepares the chunks of each epoch.

    Attributes:
        schedule: Which click is trained when.
        n_columns: Score columns of a step; grows when a step needs more.
    """

    def __init__(
        self,
        schedule: Schedule,
        items: npt.NDArray[np.int32],
        support: npt.NDArray[np.int64],
        model: ModelSettings,
        *,
        seed: int,
    ) -> None:
        """
        Args:
            schedule: Which click is trained when; not empty.
            items: Shape `(n_clicks,)`, item of each click.
            support: Shape `(n_items,)`, clicks of each item in training, all positive.
            model: Of these, `loss`, `n_sample`, `sample_alpha`, `logq` and `constrained_embedding` are used.
            seed: Negatives are drawn from (seed, epoch, step).
        """
        self.schedule = schedule
        self._items = items
        self._model = model
        self._n_items = len(support)
        self._support = support
        self._sampler = NegativeSampler(support, model.sample_alpha, seed=seed)
        # exp(-logq log P) is the weight of one occurrence in the softmax, as a target or as a sampled negative. P is not
        # normalised: divided by its own sum each, targets would weigh more than samples, which lowers MRR.
        logq = model.logq if model.loss == "cross-entropy" else 0.0
        self._target_log_weight = -logq * np.log(support)
        self._target_weight = np.exp(self._target_log_weight)
        self._sample_weight = np.exp(model.sample_alpha * self._target_log_weight)
        self._place = np.zeros(self._n_items, np.int32)
        self.n_columns = self._expected_columns()

    def epoch(self, epoch: int) -> Iterator[Chunk]:
        """The chunks of epoch `epoch` (1-based), in order."""
        width = self.n_columns + self.schedule.n_lanes
        n = min(_MAX_STEPS_PER_CHUNK, max(1, _CELLS_PER_CHUNK // width))
        for first in range(0, self.schedule.n_steps, n):
            yield self._chunk(epoch, first, min(first + n, self.schedule.n_steps))

    def _expected_columns(self) -> int:
        """A number of columns that is enough for practically every step, so that the loop is compiled once."""
        if not self._model.n_sample:
            return self._n_items
        # An item is a target about as often as its share of all clicks, and absent if it is neither drawn nor a target. The
        # number of present items varies less than if items were independent, as the numbers of draws and lanes are fixed.
        p_sample, p_target = np.exp(self._sampler.log_p), self._support / self._support.sum()
        n_sample, n_lanes = self._model.n_sample, self.schedule.n_lanes
        absent = np.exp(-n_sample * p_sample - n_lanes * p_target)
        variance = (absent * (1 - absent)).sum()
        variance -= n_sample * (p_sample * absent).sum() ** 2 + n_lanes * (p_target * absent).sum() ** 2
        expected = (1 - absent).sum() + 4 * np.sqrt(max(variance, 0.0))
        return min(self._n_items, n_sample + n_lanes, _round_up(int(expected)))

    def _chunk(self, epoch: int, first: int, last: int) -> Chunk:
        n_steps, n_lanes = last - first, self.schedule.n_lanes
        samples = self._sampler.draw(self._model.n_sample, epoch=epoch, first_step=first, n_steps=n_steps)
        ends = self.schedule.step_offsets[first : last + 1]
        clicks = [self.schedule.clicks[start:end] for start, end in pairwise(ends)]
        steps = [self._step(self._items[c], self._items[c + 1], samples[t]) for t, c in enumerate(clicks)]
        # Wider than expected: later steps keep the new width, so it costs one more compilation only.
        max_columns = max(step.n_columns for step in steps)
        if max_columns > self.n_columns:
            self.n_columns = min(self._n_items, _round_up(max_columns))
        n_columns, n_rows = self.n_columns, self.n_columns + n_lanes
        chunk = Chunk(
            rows=np.full((n_steps, n_rows), self._n_items, np.int32),
            offsets=np.full((n_steps, n_columns), -np.inf, np.float32),
            inputs=np.full((n_steps, n_lanes), n_rows - 1, np.int32),
            targets=np.full((n_steps, n_lanes), -1, np.int32),
            target_offsets=np.zeros((n_steps, n_lanes), np.float32),
            starts_session=np.zeros((n_steps, n_lanes), bool),
            first_step=first,
        )
        for t, step in enumerate(steps):
            n, extra = len(step.inputs), step.items[step.n_columns :]
            chunk.rows[t, : step.n_columns] = step.items[: step.n_columns]
            chunk.rows[t, n_columns : n_columns + len(extra)] = extra
            chunk.offsets[t, : step.n_columns] = step.offsets
            chunk.inputs[t, :n] = np.where(step.inputs < step.n_columns, 0, n_columns - step.n_columns) + step.inputs
            chunk.targets[t, :n] = step.targets
            chunk.target_offsets[t, :n] = step.target_offsets
            chunk.starts_session[t, :n] = self.schedule.starts_session[ends[t] : ends[t + 1]]
        return chunk

    def _step(self, inputs: npt.NDArray[np.int32], targets: npt.NDArray[np.int32], samples: npt.NDArray[np.int32]) -> _Step:
        sampled = len(samples) > 0
        scored = np.concatenate([targets, samples]) if sampled else np.arange(self._n_items, dtype=np.int32)
        if self._model.constrained_embedding:
            items, places = self._distinct(np.concatenate([scored, inputs]))
            columns, rows = places[: len(scored)], places[len(scored) :]
            n_columns = int(columns.max()) + 1
        else:
            items, columns = self._distinct(scored)
            input_items, rows = self._distinct(inputs)
            n_columns = len(items)
            items, rows = np.concatenate([items, input_items]), rows + n_columns
        if not sampled:
            return _Step(items, n_columns, np.zeros(n_columns), rows, targets, np.zeros(len(targets)))
        weights = np.concatenate([self._target_weight[targets], self._sample_weight[samples]])
        offsets = np.log(np.bincount(columns, weights=weights))
        columns = columns[: len(targets)]
        return _Step(items, n_columns, offsets, rows, columns, self._target_log_weight[targets] - offsets[columns])

    def _distinct(self, items: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The distinct items in order of first appearance, and the position of each given item among them.

        This runs once per step, so it avoids the sort of `np.unique`.
        """
        position = np.arange(len(items), dtype=np.int32)
        self._place[items[::-1]] = position[::-1]  # the last write wins: each item's first position
        distinct = items[self._place[items] == position]
        self._place[distinct] = position[: len(distinct)]
        return distinct, self._place[items]


def _round_up(n: int) -> int:
    return -(-n // _COLUMNS_ROUNDED_TO) * _COLUMNS_ROUNDED_TO
