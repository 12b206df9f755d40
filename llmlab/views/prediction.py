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
    >>> prediction("Paris", "Paris")
    Your guess: Paris. Result: Paris. You saw it coming.
    """
    shown = f"{actual} {unit}".strip()
    if guess is None:
        text = (
            f"Result: {shown}. (No guess yet: put yours in place of None and run this cell again.)"
        )
    elif guess == actual:
        text = f"Your guess: {guess} {unit}".strip() + f". Result: {shown}. You saw it coming."
    elif all(isinstance(x, int | float) and not isinstance(x, bool) for x in (guess, actual)):
        gap = actual - guess
        far = f"{abs(gap):.3g} {'more' if gap > 0 else 'less'} than you thought"
        text = f"Your guess: {guess} {unit}".strip() + f". Result: {shown}, {far}."
    else:
        text = f"Your guess: {guess} {unit}".strip() + f". Result: {shown}. Not what you thought."
    return View(f"<p>{escape(text)}</p>", text)
