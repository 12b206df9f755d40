"""Numbers as pictures: bars, heatmaps, curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from llmlab.errors import LabError
from llmlab.plots.style import (
    COLOURS,
    CYCLE,
    SEQUENTIAL,
    Picture,
    in_digits,
    ink_on,
    picture,
    plain,
    text_width,
)


def one_each(labels: Sequence[Any], values: Any) -> list[float]:
    """The values as numbers, one a label: a list, an array, a tensor of one axis."""
    try:
        numbers = [float(v) for v in (values.tolist() if hasattr(values, "tolist") else values)]
    except (TypeError, ValueError):
        raise LabError(
            f"A picture of {len(labels)} values needs a list of numbers, one for each; "
            "of a batch take one row, such as values[0]."
        ) from None
    if len(numbers) != len(labels):
        raise LabError(f"{len(labels)} places but {len(numbers)} values: give one for each.")
    return numbers


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    alt: str = "",
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
        alt: see `picture`; by default the title and each label with its number.
        title: the message of the picture.
        xlabel: what the numbers are, with their unit.
        colour: a meaning from `COLOURS`.
        highlight: positions of bars to draw in the colour "key" instead.
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.

    Raises:
        LabError: the values are no numbers, or not one a label; there is no such colour.
    """
    labels = list(labels)
    values = one_each(labels, values)
    if colour not in COLOURS:
        raise LabError(
            f"No colour {colour!r}: colours go by meaning. There are {', '.join(COLOURS)}."
        )
    listed = ", ".join(f"{k} {in_digits(v, digits)}" for k, v in zip(labels, values, strict=True))
    alt = alt or (f"{title}: {listed}" if title else listed)
    figure, axes = picture("wide" if len(labels) <= 10 else "large", alt=alt)
    colours = [COLOURS["key" if i in highlight else colour] for i in range(len(values))]
    positions = np.arange(len(values))
    drawn = axes.barh(positions, values, color=colours)
    axes.bar_label(drawn, labels=[in_digits(v, digits) for v in values], padding=4)
    axes.set_yticks(positions, labels=[plain(label) for label in labels])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title=title, xlabel=xlabel)
    axes.tick_params(axis="y", length=0)
    return figure


def grouped_bars(
    groups: Mapping[str, Mapping[str, float]],
    *,
    title: str = "",
    xlabel: str = "",
    wrong: Sequence[tuple[int, int]] = (),
    legend: str = "",
    digits: int = 3,
) -> Picture:
    """Horizontal bars between 0 and 1 in groups, each group below its own heading.

    Args:
        groups: heading -> (label of a bar -> its number).
        title: the message of the picture.
        xlabel: what the numbers are.
        wrong: (group, bar) positions to draw in the colour "wrong".
        legend: what is common to these.
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.
    """
    told = [
        f"{head} {', '.join(f'{label} {in_digits(v, digits)}' for label, v in bars.items())}"
        for head, bars in groups.items()
    ]
    marked = ", ".join(list(list(groups.values())[g])[b] for g, b in wrong)
    alt = f"{title}: {'; '.join(told)}" + (f". {legend}: {marked}" if marked else "")
    figure, axes = picture("large", alt=alt)
    y, places, labels = 0.0, [], []
    for g, (head, bars) in enumerate(groups.items()):
        axes.text(0, y, plain(head), fontweight="bold", va="center")
        for b, (label, value) in enumerate(bars.items()):
            y += 1
            ink = COLOURS["wrong" if (g, b) in wrong else "probability"]
            drawn = axes.barh(y, value, color=ink, height=0.78)
            axes.bar_label(drawn, labels=[in_digits(value, digits)], padding=4)
            places.append(y)
            labels.append(plain(label))
        y += 1.4
    figure.set_figheight(0.27 * y + 0.8)
    axes.set_yticks(places, labels=labels)
    axes.tick_params(axis="y", length=0)
    axes.set(title=title, xlabel=xlabel, xlim=(0, 1.1), ylim=(y - 0.7, -0.7))
    if marked:
        patch = Rectangle((0, 0), 1, 1, color=COLOURS["wrong"])
        axes.legend([patch], [plain(legend)], loc="lower right")
    return figure


