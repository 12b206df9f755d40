"""The pictures of notebook 06: three architectures, the flow with its shapes, alignments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from llmlab.errors import LabError
from llmlab.plots.drawings import arrow, box, drawing
from llmlab.plots.style import COLOURS, SEQUENTIAL, Picture, ink_on, picture, plain, text_width

_PALE = 0.08  # an attention weight below this is not drawn


def architectures() -> Picture:
    """Encoder-only, decoder-only, encoder–decoder, side by side: who sees whom, and for what.

    The small squares are the masks: a row a token that looks, filled where it may.
    """
    alt = (
        "Three architectures. Encoder-only (BERT, MiniLM): each token sees all; out comes a "
        "vector per token; for labels and search. Decoder-only (GPT, SmolLM2): each token sees "
        "those before it; out comes the next token; for going on with a text. Encoder–decoder (T5, "
        "BART, t5-g2p): the encoder sees all and hands H to a decoder that sees its own text so "
        "far and all of H; for turning a text into another: translate, sum up, pronounce."
    )
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(3.75)
    axes.set(xlim=(0, 8), ylim=(-0.15, 3.55))
    columns = (
        (1.0, "encoder-only", "BERT, MiniLM", "a label, a search", "notebooks 03, 04"),
        (3.1, "decoder-only", "GPT, SmolLM2", "go on with a text", "notebooks 02, 05"),
        (6.15, "encoder–decoder", "T5, BART, t5-g2p", "turn a text into another", "this notebook"),
    )
    for x, name, models, use, where in columns:
        axes.text(x, 3.4, name, ha="center", va="center", fontweight="bold", fontsize=12)
        axes.text(x, 3.15, models, ha="center", va="center", fontsize=9.5)
        axes.text(x, 0.2, use, ha="center", va="center", fontsize=10.5, fontweight="bold")
        axes.text(x, -0.03, where, ha="center", va="center", fontsize=9)
    for x in (2.05, 4.15):
        axes.plot((x, x), (0, 3.5), color="#D0D7DE", linewidth=1)
    encoder, decoder = COLOURS["key"], COLOURS["query"]
    block: dict[str, Any] = {"width": 1.45, "height": 0.42, "filled": True}
    small: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5}

    def tower(x: float, name: str, ink: str, top: str, bottom: str) -> None:
        axes.text(x, 0.6, bottom, **small)
        arrow(axes, (x, 0.7), (x, 1.02))
        box(axes, (x, 1.25), name, colour=ink, **block)
        if top:
            arrow(axes, (x, 1.48), (x, 1.8))
            axes.text(x, 1.93, top, **small)

    tower(1.0, "encoder", encoder, "a vector per token", "the text")
    tower(3.1, "decoder", decoder, "the next token", "the text so far")
    tower(5.05, "encoder", encoder, "", "the text")
    tower(7.15, "decoder", decoder, "the next token", "its answer so far")
    arrow(axes, (5.8, 1.25), (6.4, 1.25), label="H", colour="attention")
    full, causal = np.ones((5, 5), bool), np.tril(np.ones((5, 5), bool))
    _mask(axes, (1.0, 2.56), full, encoder, "sees all")
    _mask(axes, (3.1, 2.56), causal, decoder, "sees what came before")
    _mask(axes, (4.95, 2.56), full, encoder, "sees all")
    _mask(axes, (6.15, 2.56), np.ones((3, 5), bool), COLOURS["attention"], "looks at all of H")
    _mask(axes, (7.3, 2.56), np.tril(np.ones((3, 3), bool)), decoder, "sees its past")
    return figure


def _mask(axes: Axes, centre: tuple[float, float], may: np.ndarray, ink: str, says: str) -> None:
    """A mask as small squares, with what it says below."""
    side = 0.12
    rows, columns = may.shape
    left, top = centre[0] - side * columns / 2, centre[1] + side * rows / 2
    for (row, column), allowed in np.ndenumerate(may):
        corner = (left + side * column, top - side * (row + 1))
        look: dict[str, Any] = {"facecolor": ink if allowed else "#FFFFFF", "edgecolor": "#FFFFFF"}
        if not allowed:
            look["edgecolor"] = "#D0D7DE"
        axes.add_patch(Rectangle(corner, side, side, linewidth=0.8, **look))
    axes.text(centre[0], top - side * rows - 0.13, says, ha="center", va="center", fontsize=9)


def two_towers(
    read: Sequence[str],
    written: Sequence[str],
    shapes: Sequence[Sequence[int]],
    start: str,
) -> Picture:
    """X → encoder → H → decoder → Y for one word, with the shape at each arrow.

    Args:
        read: the tokens that the encoder reads.
        written: the tokens that the decoder writes, its end token last.
        shapes: of the ids read, of H, of the ids that the decoder reads, of the logits.
        start: the token that the decoder starts with.

    Returns:
        The picture.
    """
    x, h, y, logits = (f"({', '.join(map(str, shape))})" for shape in shapes)
    before = [start, *written[:-1]]
    alt = (
        f"X, {' '.join(read)} {x} → encoder → H {h} → decoder → logits {logits}, whose best tokens "
        f"are Y, {' '.join(written)}. The decoder reads {' '.join(before)} {y}: Y, one place "
        f"later, behind the start token {start}."
    )
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(2.75)
    axes.set(xlim=(0, 8), ylim=(0, 2.65))
    low, high = 0.3, 2.35
    left, right = 2.0, 6.2

    def tokens(names: Sequence[str], centre: float, y: float, ink: str) -> None:
        widths = [text_width(name, 9.5) + 0.16 for name in names]
        scale = min(1.0, 3.6 / (sum(widths) + 0.06 * len(names)))
        at = centre - scale * (sum(widths) + 0.06 * (len(names) - 1)) / 2
        for name, width in zip(names, widths, strict=True):
            size, wide = 9.5 * scale, scale * width
            box(axes, (at + wide / 2, y), name, width=wide, height=0.28, colour=ink, size=size)
            at += wide + scale * 0.06

    tokens(read, left, low, "key")
    tokens(before, right, low, "query")
    tokens(written, right, high, "query")
    style: dict[str, Any] = {"va": "center", "fontsize": 9.5}
    for at, name, ink in ((left, "encoder", "key"), (right, "decoder", "query")):
        box(axes, (at, 1.3), name, width=1.5, height=0.55, colour=ink, filled=True)
        arrow(axes, (at, low + 0.2), (at, 1.0))
    axes.text(left + 0.1, 0.75, f"X {x}", **style)
    axes.text(right + 0.1, 0.75, f"Y so far {y}", **style)
    arrow(axes, (right, 1.6), (right, high - 0.2))
    axes.text(right + 0.1, 1.85, f"logits {logits}", **style)
    arrow(axes, (left + 0.78, 1.3), (right - 0.78, 1.3), label=f"H {h}", colour="attention")
    axes.text(left - 0.85, 1.3, "once", ha="right", **style)
    axes.text(right + 0.85, 1.3, "a step a token", ha="left", **style)
    axes.text(0.05, high, "X: what is read    Y: what is written", **style)
    return figure


def alignment(
    weights: Any,
    read: Sequence[str] | None = None,
    written: Sequence[str] | None = None,
    *,
    title: str = "",
    alt: str = "",
) -> Picture:
    """Who looked where, as lines: what is read above, what is written below, thick is much.

    Args:
        weights: cross-attention of one head, shape (written, read): a tensor, or the DataFrame of
            `encoder_decoder.alignment`, which brings its tokens along.
        read: the tokens that were read; a column each.
        written: the tokens that were written; a row each.
        title: the message of the picture.
        alt: see `picture`; by default the title and each token written with what it looked at.

    Returns:
        The picture. Weights below 0.08 are not drawn.

    Raises:
        LabError: the shape and the tokens don't fit.
    """
    if read is None and hasattr(weights, "columns"):
        read, written = list(weights.columns), list(weights.index)
        weights = weights.to_numpy()
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().float()
    numbers = np.asarray(weights, dtype=float)
    above, below = list(read or []), list(written or [])
    if numbers.ndim != 2 or numbers.shape != (len(below), len(above)):
        raise LabError(
            f"An alignment is (written, read): these weights have shape {numbers.shape}, with "
            f"{len(below)} tokens written and {len(above)} read."
        )
    said = "; ".join(
        f"{name} ← {_looked(row, above)}" for name, row in zip(below, numbers, strict=True)
    )
    figure, axes = drawing("wide", alt=alt or (f"{title}: {said}" if title else said))
    figure.set_figheight(1.75 if title else 1.45)
    wide = max(len(above), len(below), 5)
    gap = min(0.85, 7.6 / wide)
    axes.set(xlim=(0, 7.94), ylim=(-0.08, 1.27), title=plain(title))
    size = 13.0 if gap > 0.5 else 10.0

    def places(count: int) -> list[float]:
        return [3.95 + gap * (i - (count - 1) / 2) for i in range(count)]

    tops, bottoms = places(len(above)), places(len(below))
    if len(below) < len(above):  # spread the few below the many
        spread = min(1.6 * gap, (tops[-1] - tops[0]) / max(1, len(below) - 1))
        bottoms = [3.95 + spread * (i - (len(below) - 1) / 2) for i in range(len(below))]
    elif len(above) < len(below):
        spread = min(1.6 * gap, (bottoms[-1] - bottoms[0]) / max(1, len(above) - 1))
        tops = [3.95 + spread * (i - (len(above) - 1) / 2) for i in range(len(above))]
    for (row, column), weight in np.ndenumerate(numbers):
        if weight >= _PALE:
            axes.plot(
                (bottoms[row], tops[column]), (0.3, 0.88), color=COLOURS["attention"],
                linewidth=7 * weight, alpha=0.35 + 0.65 * weight, solid_capstyle="round",
            )  # fmt: skip
    most = numbers.max(axis=0)
    for at, name, weight in zip(tops, above, most, strict=True):
        ink = "masked" if weight < _PALE else "key"
        axes.text(
            at, 1.08, plain(name), ha="center", va="center", fontsize=size, color=COLOURS[ink]
        )
    for at, name in zip(bottoms, below, strict=True):
        look: dict[str, Any] = {"fontweight": "bold", "color": COLOURS["query"]}
        axes.text(at, 0.1, plain(name), ha="center", va="center", fontsize=size, **look)
    return figure


def _looked(row: np.ndarray, names: Sequence[str]) -> str:
    """The tokens that got a tenth or more, three at most, with their weights."""
    best = [i for i in np.argsort(-row, kind="stable")[:3] if row[i] >= 0.1]
    return ", ".join(f"{names[i]} {row[i]:.2f}" for i in best) or "nothing in particular"


def three_attentions(
    squares: Sequence[tuple[str, Any, Sequence[str], Sequence[str]]], *, alt: str = ""
) -> Picture:
    """Attention weights side by side, each with tokens of its own in rows and columns.

    Args:
        squares: (title, weights of shape (query, key), query tokens, key tokens) each.
        alt: see `picture`; by default each title and its shape.

    Returns:
        The picture.
    """
    told = [f"{title}: {len(rows)} queries, {len(keys)} keys" for title, _, rows, keys in squares]
    figure, grid = picture("large", alt=alt or "; ".join(told), ncols=len(squares), squeeze=False)
    figure.set_figheight(3.1)
    for axes, (title, weights, rows, keys) in zip(grid[0], squares, strict=True):
        numbers = np.asarray(weights, dtype=float)
        image = axes.imshow(numbers, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
        for (row, column), weight in np.ndenumerate(numbers):
            if weight >= 0.1 and max(numbers.shape) <= 12:
                ink = ink_on(image.to_rgba(weight))
                look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
                axes.text(column, row, f"{weight:.1f}".lstrip("0"), color=ink, **look)
        axes.set_xticks(range(len(keys)), labels=[plain(key) for key in keys])
        axes.set_yticks(range(len(rows)), labels=[plain(name) for name in rows])
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_title(title, loc="center", fontsize=11, pad=8)
        for spine in axes.spines.values():
            spine.set(visible=True, color=COLOURS["masked"], linewidth=0.8)
    return figure
