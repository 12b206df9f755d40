"""A classifier's answer: the label, how sure it is, and what each word did to that."""

from collections.abc import Iterable, Mapping
from html import escape

from llmlab.views.tokens import BORDER, INK, visible
from llmlab.views.view import View

# Backgrounds at full strength; dark ink on them has a contrast of at least 7 : 1. The sign of the
# number says the same as the colour.
_FOR, _AGAINST, _NONE = (134, 187, 233), (245, 170, 118), (255, 255, 255)
_LISTED = 3  # words named in the sentence, on each side


def answer(
    probabilities: Mapping[str, float], words: Iterable[str], effects: Iterable[float]
) -> View:
    """One text's classification, its words coloured by their effect.

    Args:
        probabilities: label -> probability.
        words: the text's words, in order.
        effects: how much higher the winning label's probability is with each word than without.

    Returns:
        A view. Blue words speak for the label, orange ones against it; each has its number below.

    >>> answer({"NO": 0.1, "YES": 0.9}, ["not", "bad"], [0.6, -0.05])
    YES 0.900 (NO 0.100). For YES: not +0.600. Against: bad −0.050.
    """
    words, effects = list(words), [float(effect) for effect in effects]
    label = max(probabilities, key=lambda name: probabilities[name])
    others = sorted((n for n in probabilities if n != label), key=lambda n: -probabilities[n])
    rest = ", ".join(f"{name} {probabilities[name]:.3f}" for name in others)
    ranked = sorted(range(len(words)), key=lambda i: -abs(effects[i]))
    # what rounds to zero is for neither side
    for_it = [i for i in ranked if round(effects[i], 3) > 0][:_LISTED]
    against = [i for i in ranked if round(effects[i], 3) < 0][:_LISTED]
    sentence = f"{label} {probabilities[label]:.3f}" + (f" ({rest})." if rest else ".")
    for head, some in ((f"For {label}", for_it), ("Against", against)):
        if some:
            sentence += f" {head}: " + ", ".join(
                f"{_quoted(words[i])} {_signed(effects[i])}" for i in some
            ) + "."  # fmt: skip
    if not for_it and not against:
        sentence += " No word alone changes that."

    bars = "".join(_bar(name, probabilities[name], name == label) for name in [label, *others])
    strongest = max([0.1, *map(abs, effects)])  # so that tiny effects stay pale
    boxes = " ".join(
        f'<span style="display:inline-block;text-align:center;vertical-align:top;margin:2px 1px">'
        f'<code dir="auto" style="display:block;background:{_shade(effect / strongest)};'
        f"color:{INK};border:1px solid {BORDER};border-radius:4px;padding:2px 6px;"
        f'white-space:pre-wrap;font-size:1em">{escape(visible(word))}</code>'
        f'<small style="font-size:.75em">{_signed(effect)}</small></span>'
        for word, effect in zip(words, effects, strict=True)
    )
    html = (
        f'<div style="max-width:760px">{bars}'
        f'<div style="line-height:1.5;margin:8px 0">{boxes}</div>'
        f'<p role="status" style="margin:4px 0">{escape(sentence)}</p></div>'
    )
    return View(html, sentence)


def _quoted(word: str) -> str:
    """A word as it is, a sign in quotes: a bare comma would be lost among those of the list."""
    shown = visible(word)
    return shown if any(map(str.isalnum, shown)) else f'"{shown}"'


def _bar(name: str, probability: float, winner: bool) -> str:
    """A label with its probability as a bar; numbers beside, so that nothing hangs on the bar."""
    weight = "bold" if winner else "normal"
    fill = "#6AA8E0" if winner else "#B8C0C8"
    return (
        f'<div style="display:flex;align-items:center;gap:8px;font-weight:{weight};margin:2px 0">'
        f'<span style="width:9em;text-align:right;overflow-wrap:anywhere">{escape(name)}</span>'
        f'<span aria-hidden="true" style="flex:0 1 300px;height:1em;border:1px solid {BORDER};'
        f'border-radius:3px;background:#FFFFFF"><span style="display:block;height:100%;'
        f'width:{100 * probability:.1f}%;background:{fill}"></span></span>'
        f"<span>{probability:.3f}</span></div>"
    )


def _signed(number: float) -> str:
    """Three digits with a real minus; what rounds to zero has no sign."""
    return "0.000" if round(number, 3) == 0 else f"{number:+.3f}".replace("-", "−")


def _shade(share: float) -> str:
    """From white to blue (positive) or orange (negative)."""
    end = _FOR if share > 0 else _AGAINST
    mixed = [round(a + abs(share) * (b - a)) for a, b in zip(_NONE, end, strict=True)]
    return "#" + "".join(f"{part:02X}" for part in mixed)
