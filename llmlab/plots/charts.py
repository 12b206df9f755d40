"""Numbers as pictures: bars, heatmaps, curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmlab.errors import LabError
from llmlab.plots.style import (
    COLOURS,
    CYCLE,
    SEQUENTIAL,
    Picture,
    ink_on,
    picture,
    plain,
    text_width,
)


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
    axes.set_yticks(positions, labels=[plain(label) for label in labels])
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
        raise LabError(f"A heatmap needs (row, column); this has shape {numbers.shape}.")
    figure, axes = picture("large" if numbers.shape[0] > 6 else "wide", alt=alt)
    low, high = limits or (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    image = axes.imshow(numbers, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
    if digits is not None:
        for (row, column), number in np.ndenumerate(numbers):
            ink = ink_on(image.to_rgba(number))
            axes.text(column, row, f"{number:.{digits}f}", ha="center", va="center", color=ink)
    if rows is not None:
        axes.set_yticks(range(len(rows)), labels=[plain(r) for r in rows])
    if columns is not None:
        labels = [plain(c) for c in columns]
        room = 6.0 / len(labels)  # inches a column, roughly: longer labels are turned
        turned = {"rotation": 45, "ha": "right"} if max(map(text_width, labels)) > room else {}
        axes.set_xticks(range(len(columns)), labels=labels, **turned)
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
    names = []
    for (name, values), colour in zip(lines.items(), CYCLE * len(lines), strict=False):
        axes.plot(x, values, color=colour, linewidth=2, marker="o", markersize=4)
        end = (x[-1], float(values[-1]))
        style = {"textcoords": "offset points", "va": "center", "color": colour}
        names.append(axes.annotate(plain(name), end, xytext=(6, 0), **style))
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    # Curves that end close together: their names move up, each just above the one below.
    figure.draw_without_rendering()
    points, lowest = 72 / figure.dpi, -float("inf")
    for name in sorted(names, key=lambda name: name.xy[1]):
        y = axes.transData.transform(name.xy)[1] * points
        lowest = max(y, lowest + 1.25 * name.get_fontsize())
        name.set_position((6, lowest - y))
    return figure


def token_bars(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    alt: str = "",
    title: str = "",
    ylabel: str = "",
    highlight: Sequence[int] = (),
    digits: int = 3,
) -> Picture:
    """A bar above each token of a text, in reading order, with its number.

    Args:
        tokens: the text, one string a token.
        values: one a token, such as its probability given those before.
        alt: see `picture`; by default the title and each token with its number.
        title: the message of the picture.
        ylabel: what the numbers are, with their unit.
        highlight: positions of bars and tokens to draw in the colour "wrong".
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.
    """
    values = [float(v) for v in values]
    pairs = zip(tokens, values, strict=True)
    listed = ", ".join(f"{token.strip()} {v:.{digits}f}" for token, v in pairs)
    alt = alt or f"{title} {listed}".strip()
    if highlight:
        alt += ". Marked: " + ", ".join(tokens[i].strip() for i in highlight)
    figure, axes = picture("wide", alt=alt)
    marked = set(highlight)
    colours = [COLOURS["wrong" if i in marked else "probability"] for i in range(len(values))]
    drawn = axes.bar(range(len(values)), values, color=colours, width=0.7)
    size = 9.5 if len(values) <= 14 else 7.5
    axes.bar_label(drawn, labels=[f"{v:.{digits}f}" for v in values], padding=2, fontsize=size)
    crowded = sum(text_width(token) + 0.12 for token in tokens) > 7.2
    rotation = {"rotation": 45, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(tokens)), labels=[plain(t) for t in tokens], **rotation)
    for i in marked:
        axes.get_xticklabels()[i].set(color=COLOURS["wrong"], fontweight="bold")
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.02, y=0.15)
    axes.set(title=title, ylabel=ylabel)
    return figure


def words(
    rows: Sequence[Sequence[str]],
    values: Any,
    *,
    row_names: Sequence[str],
    columns: Sequence[str],
    alt: str,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Picture:
    """A table of words, each cell as dark as its number, the first row at the bottom.

    Args:
        rows: the words, row by row.
        values: a number between 0 and 1 for each word, shape (row, column).
        row_names: one a row.
        columns: one a column.
        alt: see `picture`.
        title: the message of the picture.
        xlabel: what the columns are.
        ylabel: what the rows are.

    Returns:
        The picture.
    """
    numbers = np.asarray(values, dtype=float)
    figure, axes = picture("large", alt=alt)
    image = axes.imshow(numbers, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto", origin="lower")
    for (row, column), number in np.ndenumerate(numbers):
        ink = ink_on(image.to_rgba(number))
        word = plain(rows[row][column])
        axes.text(column, row, word, ha="center", va="center", color=ink, fontsize=9.5)
    axes.set_yticks(range(len(row_names)), labels=[plain(r) for r in row_names])
    axes.set_xticks(range(len(columns)), labels=[plain(c) for c in columns])
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
