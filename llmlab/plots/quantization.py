"""Quantization as a picture: the few levels that are left, below the numbers they stand for."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmlab.plots.charts import one_each
from llmlab.plots.style import COLOURS, CYCLE, Picture, picture, plain


def levels(
    values: Any, kinds: Mapping[str, Any], *, alt: str, title: str = "", xlabel: str = ""
) -> Picture:
    """A histogram of numbers, and below it a row of ticks for each kind of levels.

    Args:
        values: the numbers, such as weights divided by their block's largest; one axis.
        kinds: name -> its levels.
        alt: see `picture`.
        title: the message of the picture.
        xlabel: what the numbers are.

    Returns:
        The picture.

    >>> levels([0.1, 0.2], {"even": [-1, 0, 1]}, alt="Three levels").alt
    'Three levels'
    """
    numbers = np.asarray(values, dtype=float).ravel()
    figure, (above, below) = picture(
        "wide", alt=alt, nrows=2, sharex=True, height_ratios=[2.2, len(kinds)]
    )
    above.hist(numbers, bins=100, color=COLOURS["probability"])
    above.set(title=title, yticks=[])
    above.spines["left"].set_visible(False)
    for row, (places, colour) in enumerate(zip(kinds.values(), CYCLE * len(kinds), strict=False)):
        ticks = one_each(list(places), places)
        below.vlines(ticks, -row - 0.32, -row + 0.32, color=colour, linewidth=3)
    below.set_yticks([-row for row in range(len(kinds))], labels=[plain(name) for name in kinds])
    below.set(ylim=(-len(kinds) + 0.5, 0.5), xlabel=xlabel)
    below.tick_params(axis="y", length=0)
    below.spines["left"].set_visible(False)
    return figure
