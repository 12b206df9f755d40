"""All matplotlib of the course: one style, three sizes, colours fixed by meaning.

Every function returns a `Picture`: a matplotlib Figure that shows itself with alt text. The alt
text is also the picture's text/plain, so that it reads where pictures do not show and nbval can
compare it. Say in it what the picture says, with its numbers.
"""

from llmlab.plots.attention import head, heads
from llmlab.plots.charts import bars, curves, grouped_bars, heatmap, token_bars, words
from llmlab.plots.drawings import (
    arrow,
    aspirin,
    black_boxes,
    box,
    by_depth,
    course_map,
    decoder,
    drawing,
    heads_beside,
    looks,
    next_token,
    sequences,
    timeline,
    uses,
)
from llmlab.plots.encoder_decoder import alignment, architectures, three_attentions, two_towers
from llmlab.plots.evaluation import LiveCurve, calibration, confusion, learning_curve, live_curve
from llmlab.plots.generation import beam_tree
from llmlab.plots.quantization import levels
from llmlab.plots.style import COLOURS, CYCLE, SIZES, STYLE, Picture, picture, use_style

__all__ = [
    "COLOURS",
    "CYCLE",
    "SIZES",
    "STYLE",
    "LiveCurve",
    "Picture",
    "alignment",
    "architectures",
    "arrow",
    "aspirin",
    "bars",
    "beam_tree",
    "black_boxes",
    "box",
    "by_depth",
    "calibration",
    "confusion",
    "course_map",
    "curves",
    "decoder",
    "drawing",
    "grouped_bars",
    "head",
    "heads",
    "heads_beside",
    "heatmap",
    "learning_curve",
    "levels",
    "live_curve",
    "looks",
    "next_token",
    "picture",
    "sequences",
    "three_attentions",
    "timeline",
    "token_bars",
    "two_towers",
    "use_style",
    "uses",
    "words",
]
