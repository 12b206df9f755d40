"""Boxes and arrows: how text flows through a model, and the drawings of single notebooks."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.font_manager
import matplotlib.textpath
import numpy as np
from matplotlib.axes import Axes

from llmlab.plots.charts import one_each
from llmlab.plots.style import (
    COLOURS,
    CYCLE,
    SEQUENTIAL,
    Picture,
    in_digits,
    in_words,
    picture,
    plain,
    text_width,
)


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
    values = one_each(candidates, probabilities)
    pairs = zip(candidates, values, strict=True)
    alt = alt or f"After {text!r}: " + ", ".join(f"{c.strip()!r} {v:.3f}" for c, v in pairs)
    if not title:
        shown = text
        while text_width(f"P(next token | {shown})", 12) * 1.2 > 7.5 and len(shown) > 9:
            shown = "…" + shown[9:]
        title = f"P(next token | {shown})"
    # The tokens in rows of boxes, as many as fit beside the model; the unknown one last.
    lines: list[list[str]] = [[]]
    for token in [*(t.strip() for t in tokens), "?"]:
        if sum(text_width(t) + 0.3 for t in [*lines[-1], token]) > 2.45:
            lines.append([])
        lines[-1].append(token)
    if len(lines) > 5:  # a long text: its end counts most
        lines = [["…", *lines[-5][1:]], *lines[-4:]]
    grid = {"width_ratios": [1.35, 1]}
    figure, (left, right) = picture("wide", alt=alt, ncols=2, gridspec_kw=grid)
    tall = max(0.46 * len(lines), 0.34 * len(values) + 0.25, 1.2)
    figure.set_figheight(tall + 0.9)  # as wide as the others, no higher than it needs
    left.set(xlim=(0, 3.95), ylim=(0, tall), xticks=[], yticks=[])
    left.axis("off")
    middle = tall / 2
    for row, line in enumerate(lines):
        x, y = 0.05, middle + 0.44 * ((len(lines) - 1) / 2 - row)
        for place, token in enumerate(line):
            last = row + 1 == len(lines) and place + 1 == len(line)
            width = text_width(token) + 0.2
            ink = "key" if last else "probability"
            box(left, (x + width / 2, y), token, width=width, height=0.3, colour=ink, filled=last)
            x += width + 0.1
    box(left, (3.2, middle), "model", width=0.8, height=0.6, colour="text", filled=True)
    arrow(left, (2.42, middle), (2.79, middle))
    arrow(left, (3.61, middle), (3.95, middle))
    positions = np.arange(len(values))
    drawn = right.barh(positions, values, color=COLOURS["probability"])
    right.bar_label(drawn, labels=[in_digits(v) for v in values], padding=4)
    right.set_yticks(positions, labels=[plain(c.strip()) for c in candidates])
    right.set_ylim(len(values) - 0.4, -0.6)  # the first on top
    # The whole way from never to always, so that bars of two pictures can be compared.
    right.set(xlabel="P(next token | tokens before)", xlim=(0, 1.25), xticks=[0, 0.5, 1])
    right.tick_params(axis="y", length=0)
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def black_boxes(
    tokens: Sequence[str],
    ids: Sequence[int],
    best_ids: Sequence[int],
    probabilities: Sequence[float],
    answer: str,
    *,
    title: str = "",
) -> Picture:
    """A text's way through tokenizer and model and back, with the numbers in between.

    Args:
        tokens: the text, one string a token.
        ids: one a token.
        best_ids: the likeliest next ids, the likeliest first.
        probabilities: one for each of `best_ids`.
        answer: the first of `best_ids` as text.
        title: the message of the picture.

    Returns:
        The picture.
    """
    text = "".join(tokens).strip()
    pairs = list(zip(best_ids, probabilities, strict=True))
    listed = ", ".join(f"{i} {p:.3f}" for i, p in pairs)
    alt = f"{text} → tokenizer → {' '.join(map(str, ids))} → model → a probability for every id: "
    alt += f"{listed}, … → best id {best_ids[0]} → tokenizer, back → {answer}"
    figure, axes = drawing("wide", alt=alt)
    figure.set_figheight(3.2)
    axes.set(xlim=(-0.04, 7.94), ylim=(0, 2.75), title=title)
    high, low = 2.05, 0.55

    def step(name: str, left: float, y: float, **look: Any) -> float:
        """A box that begins at `left`; returns where it ends."""
        width = text_width(name.split("\n")[0]) + 0.3
        box(axes, (left + width / 2, y), name, width=width, height=0.5, **look)
        return left + width

    x = step(text, 0, high)
    arrow(axes, (x, high), (x + 0.4, high))
    x = step("tokenizer", x + 0.4, high, colour="text", filled=True)
    arrow(axes, (x, high), (x + 0.4, high))
    start = x = x + 0.4
    for token, number in zip(tokens, ids, strict=True):
        width = max(text_width(token.strip(), 9.5), text_width(str(number))) + 0.16
        axes.text(x + width / 2, high + 0.32, plain(token.strip()), ha="center", fontsize=9.5)
        box(axes, (x + width / 2, high), str(number), width=width, height=0.32)
        x += width + 0.1
    ink, middle = COLOURS["text"], (start + x - 0.1) / 2
    axes.plot((middle, middle, 0.4), (high - 0.2, 1.4, 1.4), color=ink, linewidth=1.4)
    arrow(axes, (0.4, 1.42), (0.4, low + 0.28))
    x = step("model", 0, low, colour="text", filled=True)
    arrow(axes, (x, low), (x + 0.4, low))
    x += 0.5
    axes.text(x, low + 0.5, "a probability for every id", fontsize=9.5)
    for row, (number, value) in enumerate(pairs):
        y = low + 0.28 - 0.28 * row
        axes.text(x + 0.52, y, str(number), va="center", ha="right")
        width = 0.9 * float(value)
        axes.add_patch(mpl.patches.Rectangle((x + 0.62, y - 0.09), width, 0.18,
                                             color=COLOURS["probability"]))  # fmt: skip
        axes.text(x + 0.68 + width, y, f"{value:.3f}", va="center")
    axes.text(x + 0.52, low - 0.5, "…", va="center", ha="right")
    x += 2.1
    arrow(axes, (x, low), (x + 0.35, low))
    x = step(f"best id\n{best_ids[0]}", x + 0.35, low)
    arrow(axes, (x, low), (x + 0.35, low))
    x = step("tokenizer\n(back)", x + 0.35, low, colour="text")
    arrow(axes, (x, low), (x + 0.35, low))
    step(answer, x + 0.35, low)
    return figure


def _chain(
    axes: Axes, tokens: Sequence[str], answer: str, xs: tuple[float, float, float], y: float,
    wrong: Sequence[int] = (),
) -> None:  # fmt: skip
    """Tokens as boxes from xs[0], an arrow, and the answer from xs[1] to xs[2] at most."""
    start, end, _ = xs
    # Long sequences are drawn smaller, so that each row fits.
    wanted = sum(text_width(token) + 0.23 for token in tokens)
    scale = min(1.0, (end - start - 0.35) / wanted)
    x = start
    for place, token in enumerate(tokens):
        width = scale * (text_width(token) + 0.16)
        ink = "wrong" if place in wrong else "key" if token == "?" else "probability"
        where, filled, size = (x + width / 2, y), ink != "probability", 10.5 * scale
        box(axes, where, token, width=width, height=0.3, colour=ink, filled=filled, size=size)
        x += width + scale * 0.07
    arrow(axes, (x, y), (end - 0.06, y))
    axes.text(end, y, plain(answer), va="center", fontsize=9.5)


def _wide(answers: Sequence[str]) -> float:
    """Inches that the longest line of these answers takes."""
    return max(text_width(line, 9.5) for answer in answers for line in answer.split("\n"))


def sequences(
    rows: Sequence[tuple[str, Sequence[str], str]], *, alt: str = "", title: str = ""
) -> Picture:
    """Sequences of any kind as rows of boxes, each with what a model says about it.

    Args:
        rows: (name, tokens, answer) each; a token "?" is drawn as the one to be found.
        alt: see `picture`; by default the rows in words.
        title: the message of the picture.

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
    end = 7.9 - _wide([answer for _, _, answer in rows])
    for row, (name, tokens, answer) in enumerate(rows):
        y = tall - 0.56 * (row + 0.5)
        axes.text(0, y, plain(name), va="center", fontsize=9.5, fontweight="bold")
        _chain(axes, tokens, answer, (start, end, 7.9), y)
    return figure


