"""Values that only a corpus has, as the mean of a share an item.

BLEU, a Fréchet distance or a perplexity is no mean of items' values, but everything that compares systems (paired
intervals, ranks, coverage, failures) works on items. So each item gets a *share*: the corpus's value, and what the item
adds to it. With ``θ`` the value of all ``n`` items, and ``θ₋ᵢ`` that without item ``i``::

    shareᵢ = θ + (n − 1) · (mean of all θ₋ⱼ − θ₋ᵢ)

The mean of the shares is exactly ``θ``. How they vary is the jackknife's estimate of how ``θ`` varies with the items
(Efron and Stein, Annals of Statistics 9(3), 1981), so a bootstrap over shares gives ``θ`` its interval, as long as it
is a smooth function of the items. A share is no score of its item: it may lie beyond the range of the metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from codecbench.metrics.base import Failed


def jackknife(whole: float, without: ArrayLike) -> list[float]:
    """The share of each item.

    Args:
        whole: The value of all items.
        without: The values ``[N]`` of all items but one.
    """
    left_out = np.asarray(without, np.float64)
    return [float(share) for share in whole + (len(left_out) - 1) * (left_out.mean() - left_out)]


def require_items(items: Sequence[object], least: int = 2) -> None:
    """Raise `Failed` if there are fewer than `least` items to compute a value from."""
    if len(items) < least:
        raise Failed(f"too_few_items({len(items)} of at least {least})")
