"""Attention weights as plain pictures: one head with its tokens, several heads side by side."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from llmlab.errors import LabError
from llmlab.plots.style import COLOURS, SEQUENTIAL, Picture, ink_on, picture, plain
from llmlab.views.attention import as_array, named, stacked

GREY = "#D8D8DC"  # masked: no weight can be here
# Weight 0 is nearly white and 1 the darkest blue, in every head alike.
COLOURING = mpl.colormaps[SEQUENTIAL].with_extremes(bad=GREY)


def head(
    weights: Any,
    tokens: Iterable[str],
    key_tokens: Iterable[str] | None = None,
    *,
    alt: str = "",
    title: str = "",
) -> Picture:
    """One head as a heatmap: a row a query token, a column the key token that it looks at.

    Where no later token gets any weight, that half is drawn grey: masked.

    Args:
        weights: of one head, after softmax, (query, key): `captured.attention[layer, 0, head]`.
        tokens: the query tokens.
        key_tokens: the key tokens, where they are others (cross-attention).
        alt: see `picture`; by default the title and the three strongest links, without those to
            the first token and to itself.
        title: the message of the picture, or which head this is.

    Returns:
        The picture.

    Raises:
        LabError: the weights are none, or the tokens are not theirs.

    >>> head([[1.0, 0], [0.3, 0.7]], ["it", "Ġsat"], title="Layer 2, head 1").alt
    'Layer 2, head 1. Strongest links: none but to the first token and to itself. Grey: masked.'
    """
    one, queries, keys, cross = _checked(weights, 2, tokens, key_tokens)
    links = _links(one[0], queries, keys, cross)[:3]
    masked = _masked(one, cross)
    said = "; ".join(links) or "none but to the first token and to itself"
    grey = " Grey: masked." if masked.any() else ""
    alt = alt or f"{title}. Strongest links: {said}.{grey}".lstrip(". ")
    figure, axes = picture("large", alt=alt)
    image = _draw(axes, one[0], masked)
    rows, columns = one[0].shape
    if max(rows, columns) <= 16:
        for (q, k), weight in np.ndenumerate(one[0]):
            if weight >= 0.005 and not masked[q, k]:  # 0.00 is left out
                ink = ink_on(image.to_rgba(weight))
                style = {"ha": "center", "va": "center", "color": ink, "fontsize": 8.5}
                axes.text(k, q, f"{weight:.2f}", **style)
    for axis, names, room in ((axes.yaxis, queries, 4.0), (axes.xaxis, keys, 6.5)):
        size = min(10.5, max(6.5, 50 * room / len(names)))
        step = math.ceil(len(names) * size * 1.15 / (72 * room))  # labels must not overlap
        axis.set_ticks(range(0, len(names), step), [plain(n) for n in names[::step]], fontsize=size)
    axes.tick_params(axis="x", rotation=45 if max(map(len, keys)) > 2 else 0)
    for label in axes.get_xticklabels():
        label.set(ha="right" if max(map(len, keys)) > 2 else "center", rotation_mode="anchor")
    axes.set(title=title)
    axes.set_xlabel("looks at (key)", color=COLOURS["key"])
    axes.set_ylabel("token (query)", color=COLOURS["query"])
    _legend(figure, axes, image, bool(masked.any()))
    return figure


def heads(
    attention: Any,
    tokens: Iterable[str],
    key_tokens: Iterable[str] | None = None,
    *,
    names: Sequence[Any] | None = None,
    alt: str = "",
    title: str = "",
) -> Picture:
    """Several heads side by side, all in the same colours: a layer's, or any selection.

    In each square a row is a query token and a column the key token that it looks at, in the order
    of the text. Where no later token gets any weight, that half is drawn grey: masked.

    Args:
        attention: weights after softmax, (head, query, key): `captured.attention[layer, 0]`.
        tokens: the query tokens; they stand in the alt text, not in the picture.
        key_tokens: the key tokens, where they are others (cross-attention).
        names: what to write above each head; by default its number, from 0.
        alt: see `picture`; by default the title and each head's strongest link, without those to
            the first token and to itself.
        title: the message of the picture, or which layer this is.

    Returns:
        The picture.

    Raises:
        LabError: the weights are none, or the tokens and names are not theirs.
    """
    many, queries, keys, cross = _checked(attention, 3, tokens, key_tokens)
    labels = [f"head {h}" for h in range(len(many))] if names is None else list(map(str, names))
    if len(labels) != len(many):
        raise LabError(f"{len(many)} heads but {len(labels)} names: give one for each.")
    masked = _masked(many, cross)
    best = [(_links(one, queries, keys, cross) or ["no link"])[0] for one in many]
    said = "; ".join(f"{label}: {link}" for label, link in zip(labels, best, strict=True))
    beside = "" if cross else ", beside those to the first token and to itself"
    alt = alt or f"{title}. Strongest links{beside}: {said}.".lstrip(". ")
    across = min(6, math.ceil(math.sqrt(len(many))))
    down = math.ceil(len(many) / across)
    figure, grid = picture("large", alt=alt, nrows=down, ncols=across, squeeze=False)
    shape = min(1.5, max(0.5, len(queries) / len(keys)))
    figure.set_figheight(min(12.0, 0.7 + 5.1 * shape * down / across))
    image = None
    for axes, one, label in zip(grid.flat, many, labels, strict=False):
        image = _draw(axes, one, masked)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(plain(label), fontsize=10.5, fontweight="normal", loc="center", pad=3)
    for axes in grid.flat[len(many) :]:
        axes.remove()
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    _legend(figure, grid.flat[: len(many)], image, bool(masked.any()))
    return figure


def _checked(
    attention: Any, axes: int, tokens: Iterable[str], key_tokens: Iterable[str] | None
) -> tuple[np.ndarray, list[str], list[str], bool]:
    """Weights (head, query, key), the names of queries and keys, and whether they are others."""
    values = as_array(attention)
    if values.ndim == axes + 1 and values.shape[0] == 1:  # the batch
        values = values[0]
    if values.ndim != axes:
        expected = "one head, (query, key)" if axes == 2 else "one layer, (head, query, key)"
        raise LabError(
            f"This picture is of {expected}; the weights have shape {values.shape}. Of a capture "
            "attention[layer, 0] is one layer and attention[layer, 0, head] one head."
        )
    weights = stacked(values.reshape(1, -1, *values.shape[-2:]))[0]
    queries = named(tokens, "tokens", weights.shape[1], "queries")
    if key_tokens is None:
        return weights, queries, named(queries, "tokens", weights.shape[2], "keys"), False
    return weights, queries, named(key_tokens, "key_tokens", weights.shape[2], "keys"), True


def _masked(weights: np.ndarray, cross: bool) -> np.ndarray:
    """(query, key): the later tokens, if none of them gets any weight."""
    later = np.triu(np.ones(weights.shape[1:], bool), 1)
    return later & (not cross and not weights[:, later].any())


def _links(weights: np.ndarray, queries: list[str], keys: list[str], cross: bool) -> list[str]:
    """Each query's strongest link, strongest first; ties in the order of the text."""
    rounded = np.round(weights, 2)
    if not cross:
        np.fill_diagonal(rounded, 0)
        rounded[:, 0] = 0
    best = rounded.argmax(1)
    order = sorted(range(len(queries)), key=lambda q: -rounded[q, best[q]])
    return [
        f"{queries[q]} → {keys[best[q]]} {rounded[q, best[q]]:.2f}"
        for q in order
        if rounded[q, best[q]] > 0
    ]


def _draw(axes: Any, weights: np.ndarray, masked: np.ndarray) -> Any:
    """One head in its axes."""
    shown = np.ma.masked_array(weights, masked)
    image = axes.imshow(shown, cmap=COLOURING, vmin=0, vmax=1, aspect="auto")
    for spine in axes.spines.values():
        spine.set(visible=True, color=COLOURS["masked"], linewidth=0.8)
    return image


def _legend(figure: Picture, axes: Any, image: Any, masked: bool) -> None:
    """What the colours mean, on the right."""
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, aspect=30)
    bar.set_label("attention weight" + ("\n(grey: masked)" if masked else ""))
    bar.outline.set_visible(False)
