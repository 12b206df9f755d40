"""The course's one look: colours by meaning, three sizes, and the picture that has alt text."""

import base64
import html
import io
from typing import Any

import matplotlib as mpl
import matplotlib.font_manager
import matplotlib.textpath
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from llmlab.errors import LabError

# Colours by meaning, the same in every notebook. Each has a contrast of at least 4.5 : 1 on
# white, and the set survives the common forms of colour blindness (after Okabe and Ito, 2008).
COLOURS = {
    "query": "#0072B2",
    "key": "#B84E00",
    "value": "#007A5A",
    "masked": "#767676",
    "attention": "#6B3FA0",
    "probability": "#3B5BA5",
    "correct": "#1B7837",
    "wrong": "#B2182B",
    "text": "#1F2328",
    "paper": "#FFFFFF",
}
# Order for curves and groups that have no meaning of their own.
CYCLE = ["#0072B2", "#B84E00", "#007A5A", "#6B3FA0", "#B2182B", "#767676"]
# Sequential map of all heatmaps: light paper to dark, readable in print.
SEQUENTIAL = "Blues"

SIZES = {"small": (4.5, 2.6), "wide": (8.0, 3.0), "large": (8.0, 5.0)}  # inches

STYLE: dict[Any, Any] = {
    "figure.facecolor": COLOURS["paper"],
    "figure.dpi": 96,
    "savefig.facecolor": COLOURS["paper"],
    "axes.facecolor": COLOURS["paper"],
    "axes.edgecolor": "#57606A",
    "axes.labelcolor": COLOURS["text"],
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters everywhere
    "font.size": 10.5,
    "text.color": COLOURS["text"],
    "xtick.color": COLOURS["text"],
    "ytick.color": COLOURS["text"],
    "legend.frameon": False,
}


def use_style() -> None:
    """Apply the course's style to every figure drawn from now on."""
    mpl.rcParams.update(STYLE)


class Picture(Figure):
    """A matplotlib Figure that shows itself as an image with alt text.

    It is not known to pyplot, so Jupyter shows it once and only where it is asked for.
    """

    alt: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """PNG, the same PNG as `<img alt=…>`, and the alt text as text/plain."""
        drawn, small = io.BytesIO(), io.BytesIO()
        # As wide as it was made, and as high as what is drawn: no empty bands above and below.
        self.draw_without_rendering()
        inked = self.get_tightbbox()
        band = Bbox.from_extents(0, inked.y0 - 0.08, self.get_figwidth(), inked.y1 + 0.08)
        self.savefig(drawn, format="png", bbox_inches=band)
        # 256 colours instead of millions: nobody sees the difference, and the notebook, which
        # holds each picture twice, stays about a third as large.
        colours = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(small, "png", optimize=True)
        png = base64.b64encode(small.getvalue()).decode()
        alt = html.escape(self.alt, quote=True)
        # A margin of paper around it: in a dark theme the ink must not touch the edge.
        look = "max-width:100%;background:#FFFFFF;padding:4px 8px;border-radius:6px"
        image = f'<img alt="{alt}" style="{look}" src="data:image/png;base64,{png}">'
        return {"image/png": png, "text/html": image, "text/plain": self.alt}


def picture(size: str = "wide", *, alt: str, **subplots: Any) -> tuple[Picture, Any]:
    """An empty picture in one of the three sizes, and its axes, to draw on.

    Args:
        size: "small", "wide" or "large".
        alt: what the picture says, in words and numbers; also its text/plain.
        **subplots: as for `Figure.subplots` (`nrows`, `ncols`, `sharey`, …).

    Returns:
        The picture and what `Figure.subplots` returns: one Axes, or an array of them.
    """
    if not (alt or "").strip():
        raise LabError("Every picture has alt text: say in it what the picture says.")
    if size not in SIZES:
        raise LabError(f"No size {size!r}. There are: {', '.join(SIZES)}.")
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=SIZES[size], layout="constrained")
        FigureCanvasAgg(figure)
        figure.alt = alt
        return figure, figure.subplots(**subplots)


def text_width(text: str, size: float = 10.5) -> float:
    """Width of one line of text in inches, in the course's font."""
    font = mpl.font_manager.FontProperties(family="DejaVu Sans")
    # A bar at each end: spaces count then too.
    drawn = [mpl.textpath.TextPath((0, 0), t, size=size, prop=font) for t in (f"|{text}|", "||")]
    return float(drawn[0].get_extents().width - drawn[1].get_extents().width) / 72


def in_words(number: float) -> str:
    """A large number as people say it: 135 million, 1.5 billion."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,.0f}"


def in_digits(number: float, digits: int = 3) -> str:
    """A number with so many digits after the point; one too small for them is not called zero.

    >>> in_digits(0.25), in_digits(0.0002), in_digits(0)
    ('0.250', '<0.001', '0.000')
    """
    if 0 < number < 0.5 * 10**-digits:
        return f"<{10**-digits:.{digits}f}"
    return f"{number:.{digits}f}"


def ink_on(background: Any) -> str:
    """Black or white, whichever stands out more on this colour: at least 4.5 : 1 on any."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], channels))  # WCAG 2.1
    return "#FFFFFF" if luminance < 0.179 else "#000000"  # where both have the same contrast


def plain(label: str) -> str:
    """A label as it stands: matplotlib reads $…$ as mathematics otherwise."""
    return str(label).replace("$", r"\$")