def uses(
    rows: Sequence[tuple[str, str, str, str, str]],
    *,
    heads: tuple[str, str],
    title: str = "",
) -> Picture:
    """Uses of sequence models in two columns: with words, and with something else.

    Args:
        rows: (use, sequence, answer, other sequence, its answer) each. A sequence is a string,
            tokens separated by spaces; "?" is the token to be found, and a token that ends in
            "*" is drawn, without the star, in the colour "wrong".
        heads: what the two columns hold.
        title: the message of the picture.

    Returns:
        The picture.
    """
    listed = [f"{use}: {a} → {b}, {c} → {d}" for use, a, b, c, d in rows]
    figure, axes = drawing("large", alt=f"{title}. {'; '.join(listed)}".replace("*", ""))
    tall = 0.82 * len(rows) + 0.3
    figure.set_figheight(tall + 0.45)
    axes.set(xlim=(-0.04, 7.94), ylim=(0, tall), title=title)
    for column, head in enumerate(heads):
        left, right = (0.0, 3.9) if column == 0 else (4.25, 7.9)
        axes.text(left, tall - 0.15, plain(head), va="center", fontsize=9.5, color="#57606A")
        end = right - _wide([row[2 + 2 * column] for row in rows])
        for place, row in enumerate(rows):
            top = tall - 0.3 - 0.82 * place
            if column == 0:
                axes.text(0, top - 0.15, plain(row[0]), va="center", fontweight="bold")
            parts = row[1 + 2 * column].split()
            wrong = [i for i, token in enumerate(parts) if token.endswith("*")]
            tokens = [token.removesuffix("*") for token in parts]
            xs = (left, end, right)
            _chain(axes, tokens, row[2 + 2 * column], xs, top - 0.5, wrong)
    return figure


