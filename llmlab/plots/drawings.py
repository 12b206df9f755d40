"""Boxes and arrows: how text flows through a model, and the drawings of single notebooks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.font_manager
import matplotlib.textpath
import numpy as np
from matplotlib.axes import Axes

from llmlab.plots.style import COLOURS, CYCLE, Picture, in_words, picture, plain, text_width


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
    axes.text(*xy, plain(text), ha="center", va="center", color=label, fontsize=size)


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
            plain(label), middle, xytext=(0, 4), textcoords="offset points",
            ha="center", va="bottom", fontsize=9.5, color=ink,
        )  # fmt: skip


def drawing(size: str = "wide", *, alt: str) -> tuple[Picture, Axes]:
    """A picture with bare axes, one unit as long in x as in y, for boxes and arrows."""
    figure, axes = picture(size, alt=alt)
    axes.axis("off")
    axes.set(aspect="equal", xticks=[], yticks=[])
    return figure, axes


def next_token(
    tokens: Sequence[str],
    candidates: Sequence[str],
    probabilities: Sequence[float],
    *,
    alt: str = "",
    title: str = "",
) -> Picture:
    """P(next token | tokens before) as a drawing: the tokens, the model, bars for the next one.

    Args:
        tokens: what stands before, one string a token.
        candidates: tokens that may come next, the likeliest first.
        probabilities: one a candidate, between 0 and 1.
        alt: see `picture`; by default the candidates with their probabilities.
        title: the message of the picture; by default the formula with these tokens in it.

    Returns:
        The picture.
    """
    text = "".join(tokens)
    values = [float(p) for p in probabilities]
    pairs = zip(candidates, values, strict=True)
    alt = alt or f"After {text!r}: " + ", ".join(f"{c.strip()!r} {v:.3f}" for c, v in pairs)
    if not title:
        shown = text
        while text_width(f"P(next token | {shown})", 12) * 1.2 > 7.5 and len(shown) > 9:
            shown = "…" + shown[9:]
        title = f"P(next token | {shown})"
    grid = {"width_ratios": [1.35, 1]}
    figure, (left, right) = picture("wide", alt=alt, ncols=2, gridspec_kw=grid)
    left.set(xlim=(0, 3.95), ylim=(0, 2.4), xticks=[], yticks=[])
    left.axis("off")
    # The tokens in rows of boxes, as many as fit beside the model; the unknown one last.
    lines: list[list[str]] = [[]]
    for token in [*(t.strip() for t in tokens), "?"]:
        if sum(text_width(t) + 0.3 for t in [*lines[-1], token]) > 2.45:
            lines.append([])
        lines[-1].append(token)
    if len(lines) > 5:  # a long text: its end counts most
        lines = [["…", *lines[-5][1:]], *lines[-4:]]
    for row, line in enumerate(lines):
        x, y = 0.05, 1.2 + 0.46 * ((len(lines) - 1) / 2 - row)
        for place, token in enumerate(line):
            last = row + 1 == len(lines) and place + 1 == len(line)
            width = text_width(token) + 0.2
            ink = "key" if last else "probability"
            box(left, (x + width / 2, y), token, width=width, height=0.32, colour=ink, filled=last)
            x += width + 0.1
    box(left, (3.2, 1.2), "model", width=0.8, height=0.6, colour="text", filled=True)
    arrow(left, (2.42, 1.2), (2.79, 1.2))
    arrow(left, (3.61, 1.2), (3.95, 1.2))
    positions = np.arange(len(values))
    drawn = right.barh(positions, values, color=COLOURS["probability"])
    right.bar_label(drawn, labels=[f"{v:.3f}" for v in values], padding=4)
    right.set_yticks(positions, labels=[plain(c.strip()) for c in candidates])
    right.set_ylim(max(len(values), 4) - 0.4, -0.6)  # the first on top; few bars stay slim
    right.set(xlabel="P(next token | tokens before)", xlim=(0, 1.3 * max(values)))
    right.set_xticks([tick for tick in right.get_xticks() if tick <= 1])  # no more than certain
    right.tick_params(axis="y", length=0)
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def flow(
    steps: Sequence[str],
    *,
    alt: str = "",
    title: str = "",
    machines: Sequence[int] = (),
    labels: Sequence[str] = (),
) -> Picture:
    """What goes in, through which machines, and what comes out: boxes in a row with arrows.

    Args:
        steps: the text of each box, lines separated by newlines.
        alt: see `picture`; by default the steps in their order.
        title: the message of the picture.
        machines: positions of the boxes that do something; they are drawn dark.
        labels: a line under each box, such as a shape; an empty string for none.

    Returns:
        The picture.
    """
    alt = alt or " → ".join(step.replace("\n", " ") for step in steps)
    figure, axes = drawing("wide", alt=alt)
    widths = [max(text_width(line) for line in step.split("\n")) + 0.22 for step in steps]
    heights = [0.2 * step.count("\n") + 0.5 for step in steps]
    tall = max(heights) + (0.35 if labels else 0.1)
    figure.set_figheight(tall + (0.5 if title else 0.15))  # as wide as the others, no higher
    axes.set(xlim=(-0.04, 7.94), ylim=(0, tall), title=title)
    gap = (7.9 - sum(widths)) / max(len(steps) - 1, 1)
    x, y = 0.0, tall - max(heights) / 2 - 0.05
    for i, (step, width, height) in enumerate(zip(steps, widths, heights, strict=True)):
        dark = i in machines
        ink = "text" if dark else "probability"
        box(axes, (x + width / 2, y), step, width=width, height=height, colour=ink, filled=dark)
        if labels:
            under = y - max(heights) / 2 - 0.08
            axes.text(x + width / 2, under, labels[i], ha="center", va="top", fontsize=9.5)
        if i + 1 < len(steps):
            arrow(axes, (x + width + 0.02, y), (x + width + gap - 0.02, y))
        x += width + gap
    return figure


def sequences(
    rows: Sequence[tuple[str, Sequence[str], str]],
    *,
    alt: str = "",
    title: str = "",
    wrong: Sequence[tuple[int, int]] = (),
) -> Picture:
    """Sequences of any kind as rows of boxes, each with what a model says about it.

    Args:
        rows: (name, tokens, answer) each; a token "?" is drawn as the one to be found.
        alt: see `picture`; by default the rows in words.
        title: the message of the picture.
        wrong: (row, token) positions to mark in the colour "wrong".

    Returns:
        The picture.
    """
    listed = [f"{name} {' '.join(tokens)} → {answer}".strip() for name, tokens, answer in rows]
    alt = alt or f"{title}: {'; '.join(listed)}".replace("\n", " ")
    figure, axes = drawing("wide", alt=alt)
    tall = 0.56 * len(rows)
    figure.set_figheight(tall + (0.42 if title else 0.1))  # as wide as the others
    axes.set(xlim=(-0.04, 7.94), ylim=(0, tall), title=title)
    start = max(text_width(name, 9.5) for name, _, _ in rows) * 1.15 + 0.2  # bold is wider
    end = 7.9 - max(text_width(line, 9.5) for _, _, answer in rows for line in answer.split("\n"))
    for row, (name, tokens, answer) in enumerate(rows):
        y = tall - 0.56 * (row + 0.5)
        axes.text(0, y, plain(name), va="center", fontsize=9.5, fontweight="bold")
        # Long sequences are drawn smaller, so that each row fits.
        wanted = sum(text_width(token) + 0.23 for token in tokens)
        scale = min(1.0, (end - start - 0.35) / wanted)
        x = start
        for place, token in enumerate(tokens):
            width = scale * (text_width(token) + 0.16)
            wrongly = (row, place) in wrong
            ink = "wrong" if wrongly else "key" if token == "?" else "probability"
            where = (x + width / 2, y)
            filled, size = wrongly or token == "?", 10.5 * scale
            box(axes, where, token, width=width, height=0.3, colour=ink, filled=filled, size=size)
            x += width + scale * 0.07
        arrow(axes, (x, y), (end - 0.06, y))
        axes.text(end, y, plain(answer), va="center", fontsize=9.5)
    return figure


def aspirin() -> Picture:
    """Aspirin as a drawing and as the string that spells it: equal numbers mark equal atoms.

    The string is a SMILES (Weininger, 1988): the way from atom to atom, written down.
    """
    alt = (
        "Aspirin drawn with its 13 heavy atoms, and below it the string CC(=O)Oc1ccccc1C(=O)O. "
        "Numbers 1 to 13 link each letter to its atom: a letter is an atom, a small c one in the "
        "ring, = a double bond, brackets a side branch, and the two digits 1 close the ring."
    )
    string = "CC(=O)Oc1ccccc1C(=O)O"
    h = 0.866  # height of a triangle with sides of one bond
    places = [(-3.5, -h), (-2.5, -h), (-2, -2 * h), (-2, 0), (-1, 0), (-0.5, -h), (0.5, -h), (1, 0),
              (0.5, h), (-0.5, h), (-1, 2 * h), (-2, 2 * h), (-0.5, 3 * h)]  # fmt: skip
    bonds = [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 4),
             (9, 10), (10, 11), (10, 12)]  # fmt: skip
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(4.2)
    axes.set(xlim=(-5.6, 5.6), ylim=(-3.1, 3.0))
    axes.set_title("Aspirin, drawn and spelled: equal numbers are equal atoms")
    for a, b in bonds:
        (ax, ay), (bx, by) = places[a], places[b]
        axes.plot((ax, bx), (ay, by), color=COLOURS["text"], linewidth=1.6, zorder=1)
        if (a, b) in ((1, 2), (10, 11)):  # the two double bonds, written "="
            across = (0.09 * (ay - by), 0.09 * (bx - ax))
            xs, ys = (ax + across[0], bx + across[0]), (ay + across[1], by + across[1])
            axes.plot(xs, ys, color=COLOURS["text"], linewidth=1.6, zorder=1)
    axes.add_patch(mpl.patches.Circle((0, 0), 0.55, fill=False, color=COLOURS["text"]))

    def atom(number: int, letter: str, xy: tuple[float, float], angle: float) -> None:
        ink = COLOURS["wrong" if letter == "O" else "text"]  # chemistry's red for oxygen
        paper = {"boxstyle": "circle,pad=0.15", "facecolor": COLOURS["paper"], "linewidth": 0}
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(*xy, letter, fontsize=13, bbox=paper, **style)
        x, y = xy[0] + 0.36 * np.cos(np.radians(angle)), xy[1] + 0.36 * np.sin(np.radians(angle))
        axes.text(x, y, str(number), fontsize=8, **style)

    # where each atom has room for its number, in degrees
    angles = [180, 120, 300, 120, 120, 240, 300, 0, 60, 60, 0, 180, 60]
    number = 0
    for place, character in enumerate(string):
        spot = (-4.6 + 0.46 * place, -2.6)
        if character.isalpha():
            atom(number + 1, character, places[number], angles[number])
            atom(number + 1, character, spot, 270)
            number += 1
        else:
            axes.text(*spot, character, ha="center", va="center", fontsize=13)
    notes = "C, O   an atom\nc   an atom in the ring\n=   a double bond\n( )   a side branch"
    axes.text(2.2, 1.4, notes + "\n1 … 1   the ring closes", va="center", linespacing=1.6)
    return figure


def timeline(
    models: Sequence[tuple[str, float, float, str]],
    *,
    alt: str,
    title: str = "",
    ours: Sequence[str] = (),
) -> Picture:
    """Models over the years, their size on a logarithmic axis, a colour and a shape a family.

    Args:
        models: (name, year, parameters, family) each; a year may have a fraction.
        alt: see `picture`.
        title: the message of the picture.
        ours: names to draw large and bold.

    Returns:
        The picture.
    """
    figure, axes = picture("large", alt=alt)
    families = list(dict.fromkeys(family for *_, family in models))
    axes.set(title=title, ylabel="parameters", yscale="log")
    axes.grid(axis="y", color="#E4E7EB")
    for family, ink, marker in zip(families, CYCLE, "o^sDvP", strict=False):
        points = [(year, size) for _, year, size, kind in models if kind == family]
        axes.scatter(*zip(*points, strict=True), color=ink, marker=marker, s=38, label=family)
    years = [year for _, year, _, _ in models]
    sizes = [size for _, _, size, _ in models]
    axes.set_xlim(int(min(years)), max(years) + 1.0)
    axes.set_ylim(min(sizes) / 3, max(sizes) * 4)
    axes.set_xticks(range(int(min(years)), int(max(years)) + 2))
    ticks = [10**power for power in range(7, 13) if min(sizes) / 3 <= 10**power <= max(sizes) * 4]
    axes.set_yticks(ticks, labels=[in_words(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="upper left")
    inks = dict(zip(families, CYCLE, strict=False))
    figure.draw_without_rendering()  # settles the layout, so that places in pixels are known
    taken = [axes.transData.transform((year, size)) for _, year, size, _ in models]
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in taken]
    for (name, year, size, family), (x, y) in zip(models, taken, strict=True):
        bold = name in ours
        text = f"{name} · {in_words(size)}"
        letters = 10.5 if bold else 8.5
        wide = text_width(text, letters) * figure.dpi * (1.15 if bold else 1.0)
        away = 14 if bold else 9
        spots = [(away, 0), (-away - wide, 0), (-wide / 2, 13), (-wide / 2, -13)]
        for dx, dy in spots:  # the first place where the label covers nothing
            left, bottom, right, top = x + dx, y + dy - 6, x + dx + wide, y + dy + 6
            free = all(right < a or c < left or top < b or d < bottom for a, b, c, d in boxes)
            if free and left > axes.bbox.x0 and right < figure.bbox.x1:
                break
        boxes.append((left, bottom, right, top))
        at = axes.transData.inverted().transform((left, (bottom + top) / 2))
        ink, weight = inks[family], "bold" if bold else "normal"
        axes.text(*at, text, va="center", fontsize=letters, fontweight=weight, color=ink)
        if bold:
            axes.scatter(year, size, s=150, facecolors="none", edgecolors=ink, linewidths=1.6)
    return figure


def course_map(here: str = "") -> Picture:
    """The map of the series: the way of a text, and which notebook opens which box.

    Args:
        here: the number of the notebook you are in, such as "02". Boxes up to this one are drawn
            open, the later ones still dark.

    Returns:
        The picture.
    """
    alt = (
        "The map of the series. 01 tokenization: text to ids. 02 forward pass: ids to scores, "
        "with 03 attention inside it. From the scores, 04 classification makes a label and "
        "05 generation makes the next token, which joins the ids: round and round. "
        "06 encoder-decoder: one model reads, a second one writes. 07 fine-tuning: examples change "
        "the model. 08 running models: any size, any machine."
    )
    figure, axes = drawing("large", alt=alt)
    axes.set(xlim=(0, 7.9), ylim=(0.2, 4.75), title="The map: which notebook opens which box")

    def room(number: str, name: str, xy: tuple[float, float]) -> None:
        text = f"{number}\n{name}"
        ink = "key" if number == here else "text"
        box(axes, xy, text, width=1.5, height=0.62, colour=ink, filled=number > here)

    def thing(text: str, xy: tuple[float, float]) -> None:
        box(axes, xy, text, width=0.72, height=0.4)

    thing("text", (0.4, 3.7))
    room("01", "tokenization", (1.85, 3.7))
    thing("ids", (3.2, 3.7))
    room("02", "forward pass", (4.55, 3.7))
    room("03", "attention", (4.55, 2.8))
    thing("scores", (5.9, 3.7))
    room("04", "classification", (7.1, 4.25))
    room("05", "generation", (7.1, 3.15))
    for start, end in ((0.78, 1.08), (2.62, 2.82), (3.58, 3.78), (5.32, 5.52)):
        arrow(axes, (start, 3.7), (end, 3.7))
    arrow(axes, (6.1, 3.92), (6.34, 4.18))
    arrow(axes, (6.1, 3.48), (6.34, 3.22))
    axes.plot((4.55, 4.55), (3.12, 3.38), color=COLOURS["text"], linestyle=":")
    axes.text(4.65, 3.25, "inside", fontsize=9.5, va="center")
    # generation goes round: its token joins the ids
    axes.plot((7.1, 7.1, 3.2), (2.83, 2.2, 2.2), color=COLOURS["key"], linewidth=1.4)
    arrow(axes, (3.2, 2.2), (3.2, 3.48), colour="key")
    words = "the new token joins the others, and the next round begins"
    axes.text(5.15, 2.12, words, fontsize=9.5, color=COLOURS["key"], ha="center", va="top")
    below = (
        ("06", "encoder-decoder", "one model reads,\na second one writes"),
        ("07", "fine-tuning", "examples change\nthe model"),
        ("08", "running models", "any size,\nany machine"),
    )
    for (number, name, words), x in zip(below, (1.3, 3.95, 6.6), strict=True):
        room(number, name, (x, 1.2))
        axes.text(x, 0.8, words, fontsize=9.5, ha="center", va="top")
    return figure


def decoder(layers: int, hidden: int, vocabulary: int) -> Picture:
    """The parts of a Llama in the order in which a text goes through them, one layer opened.

    Args:
        layers: how many layers the model has.
        hidden: how many numbers there are to a token between the layers.
        vocabulary: how many tokens the model can choose from.

    Returns:
        The picture; its names are those of transformers.
    """
    alt = (
        f"A text's way through the model: ids, embed_tokens, {layers} layers one after the other, "
        f"norm, lm_head, {vocabulary:,} logits a token. Between the layers a token is a vector of "
        f"{hidden} numbers. Inside a layer this vector runs straight through. Twice something is "
        "computed from it, normed first, and added to it: self_attn, which looks at the other "
        "tokens, then mlp, which does not."
    )
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(4.5)  # no empty bands above and below
    axes.set(xlim=(0, 7.9), ylim=(0, 4.4))
    stops = [
        ("ids", 0.35, 0.55), ("embed_tokens", 1.65, 1.3), (f"{layers} layers", 3.5, 1.3),
        ("norm", 4.95, 0.75), ("lm_head", 6.1, 0.9), ("logits", 7.4, 0.75),
    ]  # fmt: skip
    for (_, x, width), (_, following, wide) in pairwise(stops):
        arrow(axes, (x + width / 2, 3.6), (following - wide / 2, 3.6))
    for name, x, width in stops:
        inks = {"ids": "text", "logits": "text", f"{layers} layers": "key"}
        box(axes, (x, 3.6), name, width=width, height=0.5, colour=inks.get(name, "probability"))
    for text, x in ((f"{hidden} numbers\na token", 2.58), (f"{vocabulary:,}\na token", 7.4)):
        axes.text(x, 3.98, text, ha="center", va="bottom", fontsize=9)
    # one layer, opened
    for corner, x in ((2.85, 0.15), (4.15, 7.75)):
        axes.plot((corner, x), (3.34, 2.9), color=COLOURS["key"], linestyle=":")
    frame = mpl.patches.Rectangle((0.15, 0.1), 7.6, 2.8, fill=False, edgecolor=COLOURS["key"])
    axes.add_patch(frame)
    axes.text(0.3, 2.68, "one layer", color=COLOURS["key"], va="center", fontweight="bold")
    stream = 0.6
    arrow(axes, (0.35, stream), (7.6, stream))
    axes.text(0.35, stream - 0.13, "the vector that goes from layer to layer", va="top", fontsize=9)
    blocks = (
        (0.75, "input_layernorm", 1.62, "self_attn", "looks at the tokens before", "attention"),
        (4.2, "post_attention_layernorm", 2.3, "mlp", "works on each token alone", "value"),
    )
    for left, norm, width, name, says, ink in blocks:
        plus = left + 2.85
        middle = left + width / 2
        arrow(axes, (middle, stream), (middle, 1.1))
        box(axes, (middle, 1.32), norm, width=width, height=0.4, colour="text", size=9.5)
        arrow(axes, (middle, 1.54), (middle, 1.85))
        box(axes, (middle, 2.1), name, width=1.25, height=0.46, colour=ink, filled=True)
        axes.text(middle, 2.42, says, ha="center", fontsize=9, color=COLOURS[ink])
        axes.plot((middle + 0.65, plus), (2.1, 2.1), color=COLOURS["text"], linewidth=1.4)
        arrow(axes, (plus, 2.1), (plus, stream + 0.13))
        axes.text(
            plus, stream, "+", ha="center", va="center", fontsize=13, fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"},
        )  # fmt: skip
    return figure
