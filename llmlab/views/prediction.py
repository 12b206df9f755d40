"""Predict, then run: the reader's guess beside what came out."""

from html import escape
from typing import Any

from llmlab.views.view import View


def prediction(guess: Any, actual: Any, unit: str = "") -> View:
    """The reader's guess beside the result; without a guess, an invitation to make one.

    Args:
        guess: a number or a string, or None while there is none.
        actual: what came out.
        unit: what a number counts, such as "tokens".

    Returns:
        A view that shows both, and for numbers how far they are apart.

    >>> prediction(None, 7, "tokens")
    Result: 7 tokens. (No guess yet: put yours in place of None and run this cell again.)
    >>> prediction(5, 7, "tokens")
    Your guess: 5 tokens. Result: 7 tokens, 2 more than you thought.
    >>> prediction("7 tokens", 7, "tokens")
    Your guess: 7 tokens. Result: 7 tokens. You saw it coming.
    >>> prediction("paris", " Paris")
    Your guess: paris. Result:  Paris. You saw it coming.
    """
    if unit and isinstance(guess, str):  # "7 tokens" in place of 7
        guess = guess.strip().removesuffix(unit).strip()
    said, shown = f"{guess} {unit}".strip(), f"{actual} {unit}".strip()
    if guess is None:
        text = (
            f"Result: {shown}. (No guess yet: put yours in place of None and run this cell again.)"
        )
        return View(_html(text), text)
    mine, theirs = _comparable(guess), _comparable(actual)
    if mine == theirs:
        verdict = ". You saw it coming."
    elif isinstance(mine, float) and isinstance(theirs, float):
        gap = theirs - mine
        verdict = f", {abs(gap):.3g} {'more' if gap > 0 else 'less'} than you thought."
    else:
        verdict = ". Not what you thought."
    text = f"Your guess: {said}. Result: {shown}{verdict}"
    return View(_html(text), text)


def _html(text: str) -> str:
    """The sentence below a first line that JupyterLab shows in place of a folded output."""
    return f"Your prediction\n<p>{escape(text)}</p>"


def _comparable(value: Any) -> Any:
    """A number, also one typed as text, as a float; a text without case and outer spaces."""
    if isinstance(value, bool):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value).strip(" '\"").casefold()