def aspirin() -> Picture:
    """Aspirin as a drawing and as the string that spells it: equal numbers mark equal atoms.

    The string is a SMILES (Weininger, 1988): the way from atom to atom, written down.
    """
    alt = (
        "Aspirin drawn with its 13 heavy atoms, and below it the string CC(=O)Oc1ccccc1C(=O)O. "
        "Numbers 1 to 13 link each letter to its atom: a letter is an atom, a small c a carbon in "
        "the aromatic ring, = a double bond, brackets a side branch, and the two digits 1 close it."
    )
    string = "CC(=O)Oc1ccccc1C(=O)O"
    h = 0.866  # height of a triangle with sides of one bond
    places = [(-3.5, -h), (-2.5, -h), (-2, -2 * h), (-2, 0), (-1, 0), (-0.5, -h), (0.5, -h), (1, 0),
              (0.5, h), (-0.5, h), (-1, 2 * h), (-2, 2 * h), (-0.5, 3 * h)]  # fmt: skip
    bonds = [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 4),
             (9, 10), (10, 11), (10, 12)]  # fmt: skip
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(4.2)
    axes.set(xlim=(-5.6, 5.6), ylim=(-3.2, 3.0))
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
        x, y = xy[0] + 0.4 * np.cos(np.radians(angle)), xy[1] + 0.4 * np.sin(np.radians(angle))
        axes.text(x, y, str(number), fontsize=10, **style)

    # where each atom has room for its number, in degrees
    angles = [180, 120, 300, 120, 120, 240, 300, 0, 60, 60, 0, 180, 60]
    number = 0
    for place, character in enumerate(string):
        spot = (-4.9 + 0.49 * place, -2.6)
        if character.isalpha():
            atom(number + 1, character, places[number], angles[number])
            atom(number + 1, character, spot, 270)
            number += 1
        else:
            axes.text(*spot, character, ha="center", va="center", fontsize=13)
    notes = (
        "C, O   an atom\nc   a carbon in an aromatic ring\n=   a double bond\n( )   a side branch"
    )
    notes += "\n1 … 1   the ring closes\n(hydrogen atoms are left out)"
    axes.text(2.0, 1.3, notes, va="center", linespacing=1.6)
    return figure


