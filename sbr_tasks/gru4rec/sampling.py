"""Negative samples, shared by all lanes of a batch.

Hidasi et al. 2016, section 3.1.2, and the additional samples of Hidasi & Karatzoglou 2018.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WORDS_PER_BLOCK = 4  # a Philox counter value gives four 64-bit words


class NegativeSampler:
    """Draws items with probability proportional to support ** alpha; the draws depend on (seed, epoch, step) alone.

    Attributes:
        log_p: Shape `(n_items,)`, float64; log of the probability that a draw yields the item.
    """

    def __init__(self, support: npt.NDArray[np.int64], alpha: float, *, seed: int) -> None:
        """
        Args:
            support: Shape `(n_items,)`, clicks of each item in training, all positive.
            alpha: 0 draws uniformly, 1 by popularity.
            seed: Non-negative, below 2**63.
        """
        weight = support.astype(np.float64) ** alpha
        p = weight / weight.sum()
        self.log_p = np.log(p)
        self._seed = seed
        self._keep, self._alias = _alias_table(p)

    def draw(self, n_sample: int, *, epoch: int, first_step: int, n_steps: int) -> npt.NDArray[np.int32]:
        """The negatives of the steps `[first_step, first_step + n_steps)`; those of a step don't depend on the other steps.

        Returns:
            Shape `(n_steps, n_sample)`, int32.
        """
        blocks = -(-n_sample // _WORDS_PER_BLOCK)
        stream = np.random.Philox(key=(epoch << 64) | self._seed, counter=first_step * blocks)
        words = stream.random_raw(n_steps * blocks * _WORDS_PER_BLOCK).reshape(n_steps, -1)[:, :n_sample]
        # The upper half of a word picks a cell of the alias table, the lower half decides between the cell's two items.
        cell = ((words >> np.uint64(32)) * np.uint64(len(self._keep)) >> np.uint64(32)).astype(np.int32)
        kept = (words & np.uint64(0xFFFFFFFF)) < self._keep[cell]
        return np.where(kept, cell, self._alias[cell])


def _alias_table(p: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Walker's alias table, for draws in constant time: cell i gives i with probability `keep[i] / 2**32`, else `alias[i]`."""
    share = p * len(p)
    alias = np.arange(len(p), dtype=np.int32)
    poor = np.flatnonzero(share < 1).tolist()
    rich = np.flatnonzero(share >= 1).tolist()
    remaining = share.tolist()
    while poor and rich:
        low, high = poor.pop(), rich[-1]
        share[low], alias[low] = remaining[low], high
        remaining[high] -= 1 - remaining[low]
        if remaining[high] < 1:
            poor.append(rich.pop())
    share[poor + rich] = 1.0  # these differ from 1 by rounding only
    return np.round(share * 2.0**32).astype(np.uint64), alias
