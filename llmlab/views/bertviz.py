"""bertviz's own views, drawn without the network.

bertviz (Jesse Vig, 2019, "A Multiscale Visualization of Attention in the Transformer Model")
loads d3, jQuery and RequireJS from elsewhere when it draws. Here they come with the view: d3 5.7.0
and the slim build of jQuery 3.7.1, unchanged, with their licences in `vendor/`.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from llmlab.errors import LabError
from llmlab.views.attention import plain_tokens, script, stacked
from llmlab.views.view import View

MANY = 32  # tokens past which the view asks before it draws
_KINDS = {"head": "head_view", "model": "model_view"}
_WHAT = {
    "head": "One layer at a time: lines from each query token (left) to the key tokens it looks "
    "at (right), a colour a head. Point at a token to see its lines alone; a click on a coloured "
    "square switches that head off and on, a double click shows it alone.",
    "model": "All heads at a glance: a row a layer, a column a head. A click on one opens it.",
}


def bertviz(
    kind: str,
    attention: Any,
    tokens: Iterable[str],
    key_tokens: Iterable[str] | None = None,
    **options: Any,
) -> View:
    """bertviz's head view or model view, with everything it needs inside.

    The weights are rounded to three digits. Past 32 tokens the view says how much it would draw,
    offers the explorer, and draws only on a click.

    Args:
        kind: "head" (one layer, all its heads) or "model" (all layers and heads).
        attention: weights as for `views.attention`.
        tokens: the query tokens as strings.
        key_tokens: the key tokens, where they are others (cross-attention).
        **options: passed on to bertviz: `layer`, `heads`, `include_layers`, `include_heads`,
            `sentence_b_start`, `display_mode` ("light" unless you ask for "dark").

    Returns:
        A view. Its text says what it shows.

    Raises:
        LabError: an unknown kind or option, or weights and tokens that do not fit each other.
    """
    if kind not in _KINDS:
        raise LabError(f"bertviz has no {kind!r} view here: the kinds are 'head' and 'model'.")
    weights = stacked(attention)
    names = plain_tokens(tokens, "tokens")
    others = names if key_tokens is None else plain_tokens(key_tokens, "key_tokens")
    if weights.shape[2:] != (len(names), len(others)):
        raise LabError(
            f"{len(names)} query and {len(others)} key tokens, but the attention has "
            f"{weights.shape[2]} queries and {weights.shape[3]} keys. Take both from the same "
            "inputs: are special tokens counted in both?"
        )
    made = _made(kind, weights, names, None if key_tokens is None else others, options)
    markup, code = made.split("<script", 1)
    code = code.split(">", 1)[1].rsplit("</script>", 1)[0]

    layers, heads = weights.shape[:2]
    many = max(len(names), len(others)) > MANY
    vendor = Path(__file__).with_name("vendor")
    payload = {
        "html": markup.strip(),
        "script": code,
        "d3": (vendor / "d3.min.js").read_text(encoding="utf-8"),
        "jquery": (vendor / "jquery.slim.min.js").read_text(encoding="utf-8"),
        "wait": many,
    }
    # Each view carries the libraries (136 kB of it), not the first one for all: in Colab
    # each output is a page of its own, and elsewhere the first may have been cleared.
    packed = gzip.compress(json.dumps(payload).encode(), 9, mtime=0)
    over = f"{len(names)} tokens"
    if key_tokens is not None:
        over = f"{len(names)} query and {len(others)} key tokens"
    text = f"bertviz's {kind} view of {layers} layers × {heads} heads over {over}. {_WHAT[kind]}"
    if many:
        drawn = (1 if kind == "head" else layers) * heads * weights.shape[2] * weights.shape[3]
        text += (
            f" It is large: {len(code) / 1e6:.1f} MB of script, and drawn at once {drawn:,} lines, "
            "which can hold up the page for a minute. The explorer shows the same at once: "
            "llmlab.views.attention(attention, tokens)."
        )
    html = (
        '<div class="llmlab-bertviz" data-bertviz="data:application/gzip;base64,'
        f'{base64.b64encode(packed).decode()}"><p>{escape(text)}</p>'
        f'<script type="module">{script("bertviz.js")}</script></div>'
    )
    return View(html, text)


def _made(
    kind: str,
    weights: np.ndarray,
    names: list[str],
    others: list[str] | None,
    options: dict[str, Any],
) -> str:
    """bertviz's HTML with a fixed id and without the addresses of the scripts it would load."""
    import bertviz as module  # a slow import, like torch's
    import torch  # bertviz takes tensors; the explorer does without

    # float64: a float32 that was rounded would be written with sixteen digits again
    rounded = list(torch.from_numpy(np.round(weights.astype(np.float64), 3))[:, None])
    given: dict[str, Any] = {"attention": rounded, "tokens": names}
    if others is not None:
        given = {
            "cross_attention": rounded,
            "decoder_tokens": names,
            "encoder_tokens": others,
        }
    if kind == "model":
        given["display_mode"] = "light"
    try:
        made = getattr(module, _KINDS[kind])(**{**given, **options, "html_action": "return"}).data
    except (TypeError, ValueError, IndexError) as error:
        raise LabError(f"bertviz refused these options: {error}") from None
    made = re.sub(r'<script src="[^"]*"></script>', "", made)
    made = re.sub(r"require\.config\(\{.*?\}\s*\}\);", "", made, flags=re.DOTALL)
    return re.sub(r"bertviz-[0-9a-f]{32}", "llmlab-bertviz-0", made)
