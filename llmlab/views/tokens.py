"""Coloured tokens: what the tokenizer made of a text, piece by piece."""

import math
import unicodedata
from collections.abc import Iterable
from html import escape
from typing import Any

from llmlab.errors import LabError
from llmlab.views.view import View

# Light backgrounds under dark ink, fixed, so that both read in light and dark themes (contrast
# at least 12 : 1). Colour only helps the eye: each token also has a border and a gap.
INK = "#1F2328"
BORDER = "#57606A"
BACKGROUNDS = ["#DDF4FF", "#FFF1C9", "#DAFBE1", "#FFE3DC", "#EDE3FF"]
LIGHTEST, DARKEST = (255, 255, 255), (106, 168, 224)  # of the shades for values

_BOX = (
    f"color:{INK};border:1px solid {BORDER};border-radius:4px;padding:2px 4px;"
    "white-space:pre-wrap;font-size:1em"
)
_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def tokens(
    tokens: Iterable[str],
    values: Iterable[float] | None = None,
    *,
    ids: Iterable[int] | None = None,
    notes: Iterable[str] | None = None,
) -> View:
    """A text's tokens as coloured boxes, with ids and values on hover and in a list below.

    Spaces, newlines and other characters that leave no mark are shown as signs: ␣ ⏎ ⇥. The boxes
    stay apart without colours, and without styles where a site strips them.

    Args:
        tokens: the tokens as strings, as `tokenizer.tokenize` or `convert_ids_to_tokens` give them.
        values: one number a token. The boxes are shaded by it instead of coloured in turn: from
            0 (white) to 1 (blue), or from the smallest to the largest if some lie outside 0…1.
            nan is left white; inf is as dark as the largest.
        ids: one id a token (a list, an array or a tensor of shape (sequence,)).
        notes: one text a token, shown on hover and in the list as well.

    Returns:
        A view. Its text lists every token with its id and its value.

    Raises:
        LabError: a text instead of a list, ids instead of tokens, values that are no numbers, or
            lengths that differ.

    >>> tokens(["Hello", ",", " you"], ids=[15496, 11, 345])
    3 tokens: Hello (15496) | , (11) | ␣you (345)
    >>> tokens(["a", "b"], [0.25, 1.0])
    2 tokens, shaded from 0 (white) to 1 (blue): a (0.25) | b (1)
    """
    names = _strings(tokens)
    numbers = _one_each(values, names, "values", float)
    id_list = _one_each(ids, names, "ids", int)
    shown = [visible(name) for name in names]
    remarks = _one_each(notes, names, "notes", str) or [""] * len(names)
    facts = _notes(id_list, numbers, len(names))
    colours = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(len(names))]
    head = f"{len(names)} token{'' if len(names) == 1 else 's'}"
    if numbers is not None:
        low, high = _limits(numbers)
        colours = [_shade(number, low, high) for number in numbers]
        head += f", shaded from {low:.3g} (white) to {high:.3g} (blue)"

    boxes = []
    for name, sign, fact, remark, colour in zip(names, shown, facts, remarks, colours, strict=True):
        note = "; ".join(part for part in (", ".join(fact), remark) if part)
        title = f' title="{escape(note, quote=True)}"' if note else ""
        style = f"background:{colour};{_BOX}"
        # dir=auto keeps a right-to-left token inside its box. The space between the boxes is a
        # real one: it holds them apart where styles are stripped, and lets long lines wrap.
        boxes.append(f'<code dir="auto"{title} style="{style}">{escape(sign)}</code>')
        boxes.append("<br>" if name.endswith(("\n", "Ċ")) else " ")
    plain = [_plain_note(*both) for both in zip(facts, remarks, strict=True)]
    listed = " | ".join(sign + note for sign, note in zip(shown, plain, strict=True))
    html = (
        f'<div style="line-height:2.1">{"".join(boxes).rstrip()}</div>'
        f"<details><summary>{escape(head)}</summary>{escape(listed)}</details>"
    )
    return View(html, f"{head}: {listed}" if names else head)


