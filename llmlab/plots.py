"""All matplotlib of the course: one style, three sizes, colours fixed by meaning.

Every function returns a `Picture`: a matplotlib Figure that shows itself with alt text. The alt
text is also the picture's text/plain, so that it reads where pictures do not show and nbval can
compare it. Say in it what the picture says, with its numbers.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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

STYLE = {
    "figure.facecolor": COLOURS["paper"],
    "figure.dpi": 96,
    "savefig.facecolor": COLOURS["paper"],
    "axes.facecolor": COLOURS["paper"],
    "axes.edgecolor": "#57606A",
    "axes.labelcolor": COLOURS["text"],
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
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
        buffer = io.BytesIO()
        # No "Software" entry: the bytes then do not depend on matplotlib's version string.
        self.savefig(buffer, format="png", metadata={"Software": None})
        png = base64.b64encode(buffer.getvalue()).decode()
        alt = html.escape(self.alt, quote=True)
        image = f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{png}">'
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
    if not alt.strip():
        raise ValueError("Every picture has alt text: say in it what the picture says.")
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=SIZES[size], layout="constrained")
        FigureCanvasAgg(figure)
        figure.alt = alt
        return figure, figure.subplots(**subplots)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    alt: str,
    title: str = "",
    xlabel: str = "",
    colour: str = "probability",
    highlight: Sequence[int] = (),
    digits: int = 3,
) -> Picture:
    """Horizontal bars, the first on top, each with its number.

    Args:
        labels: one a bar.
        values: one a bar.
        alt: see `picture`.
        title: the message of the picture.
        xlabel: what the numbers are, with their unit.
        colour: a meaning from `COLOURS`.
        highlight: positions of bars to draw in the colour "key" instead.
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.
    """
    values = [float(v) for v in values]
    figure, axes = picture("wide" if len(labels) <= 10 else "large", alt=alt)
    colours = [COLOURS["key" if i in highlight else colour] for i in range(len(values))]
    positions = np.arange(len(values))
    drawn = axes.barh(positions, values, color=colours)
    axes.bar_label(drawn, labels=[f"{v:.{digits}f}" for v in values], padding=4)
    axes.set_yticks(positions, labels=[_plain(label) for label in labels])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel)
    axes.tick_params(axis="y", length=0)
    return figure


def heatmap(
    matrix: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    alt: str,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    digits: int | None = 2,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """A matrix as coloured cells with a number in each.

    Args:
        matrix: numbers of shape (row, column): tensor, array or nested lists.
        rows: a label a row.
        columns: a label a column.
        alt: see `picture`.
        title: the message of the picture.
        xlabel: what the columns are.
        ylabel: what the rows are.
        digits: digits of the number in each cell; None leaves the numbers out.
        limits: values of the lightest and the darkest cell; by default those of the matrix.

    Returns:
        The picture.
    """
    numbers = np.asarray(matrix, dtype=float)
    if numbers.ndim != 2:
        raise ValueError(f"A heatmap needs (row, column); this has shape {numbers.shape}.")
    figure, axes = picture("large" if numbers.shape[0] > 6 else "wide", alt=alt)
    low, high = limits or (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    axes.imshow(numbers, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
    if digits is not None:
        for (row, column), number in np.ndenumerate(numbers):
            dark = number > low + 0.6 * (high - low)
            ink = COLOURS["paper" if dark else "text"]
            axes.text(column, row, f"{number:.{digits}f}", ha="center", va="center", color=ink)
    if rows is not None:
        axes.set_yticks(range(len(rows)), labels=[_plain(r) for r in rows])
    if columns is not None:
        labels = [_plain(c) for c in columns]
        axes.set_xticks(range(len(columns)), labels=labels, rotation=45, ha="right")
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def curves(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    alt: str,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Picture:
    """Curves over one x axis, each named at its right end.

    Args:
        x: the common positions.
        lines: name of a curve -> its values.
        alt: see `picture`.
        title: the message of the picture.
        xlabel: what x is, with its unit.
        ylabel: what the values are, with their unit.

    Returns:
        The picture.
    """
    figure, axes = picture("wide", alt=alt)
    for (name, values), colour in zip(lines.items(), CYCLE * len(lines), strict=False):
        axes.plot(x, values, color=colour, linewidth=2, marker="o", markersize=4)
        end = (x[-1], float(values[-1]))
        axes.annotate(
            name, end, xytext=(6, 0), textcoords="offset points", va="center", color=colour
        )
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


def box(
    axes: Axes,
    xy: tuple[float, float],
    text: str,
    *,
    width: float,
    height: float = 0.6,
    colour: str = "probability",
    filled: bool = False,
    size: float = 10.5,
) -> None:
    """A rounded box with text, its centre at `xy`: the building block of our flow drawings."""
    ink = COLOURS.get(colour, colour)
    axes.add_patch(
        mpl.patches.FancyBboxPatch(
            (xy[0] - width / 2, xy[1] - height / 2),
            width,
            height,
            boxstyle="round,pad=0.02,rounding_size=0.08",
            edgecolor=ink,
            facecolor=ink if filled else COLOURS["paper"],
            linewidth=1.6,
        )
    )
    label = COLOURS["paper"] if filled else COLOURS["text"]
    axes.text(*xy, _plain(text), ha="center", va="center", color=label, fontsize=size)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    label: str = "",
    colour: str = "text",
) -> None:
    """An arrow between two points of a flow drawing, with a label above its middle."""
    ink = COLOURS.get(colour, colour)
    style = {"arrowstyle": "-|>", "color": ink, "linewidth": 1.4, "shrinkA": 2, "shrinkB": 2}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    if label:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        axes.annotate(
            _plain(label), middle, xytext=(0, 4), textcoords="offset points",
            ha="center", va="bottom", fontsize=9.5, color=ink,
        )  # fmt: skip


def drawing(size: str = "wide", *, alt: str) -> tuple[Picture, Axes]:
    """A picture with bare axes, one unit as long in x as in y, for boxes and arrows."""
    figure, axes = picture(size, alt=alt)
    axes.axis("off")
    axes.set_aspect("equal")
    return figure, axes


def _plain(label: str) -> str:
    """A label as it stands: matplotlib reads $…$ as mathematics otherwise."""
    return str(label).replace("$", r"\$")
