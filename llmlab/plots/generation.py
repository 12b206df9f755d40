"""Search as a picture: which texts a beam search kept, and which it gave up."""

from collections.abc import Sequence
from typing import Any

from llmlab.errors import LabError
from llmlab.plots.style import COLOURS, Picture, picture, plain

Text = tuple[Sequence[str], float, bool]


def beam_tree(
    root: str, steps: Sequence[Sequence[Text]], *, title: str = "", alt: str = ""
) -> Picture:
    """Beam search as a tree: each column one token more, the likeliest text on top.

    A box holds the last two tokens of its text and the logarithm of the text's probability. Blue:
    kept; pale: given up; thick and orange: the way to the text that wins.

    Args:
        root: the end of the prompt.
        steps: for each step all texts that were looked at: (its tokens, log-probability, kept).
        title: the message of the picture.
        alt: see `picture`; by default the title and the texts kept at the end.

    Returns:
        The picture.

    Raises:
        LabError: there are no steps, or the last one keeps nothing.

    >>> beam_tree("because", [[(["he"], -1.2, True), (["it"], -1.5, False)]]).alt
    "A tree of 2 texts in 1 step. Kept at the end: 'he' -1.20."
    """
    ranked = [sorted(step, key=lambda one: -one[1]) for step in steps]
    kept = [(list(tokens), total) for tokens, total, stays in ranked[-1] if stays] if ranked else []
    if not kept:
        raise LabError("A tree needs steps, and the last must keep a text: (tokens, total, True).")
    count = f"{sum(map(len, steps))} texts in {len(steps)} step{'s' if len(steps) > 1 else ''}"
    told = ", ".join(f"{''.join(tokens).strip()!r} {total:.2f}" for tokens, total in kept)
    alt = alt or f"{title or f'A tree of {count}'}. Kept at the end: {told}."
    winner = kept[0][0]
    rows = max(map(len, ranked))
    figure, axes = picture("large", alt=alt)
    axes.set(xlim=(-0.45, len(steps) + 0.45), ylim=(-rows + 0.4, 0.6))
    axes.axis("off")
    axes.set_title(title)
    places: dict[tuple[str, ...], tuple[float, float]] = {(): (0.0, (1 - rows) / 2)}
    _label(axes, places[()], root, COLOURS["text"], 1.0)
    for depth, texts in enumerate(ranked, 1):
        gap = rows / len(texts)
        for rank, (tokens, total, stays) in enumerate(texts):
            x, y = depth, -(rank + 0.5) * gap + 0.5
            wins = list(tokens) == winner[:depth]
            colour = COLOURS["key" if wins else "probability" if stays else "masked"]
            width = 3.0 if wins else 1.2 if stays else 0.6
            x0, y0 = places[tuple(tokens[:-1])]
            axes.plot([x0, x], [y0, y], color=colour, lw=width, zorder=0, solid_capstyle="round")
            places[tuple(tokens)] = x, y
            words = "".join(tokens[-2:]).strip() or "⏎"
            _label(axes, (x, y), f"{words}  {total:.1f}", colour, width / 2)
    return figure


def _label(axes: Any, place: tuple[float, float], words: str, colour: str, width: float) -> None:
    """Words in a box of paper, which hides the lines behind it."""
    box = {"boxstyle": "round,pad=0.25", "fc": COLOURS["paper"], "ec": colour, "lw": width}
    style = {"ha": "center", "va": "center", "color": colour, "fontsize": 9, "bbox": box}
    axes.text(*place, plain(words), **style)