def visible(token: str) -> str:
    """A token with a sign in place of every character that leaves no mark of its own.

    >>> visible(" two\\n")
    '␣two⏎'
    >>> visible("\\u200b"), visible("")
    ('⟨U+200B⟩', '⟨empty⟩')
    """
    if not token:
        return "⟨empty⟩"
    signs = "".join(_sign(character) for character in token)
    # A combining mark at the start would climb onto the box's border: give it a circle to sit on.
    return "◌" + signs if unicodedata.category(token[0]).startswith("M") else signs


def _sign(character: str) -> str:
    """The character, or a sign for it if it can't be seen or would disturb its neighbours."""
    if character in _SIGNS:
        return _SIGNS[character]
    # Joiners (U+200C, U+200D) shape emoji and many scripts from within, so they stay.
    unseen = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}
    if unseen and character not in "\u200c\u200d":
        return f"⟨U+{ord(character):04X}⟩"
    return character


def _strings(tokens: Any) -> list[str]:
    """The tokens as a list of strings."""
    if isinstance(tokens, str):
        raise LabError(
            "views.tokens got one text; it needs a list of tokens. "
            "Cut the text first: views.tokens(tokenizer.tokenize(text))."
        )
    if not isinstance(tokens, Iterable):
        raise LabError(f"views.tokens needs a list of tokens, not a {type(tokens).__name__}.")
    names = list(tokens)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise LabError(
            f"views.tokens needs tokens, which are strings; this list holds a "
            f"{type(wrong).__name__}. For ids write "
            f"views.tokens(tokenizer.convert_ids_to_tokens(ids), ids=ids), one text at a time."
        )
    return names


def _one_each(numbers: Any, names: list[str], what: str, kind: Any) -> list[Any] | None:
    """The ids or values as a list of numbers of that kind, one a token."""
    if numbers is None:
        return None
    plain = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    try:
        listed = [kind(number) for number in plain]
    except (TypeError, ValueError):
        raise LabError(
            f"views.tokens shows one text: its {what} are one number a token (float('nan') where a "
            f"value is missing), without a batch axis. Of a batch take one row, such as {what}[0]."
        ) from None
    if len(listed) != len(names):
        raise LabError(
            f"{len(names)} tokens but {len(listed)} {what}: views.tokens needs one a token. "
            "Are special tokens counted in both?"
        )
    return listed


def _notes(ids: list[int] | None, values: list[float] | None, count: int) -> list[list[str]]:
    """What the pointer shows over each token."""
    notes: list[list[str]] = [[] for _ in range(count)]
    for number, note in zip(ids or [], notes, strict=False):
        note.append(f"id {number}")
    for value, note in zip(values or [], notes, strict=False):
        note.append(f"value {value:.3g}")
    return notes


def _plain_note(facts: list[str], remark: str) -> str:
    """The same in brackets, without the words that would repeat at every token."""
    short = ", ".join(fact.split(" ", 1)[1] for fact in facts)
    note = "; ".join(part for part in (short, remark) if part)
    return f" ({note})" if note else ""


def _limits(values: list[float]) -> tuple[float, float]:
    """The values of the lightest and the darkest shade: 0 and 1 where all fit in."""
    known = [float(value) for value in values if math.isfinite(value)] or [0.0]
    if min(known) >= 0 and max(known) <= 1:
        return 0.0, 1.0
    return min(known), max(known)


def _shade(value: float, low: float, high: float) -> str:
    """A colour between LIGHTEST and DARKEST."""
    share = 0.0 if math.isnan(value) or high == low else (value - low) / (high - low)
    share = min(max(share, 0.0), 1.0)  # infinite values take the end of the scale
    mixed = [round(a + share * (b - a)) for a, b in zip(LIGHTEST, DARKEST, strict=True)]
    return "#" + "".join(f"{part:02X}" for part in mixed)
