"""One word as a model says it: its sounds, where it looked, and what it nearly said."""

from collections.abc import Sequence
from html import escape
from typing import Any

from llmlab.errors import LabError
from llmlab.views.tokens import BORDER, INK
from llmlab.views.view import View

_CHIP = (
    f"display:inline-block;background:#DDF4FF;color:{INK};border:1px solid {BORDER};"
    "border-radius:6px;padding:2px 10px;margin:2px;font-weight:bold;font-size:1.1em"
)


def pronunciation(word: str, answers: Any, alignment: Any) -> View:
    """An answer with its alignment and its runners-up.

    Args:
        word: what was read.
        answers: the DataFrame of `encoder_decoder.pronounce`, best first.
        alignment: the DataFrame of `encoder_decoder.alignment`, for the best answer.

    Returns:
        A view; its text says the answer, what each sound looked at most, and the runners-up.

    Raises:
        LabError: there are no answers.
    """
    from llmlab.plots import alignment as draw  # here: plots itself imports views

    texts: Sequence[str] = list(answers["answer"])
    shares = [float(share) for share in answers["probability"]]
    if not texts:
        raise LabError("There is no answer to show: pronounce() returns at least one.")
    best = alignment.idxmax(axis=1).tolist()
    looked = ", ".join(
        f"{sound} ← {letter}" for sound, letter in zip(alignment.index, best, strict=True)
    )
    others = [f"{text} {share:.2f}" for text, share in zip(texts[1:], shares[1:], strict=True)]
    runners = f" Runners-up: {'; '.join(others)}." if others else ""
    text = f"{word} → {texts[0]} ({shares[0]:.2f}). Looked most at: {looked}.{runners}"
    chips = "".join(f'<span style="{_CHIP}">{escape(sound)}</span>' for sound in texts[0].split())
    picture = draw(alignment)._repr_mimebundle_()["text/html"]
    bars = "".join(_bar(*one, first=not i) for i, one in enumerate(zip(texts, shares, strict=True)))
    html = (
        f'<div style="max-width:780px" role="status"><div style="margin:4px 0">'
        f"<b>{escape(word)}</b> → {chips}</div>{picture}"
        f'<div style="margin:8px 0 2px">How likely it finds each:</div>{bars}</div>'
    )
    return View(html, text)


def _bar(answer: str, share: float, first: bool) -> str:
    """An answer with its probability as a bar and as a number."""
    weight, fill = ("bold", "#6AA8E0") if first else ("normal", "#B8C0C8")
    return (
        f'<div style="display:flex;align-items:center;gap:8px;font-weight:{weight};margin:2px 0">'
        '<span style="flex:0 0 18em;text-align:right;overflow-wrap:anywhere">'
        f"{escape(answer)}</span>"
        f'<span aria-hidden="true" style="flex:0 1 240px;height:1em;border:1px solid {BORDER};'
        f'border-radius:3px;background:#FFFFFF"><span style="display:block;height:100%;'
        f'width:{100 * share:.1f}%;background:{fill}"></span></span>'
        f"<span>{share:.2f}</span></div>"
    )
