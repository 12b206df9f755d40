"""The picture of levels: a tick for each level, on the same axis as the numbers."""

import pytest
import torch

from llmlab import plots
from llmlab.errors import LabError


def test_each_level_is_a_tick_below_the_histogram():
    figure = plots.levels(
        torch.linspace(-1, 1, 50), {"few": [-1, 0, 1], "more": torch.arange(5.0)}, alt="Levels"
    )
    above, below = figure.axes
    ticks = [[path.vertices[0][0] for path in lines.get_paths()] for lines in below.collections]
    assert ticks == [[-1, 0, 1], [0, 1, 2, 3, 4]]
    assert [label.get_text() for label in below.get_yticklabels()] == ["few", "more"]
    assert sum(bar.get_height() for bar in above.patches) == 50
    assert above.get_xlim() == below.get_xlim()


def test_without_words_it_refuses():
    with pytest.raises(LabError, match="alt text"):
        plots.levels([0.1], {"few": [0]}, alt="")
