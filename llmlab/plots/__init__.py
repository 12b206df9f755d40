"""All matplotlib of the course: one style, three sizes, colours fixed by meaning.

Every function returns a `Picture`: a matplotlib Figure that shows itself with alt text. The alt
text is also the picture's text/plain, so that it reads where pictures do not show and nbval can
compare it. Say in it what the picture says, with its numbers.
"""

from llmlab.plots.charts import bars, curves, grouped_bars, heatmap, token_bars, words
from llmlab.plots.drawings import (
    arrow,
    aspirin,
    black_boxes,
    box,
    course_map,
    decoder,
    drawing,
    next_token,
    sequences,
    timeline,
    uses,
)
from llmlab.plots.style import COLOURS, CYCLE, SIZES, STYLE, Picture, picture, use_style

__all__ = [
    "COLOURS",
    "CYCLE",
    "SIZES",
    "STYLE",
    "Picture",
    "arrow",
    "aspirin",
    "bars",
    "black_boxes",
    "box",
    "course_map",
    "curves",
    "decoder",
    "drawing",
    "grouped_bars",
    "heatmap",
    "next_token",
    "picture",
    "sequences",
    "timeline",
    "token_bars",
    "use_style",
    "uses",
    "words",
]