def heatmap(
    matrix: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    alt: str = "",
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    digits: int | None = 2,
    limits: tuple[float, float] | None = None,
    framed: Sequence[tuple[int, int]] = (),
) -> Picture:
    """A matrix as coloured cells with a number in each.

    Args:
        matrix: numbers of shape (row, column): tensor, array or nested lists.
        rows: a label a row.
        columns: a label a column.
        alt: see `picture`; by default the title and each cell, if rows and columns have labels.
        title: the message of the picture.
        xlabel: what the columns are.
        ylabel: what the rows are.
        digits: digits of the number in each cell; None leaves the numbers out.
        limits: values of the lightest and the darkest cell; by default those of the matrix.
        framed: (row, column) of cells to draw a frame around.

    Returns:
        The picture.

    Raises:
        LabError: the matrix is none, or rows and columns are not one label each.
    """
    if hasattr(matrix, "detach"):
        matrix = matrix.detach().cpu().double()  # NumPy takes no gradients and no bfloat16
    try:
        numbers = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError):
        raise LabError("A heatmap needs numbers, as many in each row.") from None
    if numbers.ndim != 2 or not numbers.size:
        raise LabError(f"A heatmap needs (row, column); this has shape {numbers.shape}.")
    for what, names, count in zip(("rows", "columns"), (rows, columns), numbers.shape, strict=True):
        if names is not None and len(names) != count:
            raise LabError(f"{count} {what} but {len(names)} labels for them: give one each.")
    if not alt and rows is not None and columns is not None:
        told = [
            ", ".join(f"{c} {in_digits(v, digits or 2)}" for c, v in zip(columns, row, strict=True))
            for row in numbers
        ]
        alt = "; ".join(f"{name}: {row}" for name, row in zip(rows, told, strict=True))
        alt = f"{title}: {alt}" if title else alt
    figure, axes = picture("large" if numbers.shape[0] > 6 else "wide", alt=alt)
    low, high = limits or (float(np.nanmin(numbers)), float(np.nanmax(numbers)))
    image = axes.imshow(numbers, cmap=SEQUENTIAL, vmin=low, vmax=high, aspect="auto")
    if digits is not None:
        for (row, column), number in np.ndenumerate(numbers):
            ink = ink_on(image.to_rgba(number))
            axes.text(column, row, in_digits(number, digits), ha="center", va="center", color=ink)
    for row, column in framed:
        corner = (column - 0.47, row - 0.45)
        frame = Rectangle(corner, 0.94, 0.9, fill=False, edgecolor=COLOURS["key"], linewidth=2.5)
        axes.add_patch(frame)
    if rows is not None:
        axes.set_yticks(range(len(rows)), labels=[plain(r) for r in rows])
    if columns is not None:
        labels = [plain(c) for c in columns]
        room = 6.0 / len(labels)  # inches a column, roughly: longer labels are turned
        turned = {"rotation": 45, "ha": "right"} if max(map(text_width, labels)) > room else {}
        axes.set_xticks(range(len(columns)), labels=labels, **turned)
    axes.set(title=title, xlabel=xlabel)
    axes.set_ylabel(ylabel, labelpad=10)
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

    Raises:
        LabError: the values of a curve are no numbers, or not one a position.
    """
    figure, axes = picture("wide", alt=alt)
    names = []
    for (name, values), colour in zip(lines.items(), CYCLE * len(lines), strict=False):
        values = one_each(x, values)
        axes.plot(x, values, color=colour, linewidth=2, marker="o", markersize=4)
        end = (x[-1], values[-1])
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
    values: Sequence[float | None],
    *,
    alt: str = "",
    title: str = "",
    ylabel: str = "",
    highlight: Sequence[int] = (),
    skipped: int = 0,
    digits: int = 3,
) -> Picture:
    """A bar above each token of a text, in reading order, with its number.

    Args:
        tokens: the text, one string a token.
        values: one a token, such as its probability given those before; None where there is none.
        alt: see `picture`; by default the title and each token with its number.
        title: the message of the picture.
        ylabel: what the numbers are, with their unit.
        highlight: positions of bars and tokens to draw in the colour "wrong", with an arrow.
        skipped: how many tokens at the start do not count; they are drawn grey.
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.

    Raises:
        LabError: the values are no numbers, or not one a token.
    """
    heights = one_each(tokens, [0.0 if v is None else v for v in values])
    labels = [
        "none" if v is None else in_digits(height, digits)
        for v, height in zip(values, heights, strict=True)
    ]
    listed = ", ".join(f"{t.strip()} {label}" for t, label in zip(tokens, labels, strict=True))
    alt = alt or f"{title} {listed}".strip()
    if highlight:
        alt += ". Marked: " + ", ".join(tokens[i].strip() for i in highlight)
    if skipped:
        alt += f". Grey, not counted: the first {skipped}"
    figure, axes = picture("wide", alt=alt)
    marked = set(highlight)
    inks = [
        COLOURS["wrong" if i in marked else "masked" if i < skipped else "probability"]
        for i in range(len(heights))
    ]
    drawn = axes.bar(range(len(heights)), heights, color=inks, width=0.7)
    size = 9.5 if len(heights) <= 14 else 7.5
    axes.bar_label(drawn, labels=labels, padding=2, fontsize=size)
    crowded = sum(text_width(token) + 0.12 for token in tokens) > 7.2
    rotation = {"rotation": 45, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(tokens)), labels=[plain(t) for t in tokens], **rotation)
    top = max(heights)
    for i in marked:
        axes.get_xticklabels()[i].set(color=COLOURS["wrong"], fontweight="bold")
        style = {"arrowstyle": "-|>", "color": COLOURS["wrong"], "linewidth": 2}
        if heights[i] < 0.5 * top:  # a bar so short that nobody sees it
            start, end = (i, heights[i] + 0.45 * top), (i, heights[i] + 0.13 * top)
            axes.annotate("", xy=end, xytext=start, arrowprops=style)
    for i in range(skipped):
        axes.get_xticklabels()[i].set(color=COLOURS["masked"])
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
    # Up to 2: only the light half of the colours, on which dark letters read well everywhere.
    axes.imshow(numbers, cmap=SEQUENTIAL, vmin=0, vmax=2, aspect="auto", origin="lower")
    for (row, column), _ in np.ndenumerate(numbers):
        word = plain(rows[row][column])
        axes.text(column, row, word, ha="center", va="center", fontsize=9.5)
    axes.set_yticks(range(len(row_names)), labels=[plain(r) for r in row_names])
    axes.set_xticks(range(len(columns)), labels=[plain(c) for c in columns])
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