def timeline(
    models: Sequence[tuple[str, float, float, str]],
    *,
    alt: str,
    title: str = "",
    ours: Sequence[str] = (),
    hollow: Sequence[str] = (),
) -> Picture:
    """Models over the years, their size on a logarithmic axis, a colour and a shape a family.

    Args:
        models: (name, year, parameters, family) each; a year may have a fraction.
        alt: see `picture`.
        title: the message of the picture.
        ours: names to draw bold and with a ring.
        hollow: names whose mark is not filled.

    Returns:
        The picture.
    """
    figure, axes = picture("large", alt=alt)
    figure.set_figheight(4.0)
    families = list(dict.fromkeys(family for *_, family in models))
    axes.set(title=title, ylabel="parameters", yscale="log")
    axes.grid(axis="y", color="#E4E7EB")
    inks = dict(zip(families, CYCLE, strict=False))
    marks = dict(zip(families, "o^sDvP", strict=False))
    for family in families:  # for the legend
        axes.scatter([], [], color=inks[family], marker=marks[family], s=42, label=family)
    for name, year, size, family in models:
        ink, paper = inks[family], COLOURS["paper"]
        inside = paper if name in hollow else ink
        look = {"facecolors": inside, "edgecolors": ink, "linewidths": 1.6}
        axes.scatter(year, size, marker=marks[family], s=42, zorder=3, **look)
    years = [year for _, year, _, _ in models]
    sizes = [size for _, _, size, _ in models]
    axes.set_xlim(int(min(years)), max(years) + 1.0)
    axes.set_ylim(min(sizes) / 3, max(sizes) * 6)
    axes.set_xticks(range(int(min(years)), int(max(years)) + 2))
    ticks = [10**power for power in range(7, 13) if min(sizes) / 3 <= 10**power <= max(sizes) * 6]
    axes.set_yticks(ticks, labels=[in_words(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="upper left", ncols=len(families))
    figure.draw_without_rendering()  # settles the layout, so that places in pixels are known
    taken = [axes.transData.transform((year, size)) for _, year, size, _ in models]
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in taken]
    for (name, year, size, family), (x, y) in zip(models, taken, strict=True):
        bold = name in ours
        text = f"{name} · {in_words(size)}"
        letters = 10.5 if bold else 9.5
        wide = text_width(text, letters) * figure.dpi * (1.15 if bold else 1.0)
        away = 14 if bold else 9
        spots = [(away, 0), (-away - 4 - wide, 0), (-wide / 2, 16), (-wide / 2, -16)]
        spots += [(2, 16), (2, -16), (2, 32), (2, -32), (2, 44), (2, -44)]
        for dx, dy in spots:  # the first place where the label covers nothing
            left, bottom, right, top = x + dx, y + dy - 8, x + dx + wide, y + dy + 8
            free = all(right < a or c < left or top < b or d < bottom for a, b, c, d in boxes)
            if free and left > axes.bbox.x0 and right < figure.bbox.x1:
                break
        boxes.append((left, bottom, right, top))
        at = axes.transData.inverted().transform((left, (bottom + top) / 2))
        ink, weight = inks[family], "bold" if bold else "normal"
        # paper behind the letters: no grid line runs through them
        behind = {"facecolor": COLOURS["paper"], "linewidth": 0, "pad": 1}
        style: dict[str, Any] = {"fontsize": letters, "fontweight": weight, "color": ink}
        axes.text(*at, text, va="center", bbox=behind, **style)
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
        "The map of the series. 00 welcome: from outside. 01 tokenization: text into ids. "
        "02 forward pass: ids into scores, with 03 attention, tokens look back, inside it. From "
        "the scores, 04 classification makes a label and 05 generation the next token, which joins "
        "the ids: round and round. 06 encoder-decoder: one reads, one writes. 07 fine-tuning: "
        "examples change it. 08 running models: size, speed, memory."
    )
    here = str(here)
    if here:
        alt += f" You are here: {here}."
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(4.5)
    axes.set(xlim=(0, 7.95), ylim=(0.15, 4.3), title="The map: which notebook opens which box")

    def room(number: str, name: str, gloss: str, xy: tuple[float, float]) -> None:
        at_home, dark = number == here, number > here
        ink = "key" if at_home else "text"
        box(axes, xy, "", width=1.62, height=0.6, colour=ink, filled=dark)
        letters = COLOURS["paper"] if dark else COLOURS["text"]
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": letters}
        axes.text(xy[0], xy[1] + 0.12, f"{number} {name}", fontweight="bold", fontsize=9.5, **style)
        axes.text(xy[0], xy[1] - 0.14, gloss, fontsize=9.5, **style)
        if at_home:
            note: dict[str, Any] = {"color": COLOURS["key"], "ha": "center", "va": "bottom"}
            axes.text(xy[0], xy[1] + 0.36, "you are here", fontsize=9.5, **note)

    def thing(text: str, xy: tuple[float, float], width: float) -> None:
        box(axes, xy, text, width=width, height=0.4)

    line = 2.85  # the way of the text
    room("00", "welcome", "both boxes closed", (0.85, 3.7))
    thing("text", (0.32, line), 0.54)
    room("01", "tokenization", "text into ids", (1.7, line))
    thing("ids", (2.97, line), 0.42)
    room("02", "forward pass", "ids into scores", (4.25, line))
    room("03", "attention", "tokens look back", (4.25, 1.95))
    thing("scores", (5.66, line), 0.68)
    room("04", "classification", "scores into a label", (7.1, 3.28))
    room("05", "generation", "token after token", (7.1, 2.42))
    for start, end in ((0.6, 0.88), (2.52, 2.75), (3.19, 3.43), (5.07, 5.31)):
        arrow(axes, (start, line), (end, line))
    arrow(axes, (6.01, line + 0.1), (6.28, line + 0.36))
    arrow(axes, (6.01, line - 0.1), (6.28, line - 0.36))
    axes.plot((4.25, 4.25), (2.26, 2.54), color=COLOURS["text"], linestyle=":")
    axes.text(4.33, 2.4, "inside", fontsize=9.5, va="center")
    # generation goes round: its token joins the ids
    axes.plot((7.1, 7.1, 2.97), (2.11, 1.45, 1.45), color=COLOURS["key"], linewidth=1.4)
    arrow(axes, (2.97, 1.45), (2.97, line - 0.21), colour="key")
    words = "the new token joins the others, and the next round begins"
    axes.text(5.05, 1.38, words, fontsize=9.5, color=COLOURS["key"], ha="center", va="top")
    below = (
        ("06", "encoder-decoder", "one reads, one writes"),
        ("07", "fine-tuning", "examples change it"),
        ("08", "running models", "size, speed, memory"),
    )
    axes.text(0.04, 0.55, "and then", fontsize=9.5, va="center")
    for (number, name, gloss), x in zip(below, (1.7, 4.25, 7.1), strict=True):
        room(number, name, gloss, (x, 0.55))
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
        "computed from it, brought to a standard length first, and added to it: self_attn, where "
        "a token looks at itself and the tokens before, then mlp, which works on each token alone."
    )
    figure, axes = drawing("large", alt=alt)
    figure.set_figheight(4.7)  # no empty bands above and below
    axes.set(xlim=(0, 7.9), ylim=(0, 4.6))
    stops = [
        ("ids", 0.35, 0.55), ("embed_tokens", 1.52, 1.25), (f"{layers} layers", 3.75, 1.1),
        ("norm", 5.0, 0.7), ("lm_head", 6.15, 0.9), ("logits", 7.4, 0.75),
    ]  # fmt: skip
    for (_, x, width), (_, following, wide) in pairwise(stops):
        arrow(axes, (x + width / 2, 3.8), (following - wide / 2, 3.8))
    for name, x, width in stops:
        inks = {"ids": "text", "logits": "text", f"{layers} layers": "key"}
        box(axes, (x, 3.8), name, width=width, height=0.5, colour=inks.get(name, "probability"))
    # what travels stands on its arrow, or above its box
    axes.text(2.67, 3.86, f"{hidden} numbers", ha="center", va="bottom", fontsize=9)
    axes.text(2.67, 3.74, "a token", ha="center", va="top", fontsize=9)
    for text, x in (("to a standard\nlength", 5.0), (f"{vocabulary:,}\na token", 7.4)):
        axes.text(x, 4.12, text, ha="center", va="bottom", fontsize=9)
    # one layer, opened
    for corner, x in ((3.2, 0.15), (4.3, 7.75)):
        axes.plot((corner, x), (3.54, 3.1), color=COLOURS["key"], linestyle=":")
    frame = mpl.patches.Rectangle((0.15, 0.1), 7.6, 3.0, fill=False, edgecolor=COLOURS["key"])
    axes.add_patch(frame)
    style: dict[str, Any] = {"va": "center", "ha": "right", "fontweight": "bold"}
    axes.text(7.6, 2.88, "one layer", color=COLOURS["key"], **style)
    stream = 0.6
    arrow(axes, (0.35, stream), (7.6, stream))
    axes.text(0.35, stream - 0.13, "the vector that goes from layer to layer", va="top", fontsize=9)
    attention = "self-attention:\nlooks at itself and the tokens before"
    perceptron = "multilayer perceptron:\nworks on each token alone"
    blocks = (
        (0.75, "input_layernorm", 1.62, "self_attn", attention, "attention"),
        (4.2, "post_attention_layernorm", 2.3, "mlp", perceptron, "value"),
    )
    for left, norm, width, name, says, ink in blocks:
        plus = left + 2.85
        middle = left + width / 2
        arrow(axes, (middle, stream), (middle, 1.1))
        axes.text(middle + 0.1, 0.88, "to a standard length", va="center", fontsize=9)
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


