"""The probability landscape: what temperature, top-k, top-p and min-p leave of the next token.

All logits stand in the page, compressed. Where scripts run, `sampler.js` computes with them what
`llmlab.generation.probabilities` computes; where they do not, a table of the start is shown.
"""

import base64
import gzip
import json
import math
import struct
from html import escape
from typing import Any

import numpy as np

from llmlab.errors import LabError
from llmlab.views.attention import script
from llmlab.views.tokens import visible
from llmlab.views.view import View

NAMED = 2000  # tokens whose text the page knows: more can hardly be seen
LISTED = 10  # tokens in the table that stands in the page


def sampler(
    logits: Any,
    tokenizer: Any,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    rows: int = 20,
) -> View:
    """Sliders over one distribution: what stays, what is cut and by which, and draws from it.

    It needs no kernel. The filters work in the order of `generate`: temperature, top-k, top-p,
    min-p. As code: `llmlab.generation.probabilities(logits, temperature=0.7, top_k=50)`.

    Args:
        logits: of one position, (vocabulary,): outputs.logits[0, -1].
        tokenizer: of the same model.
        temperature: where its slider stands at first.
        top_k: likewise; 0: off.
        top_p: likewise; 1: off.
        min_p: likewise; 0: off.
        rows: how many of the likeliest tokens are drawn as bars, 1 to 200.

    Returns:
        A view. Its text and its table hold the ten likeliest tokens under the first settings. Its
        probabilities are exact to the digits shown; of how many tokens stay, numbers above 2000
        are exact to a hundredth (float16).

    Raises:
        LabError: logits of several positions, NaN or +inf among them, a tokenizer with more tokens
            than there are logits, or a setting out of range.

    >>> import torch
    >>> from transformers import AutoTokenizer
    >>> import llmlab
    >>> tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    >>> logits = torch.full((50257,), -30.0)
    >>> logits[tokenizer(" Paris the a").input_ids] = torch.tensor([3.0, 2.0, 1.0])
    >>> sampler(logits, tokenizer, top_k=2)
    Next token at temperature 1, top-k 2, top-p off, min-p off: 2 of 50,257 tokens stay.
    ␣Paris 0.731, ␣the 0.269.
    """
    from llmlab import generation  # torch and transformers: only where they are needed

    values = _one_position(logits, tokenizer)
    if not isinstance(rows, int) or not 1 <= rows <= 200:
        raise LabError(f"rows is how many bars are drawn, 1 to 200; it was {rows!r}.")
    settings: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    left = generation.filtered(values, **settings)
    probs = left.softmax(-1).numpy()
    own = values.softmax(-1).numpy()

    # a thousandth of a logit makes no rank: the same order on every machine
    order = np.lexsort((np.arange(len(probs)), -np.round(values.numpy(), 3)))[:LISTED]
    names = {int(i): visible(generation.text_of(tokenizer, int(i))) for i in order}
    kept = int(left.isfinite().sum())
    title = f"Next token at {_told(settings)}: {_stay(kept, len(probs))}."
    said = ", ".join(f"{name} {probs[i]:.3f}" for i, name in names.items() if left[i].isfinite())
    table = [
        [str(rank), name, str(i), probs[i] if left[i].isfinite() else None, own[i]]
        for rank, (i, name) in enumerate(names.items(), 1)
    ]
    data = _packed(values.numpy(), tokenizer, settings, rows)
    html = (
        f'<div class="llmlab-sampler" data-sampler="data:application/gzip;base64,{data}">'
        f"<div data-still>{_table(title, table)}</div>"
        f'<script type="module">{script("sampler.js")}</script></div>'
    )
    return View(html, f"{title} {said}.")


def _one_position(logits: Any, tokenizer: Any) -> Any:
    """The logits as a float32 tensor (vocabulary,) on the CPU."""
    import torch

    values = torch.as_tensor(logits).detach().float().cpu() if not isinstance(logits, str) else None
    if values is not None and values.ndim == 2 and values.shape[0] == 1:
        values = values[0]
    if values is None or values.ndim != 1 or not len(values):
        shape = "a text" if values is None else f"of shape {tuple(values.shape)}"
        raise LabError(
            "The sampler shows the logits of one position, a row as long as the vocabulary; this "
            f"is {shape}. Of a model's outputs take the last position: outputs.logits[0, -1]."
        )
    if not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise LabError(
            f"The sampler needs the tokenizer itself to name the tokens, not {tokenizer!r:.60}: "
            "views.sampler(outputs.logits[0, -1], tokenizer)."
        )
    if len(values) < tokenizer.vocab_size:
        raise LabError(
            f"There are {len(values):,} logits, and this tokenizer has {tokenizer.vocab_size:,} "
            "tokens. Load model and tokenizer from the same name."
        )
    return values


def _packed(values: np.ndarray, tokenizer: Any, settings: dict[str, Any], rows: int) -> str:
    """What the page needs, compressed, as base64.

    The length of the JSON (4 bytes) and the JSON, filled up to a multiple of 4; then, likeliest
    first and with the highest as 0 (so that those that matter keep most digits): the logits whose
    tokens have names as float32, and all logits as float16.
    """
    from llmlab import generation

    order = np.argsort(-values, kind="stable")
    lowered = (values[order] - values[order[0]]).astype(np.float32)
    ids = [int(i) for i in order[:NAMED]]
    known = {
        **settings,
        "rows": rows,
        "size": len(values),
        "ids": ids,
        "tokens": [visible(generation.text_of(tokenizer, i)) for i in ids],
    }
    head = json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 4)
    # float16 ends at -65504; what lies below has no chance, but -inf would say that it is cut
    small = np.where(np.isinf(lowered), lowered, np.maximum(lowered, -65504)).astype("<f2")
    exact = lowered[: len(ids)].astype("<f4")
    whole = struct.pack("<I", len(head)) + head + exact.tobytes() + small.tobytes()
    return base64.b64encode(gzip.compress(whole, 9, mtime=0)).decode()


def _told(settings: dict[str, Any]) -> str:
    """The settings in words, in the order in which they work."""
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    parts = []
    for name, value in settings.items():
        shown = "off" if off.get(name) == value else f"{value:g}"
        parts.append(f"{name.replace('_', '-')} {shown}")
    return ", ".join(parts)


def _stay(kept: int, size: int) -> str:
    whole = f"{kept:,} of {size:,} tokens"
    return f"{whole} stay{'s' if kept == 1 else ''}" if kept < size else f"all {size:,} tokens stay"


def _table(caption: str, rows: list[list[Any]]) -> str:
    """A table with heads that a screen reader announces, and bars where styles are kept."""
    heads = ["rank", "token", "id", "probability", "", "of the model itself"]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = ""
    for rank, token, number, share, own in rows:
        long = math.ceil(160 * round(float(share or 0), 3))
        bar = f'<div style="width:{long}px;height:0.9em;background:#5B7FCB"></div>'
        said = "cut" if share is None else f"{share:.3f}"
        cells = [rank, f"<code>{escape(token)}</code>", number, said, bar, f"{own:.3f}"]
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