def looks(
    tokens: Sequence[str],
    weights: Sequence[float],
    at: int | None = None,
    *,
    alt: str = "",
    title: str = "",
    digits: int = 3,
) -> Picture:
    """What one token looks at: a low bar above each token of the text, with its number.

    Args:
        tokens: the text, one string a token.
        weights: the attention that each gets, shape (key).
        at: position of the token that looks; later tokens that get nothing are drawn grey.
        alt: see `picture`; by default the title and each token with its number.
        title: the message of the picture; by default who looks, and at whom most.
        digits: digits after the point in the printed numbers.

    Returns:
        The picture.

    Raises:
        LabError: the weights are no numbers, or not one a token.
    """
    heights = one_each(tokens, weights)
    if not title and at is not None:
        most = tokens[heights.index(max(heights))].strip()
        title = f"'{tokens[at].strip()}' looks most at '{most}'"
    labels = [in_digits(height, digits) for height in heights]
    listed = ", ".join(f"{t.strip()} {n}" for t, n in zip(tokens, labels, strict=True))
    figure, axes = picture("wide", alt=alt or (f"{title}: {listed}" if title else listed))
    crowded = sum(text_width(token) + 0.12 for token in tokens) > 7.8
    figure.set_figheight(1.6 if crowded else 1.05)  # a first screen has little room
    later = [at is not None and i > at and not height for i, height in enumerate(heights)]
    drawn = axes.bar(range(len(heights)), heights, color=COLOURS["attention"], width=0.7)
    for bar_label, grey in zip(axes.bar_label(drawn, labels=labels, padding=2), later, strict=True):
        bar_label.set(fontsize=10.5, color=COLOURS["masked" if grey else "text"])
    turned = {"rotation": 45, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(tokens)), labels=[plain(t.strip()) for t in tokens], **turned)
    for i, (label, grey) in enumerate(zip(axes.get_xticklabels(), later, strict=True)):
        if i == at:
            label.set(color=COLOURS["query"], fontweight="bold")
        elif grey:
            label.set(color=COLOURS["masked"])
    axes.tick_params(axis="x", length=0)
    axes.set(yticks=[], title=title)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.01, y=0.35)
    return figure


def heads_beside(
    heads: Mapping[str, tuple[Any, Sequence[str]]], *, alt: str, xlabel: str = "looks at"
) -> Picture:
    """Two or three heads side by side, each with tokens of its own.

    Args:
        heads: what to write above a head -> its weights (query, key) and its tokens.
        alt: see `picture`.
        xlabel: what the columns are.

    Returns:
        The picture.
    """
    figure, grid = picture("large", alt=alt, ncols=len(heads), squeeze=False)
    figure.set_figheight(4.6)
    for axes, (title, (weights, tokens)) in zip(grid[0], heads.items(), strict=True):
        numbers = np.asarray(weights, dtype=float)
        axes.imshow(numbers, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
        axes.axline((0, 0), slope=1, color=COLOURS["masked"], linewidth=1, linestyle=":")
        names = [plain(token.strip()) for token in tokens]
        axes.set_xticks(range(len(names)), labels=names, rotation=60, ha="right", fontsize=9.5)
        axes.set_yticks(range(len(names)), labels=names, fontsize=9.5)
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
        axes.set(title=title, xlabel=xlabel)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set(visible=True, color=COLOURS["masked"], linewidth=0.8)
    return figure


def by_depth(
    lines: Mapping[str, Sequence[float]], *, alt: str, title: str = "", ylabel: str = ""
) -> Picture:
    """Curves of models with different numbers of layers, each from its first layer to its last.

    Args:
        lines: name of a model -> a value for each of its layers.
        alt: see `picture`.
        title: the message of the picture.
        ylabel: what the values are.

    Returns:
        The picture.
    """
    figure, axes = picture("wide", alt=alt)
    for (name, values), colour in zip(lines.items(), CYCLE * len(lines), strict=False):
        heights = [float(value) for value in values]
        depth = np.linspace(0, 1, len(heights)) if len(heights) > 1 else [0.5]
        label = plain(f"{name}, {len(heights)} layers")
        axes.plot(depth, heights, color=colour, linewidth=2, marker="o", markersize=5, label=label)
    axes.set_xticks([0, 1], labels=["first layer", "last layer"])
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set(title=title, ylabel=ylabel, ylim=(0, None))
    return figure
