"""The attention explorer: every head of a model in one picture that is also the data.

The weights stand in one PNG, a byte each. Where scripts run, `attention.js` reads them back from
it and draws; where they do not (GitHub, a notebook that is not trusted), the PNG and a table of
the strongest links are what the reader sees.

Where it draws: in JupyterLab 4, in a saved notebook and in nbconvert's HTML the tests see it draw.
Colab shows each output in a frame of its own, in which scripts run, and marks a dark theme as
`html[theme=dark]` (its maintainers in googlecolab/colabtools, issues 6 and 1214). VS Code runs the
scripts of HTML outputs, modules too, in a trusted workspace and marks a dark theme on the body; in
Restricted Mode it renders no HTML and shows the text (extensions/notebook-renderers in its
source). Both are imitated in the tests; neither was tried itself. GitHub drops scripts and styles
and keeps the picture, so that no second one needs to lie beside it (karolzak/ipyplot, issue 3).
"""

import base64
import json
import math
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from llmlab.errors import LabError
from llmlab.views.tokens import visible
from llmlab.views.view import View

LEVELS = 253  # weights 0…1 are the bytes 0…253: never wrong by more than 1/506 < 0.002
MASKED, GAP = 254, 255
LIMIT = 1_500_000  # bytes of HTML past which layers are left out
LISTED = 10  # heads in the table
_STOPS = [(255, 255, 255), (150, 112, 200), (72, 30, 120)]  # weight 0, ¼ and 1


def attention(
    attention: Any,
    tokens: Iterable[str],
    key_tokens: Iterable[str] | None = None,
    *,
    query: Any = None,
    key: Any = None,
    scale: float | None = None,
    layer: int | None = None,
    head: int | None = None,
    layers: Sequence[int] | None = None,
    sentence_b_start: int | None = None,
    attention_mask: Any = None,
) -> View:
    """All heads at a glance, one head in detail: draws offline, in light and dark themes.

    A click or the arrow keys choose a head and a token. Where no later token gets any weight, the
    attention is taken to be causal and that half is drawn as masked.

    Args:
        attention: weights after softmax: a tensor or an array of shape (layer, head, query, key)
            or (layer, 1, head, query, key), or the tuple that transformers returns.
        tokens: the query tokens as strings.
        key_tokens: the key tokens, where they are others (cross-attention).
        query: queries of one layer, (head, query, dimension), or of all layers (one axis more in
            front, and a batch axis of 1 if you like). With `key` it adds a view that shows how
            query · key becomes a weight. After rotary embedding, if the model has one.
        key: keys alike. Fewer heads than queries have are shared in order (grouped heads).
        scale: what query · key is multiplied with before softmax; 1/√dimension by default.
        layer: the layer to open on, and the one whose queries and keys are shown.
        head: the head to open on. By default it opens on the head with the strongest link.
        layers: the layers to show. By default all, or, past 1.5 MB, evenly chosen ones.
        sentence_b_start: position of the first token of a second sentence.
        attention_mask: 1 for a token, 0 for padding, which is drawn as masked; of the keys, in
            cross-attention.

    Returns:
        A view. Its text and its table name the strongest links, one a head, without those to
        the first token and to the token itself, which most heads have. Its weights are exact to
        0.002, the table's to the digits shown.

    Raises:
        LabError: weights and tokens that do not fit each other, or weights that are none.

    >>> import numpy
    >>> weights = numpy.array([[[[1, 0, 0], [0.5, 0.5, 0], [0.1, 0.7, 0.2]]]])
    >>> attention(weights, ["The", "cat", "sat"])
    Attention of 1 layer × 1 head over 3 tokens, causal. Strongest links, beside those to the
    first token and to itself: layer 0, head 0: sat → cat 0.70.
    """
    weights = stacked(attention)
    names = named(tokens, "tokens", weights.shape[2], "queries")
    others = names
    if key_tokens is not None:
        others = named(key_tokens, "key_tokens", weights.shape[3], "keys")
    elif weights.shape[2] != weights.shape[3]:
        raise LabError(
            f"This attention has {weights.shape[2]} queries and {weights.shape[3]} keys, so it is "
            "cross-attention or was made with a cache: give the keys' tokens too, key_tokens=…"
        )
    cross = key_tokens is not None
    split = _split(sentence_b_start, len(names), cross)
    count, heads = weights.shape[:2]
    _within(layer, count, "layer")
    _within(head, heads, "head")
    padding = _padding(attention_mask, len(others))
    masked = np.zeros(weights.shape[2:], bool)
    masked[:, padding] = True
    if not cross:
        masked[padding] = True
    if padding:
        weights = np.where(masked, 0, weights)
    later = np.triu(np.ones(masked.shape, bool), 1)
    causal = not cross and len(names) > 1 and not any(one[:, later].any() for one in weights)
    if causal:
        masked |= later

    shown, note = _chosen(layers, layer, weights, masked)
    links = _strongest(weights, shown, None if cross else int(masked.all(0).argmin()))
    start = [link for link in links if layer in (None, link[0]) and head in (None, link[1])]
    if layer is None:
        layer = start[0][0] if start else shown[0]
    if head is None:
        head = next((h for i, h, *_ in start if i == layer), 0)
    links = links[:LISTED]
    vectors, facts = _vectors(query, key, scale, weights, layer, masked)
    data = {
        "tokens": names,
        "keys": others,
        "layers": shown,
        "heads": list(range(heads)),
        "layer": shown.index(layer),
        "head": head,
        "causal": causal,
        "cross": cross,
        "padding": padding,
        "split": split,
        "qk": facts and {"layer": shown.index(layer), **facts},
    }

    size = f"{count} layer{_s(count)} × {heads} head{_s(heads)}"
    over = f"{len(names)} token{_s(len(names))}"
    if cross:
        over = f"{len(names)} query and {len(others)} key tokens"
    if padding:
        over += f" ({len(padding)} of them padding)" if not cross else f" ({len(padding)} padding)"
    kind = ", cross-attention" if cross else ", causal" if causal else ""
    title = f"Attention of {size} over {over}{kind}."
    beside = "" if cross else ", beside those to the first token and to itself"
    said = f"Strongest links{beside}: " + "; ".join(
        f"layer {i}, head {h}: {names[q]} → {others[k]} {w:.2f}" for i, h, q, k, w in links[:5]
    )
    if not links:
        said = f"There are no links{beside}"
    text = " ".join(part for part in (title, note, f"{said}.") if part)
    return View(
        _html(
            weights[shown] if len(shown) < count else weights,
            masked,
            data,
            title,
            note,
            text,
            links,
            vectors,
            weights[layer, head],
        ),
        text,
    )


def png(rows: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """A PNG of bytes with a palette, or of 16-bit greys; the same input, the same PNG.

    No row is filtered, so that a page can read the numbers back with a few lines.

    Args:
        rows: uint8 of shape (row, column) with a palette, uint16 without.
        palette: uint8 of shape (colour, 3).

    Returns:
        The file.
    """
    height, width = rows.shape
    depth, colour = (8, 3) if palette is not None else (16, 0)
    pixels = rows if palette is not None else rows.astype(">u2").view(np.uint8)
    lines = np.zeros((height, pixels.shape[1] + 1), np.uint8)  # a row's first byte: no filter
    lines[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", _deflated(lines)), (b"IEND", b"")]
    if palette is not None:
        parts.insert(1, (b"PLTE", palette.astype(np.uint8).tobytes()))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _deflated(pixels: np.ndarray) -> bytes:
    """Compressed for a PNG. Weights are noise but for long runs of one value, and looking for
    runs only is ten times faster than level 9 and as small.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return packer.compress(pixels.tobytes()) + packer.flush()


def tiles(weights: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """All heads side by side as bytes: a column a layer, a row a head, a line between them.

    Args:
        weights: (layer, head, query, key) in 0…1.
        masked: (query, key), True where no weight can be.

    Returns:
        uint8 of shape (head · (query + 1) + 1, layer · (key + 1) + 1).
    """
    count, heads, queries, keys = weights.shape
    grid = np.full((heads, queries + 1, count, keys + 1), GAP, np.uint8)
    for place, layer in enumerate(weights):  # one at a time: less memory
        levels = np.rint(np.clip(layer, 0, 1) * LEVELS).astype(np.uint8)
        levels[:, masked] = MASKED
        grid[:, 1:, place, 1:] = levels
    flat = grid.reshape(heads * (queries + 1), count * (keys + 1))
    return np.pad(flat, ((0, 1), (0, 1)), constant_values=GAP)


def plain_tokens(tokens: Iterable[Any], what: str) -> list[str]:
    """Tokens as strings, with a sign for each character that leaves no mark.

    Raises:
        LabError: a text or ids instead of tokens.
    """
    if isinstance(tokens, str):
        raise LabError(
            f"{what} is one text; it must be the list of its tokens: "
            "tokenizer.convert_ids_to_tokens(inputs['input_ids'][0])."
        )
    names = list(tokens)
    if not all(isinstance(name, str) for name in names):
        raise LabError(
            f"{what} must be strings; this list holds a {type(names[0]).__name__}. For ids write "
            "tokenizer.convert_ids_to_tokens(ids)."
        )
    # The space that byte-level BPE (Ġ) and SentencePiece (▁) write in a way of their own.
    return [visible(name.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n")) for name in names]


def stacked(attention: Any) -> np.ndarray:
    """Attention weights as one float array (layer, head, query, key).

    Raises:
        LabError: they are empty, of another shape, of several texts, or not weights.
    """
    how = "Expected: (layer, head, query, key), or (layer, 1, head, query, key) for one text."
    if attention is None or (isinstance(attention, (tuple, list)) and not len(attention)):
        raise LabError(
            "There are no attention weights here. With its default implementation a model does "
            "not return them: load it with attn_implementation='eager' and call it with "
            "output_attentions=True."
        )
    if isinstance(attention, (tuple, list)):
        parts = [as_array(part) for part in attention]
        if len({part.shape for part in parts}) > 1:
            raise LabError(f"The layers differ in shape: {sorted({p.shape for p in parts})}. {how}")
        weights = np.stack(parts)
    else:
        weights = as_array(attention)
    if weights.ndim == 5:
        if weights.shape[1] != 1:
            raise LabError(
                f"This attention is of {weights.shape[1]} texts: {weights.shape}. The view shows "
                "one: attention[:, :1] is the first."
            )
        weights = weights[:, 0]
    if weights.ndim != 4:
        raise LabError(f"This attention has shape {tuple(weights.shape)}. {how}")
    if not weights.size:
        raise LabError(
            f"This attention is empty: {tuple(weights.shape)}. Was the text empty? {how}"
        )
    if not np.isfinite(weights).all():
        raise LabError(
            "This attention holds nan or inf. A row that is masked as a whole does that: is a "
            "text of padding only among the inputs, or does the model overflow in float16?"
        )
    if weights.min() < -0.01 or weights.max() > 1.01:
        raise LabError(
            f"Attention weights lie between 0 and 1; these between {weights.min():.2f} and "
            f"{weights.max():.2f}. Are they scores before softmax? Then: scores.softmax(-1)."
        )
    return weights


def as_array(values: Any) -> np.ndarray:
    """A tensor of any dtype (bfloat16 too), an array or nested lists as float32 or float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values if values.element_size() == 8 else values.float()).numpy()
    try:
        array = np.asarray(values)
        # float32 where it will do: a long text's weights fill half a gigabyte even so
        return array.astype(np.float32 if array.itemsize <= 4 else np.float64, copy=False)
    except (TypeError, ValueError):
        raise LabError(
            f"Attention weights are a tensor or an array; this is a {type(values).__name__}."
        ) from None


def named(tokens: Iterable[str], what: str, expected: int, axis: str) -> list[str]:
    """The tokens to show, as many as the attention has."""
    names = plain_tokens(tokens, what)
    if len(names) != expected:
        raise LabError(
            f"{len(names)} {what}, but the attention has {expected} {axis}. Take both from the "
            "same inputs: are special tokens counted in both?"
        )
    return names


def _split(start: int | None, count: int, cross: bool) -> int:
    """The first position of the second sentence; 0 if there is none."""
    if start is None:
        return 0
    if cross:
        raise LabError("sentence_b_start is for self-attention over two sentences, not for cross.")
    if not 0 < start < count:
        raise LabError(
            f"sentence_b_start is the position of the second sentence's first token, between 1 "
            f"and {count - 1} here; it was {start}."
        )
    return int(start)


def _padding(mask: Any, count: int) -> list[int]:
    """The positions of the padding among the keys."""
    if mask is None:
        return []
    real = np.squeeze(as_array(mask)) if count > 1 else as_array(mask).reshape(-1)
    if real.shape != (count,) or not np.isin(real, (0, 1)).all() or not real.any():
        raise LabError(
            f"attention_mask must be 1 for a token and 0 for padding, {count} of them here, as the "
            f"tokenizer returns it for one text; this has shape {real.shape}."
        )
    return np.flatnonzero(real == 0).tolist()


def _within(place: int | None, count: int, what: str) -> None:
    if place is not None and not 0 <= place < count:
        raise LabError(f"There is no {what} {place} here: the {what}s are 0 to {count - 1}.")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _chosen(
    layers: Sequence[int] | None, layer: int | None, weights: np.ndarray, masked: np.ndarray
) -> tuple[list[int], str]:
    """The layers to show, and a sentence if they are not all."""
    count = weights.shape[0]
    if layers is not None:
        for one in layers:
            _within(one, count, "layer")
        shown = sorted(set(layers) | ({layer} if layer is not None else set()))
        if not shown:
            raise LabError("layers is empty: name at least one, or leave it out for all.")
        note = "" if len(shown) == count else f"Shown: layers {', '.join(map(str, shown))}."
        return [int(one) for one in shown], note
    everything = list(range(count))
    if weights.size < LIMIT / 2:  # most weights take less than a byte in base64
        return everything, ""
    # in base64
    sizes = [len(_deflated(tiles(weights[i : i + 1], masked))) * 4 / 3 for i in everything]
    room = LIMIT - 100_000  # for the script, the table and the tokens
    if sum(sizes) <= room:
        return everything, ""
    for fitting in range(count - 1, 0, -1):
        shown = sorted({round(i) for i in np.linspace(0, count - 1, fitting)})
        if layer is not None and layer not in shown:
            shown[min(range(len(shown)), key=lambda i: abs(shown[i] - layer))] = layer
        if sum(sizes[i] for i in shown) <= room:
            break
    note = (
        f"All {count} layers would take {sum(sizes) / 1e6:.1f} MB, so only layers "
        f"{', '.join(map(str, shown))} are shown; choose others with layers=[…]."
    )
    return shown, note


def _strongest(
    weights: np.ndarray, shown: list[int], first: int | None
) -> list[tuple[int, int, int, int, float]]:
    """The strongest link of each head, strongest first: layer, head, query, key, weight.

    Without those to the first token and to itself, in self-attention (`first` is not None).
    Compared after rounding, ties in order of layer and head: the same on every machine.
    """
    links = []
    for i in shown:
        some = np.round(weights[i], 2)
        if first is not None:
            places = np.arange(some.shape[-1])
            some[:, places, places] = 0
            some[:, :, first] = 0
        for h, place in enumerate(some.reshape(len(some), -1).argmax(-1)):
            q, k = divmod(int(place), some.shape[-1])
            if (weight := float(some[h, q, k])) > 0:
                links.append((i, h, q, k, weight))
    return sorted(links, key=lambda link: (-link[4], link[:2]))


def _vectors(
    query: Any,
    key: Any,
    scale: float | None,
    weights: np.ndarray,
    layer: int,
    masked: np.ndarray,
) -> tuple[bytes | None, dict[str, Any] | None]:
    """Queries and keys of a layer as a 16-bit PNG, and what is needed to read them."""
    if query is None and key is None:
        return None, None
    if query is None or key is None:
        raise LabError("query and key belong together: give both, or neither.")
    heads, queries, keys = weights.shape[1:]
    q = _one_layer(query, "query", weights.shape[0], layer, queries)
    k = _one_layer(key, "key", weights.shape[0], layer, keys)
    if q.shape[0] != heads or heads % k.shape[0] or q.shape[2] != k.shape[2]:
        raise LabError(
            f"Layer {layer} has {heads} heads in the attention; query has shape {q.shape} and key "
            f"{k.shape}, (head, token, dimension). Both need the same dimension, query {heads} "
            "heads, and key as many or a divisor of it."
        )
    scale = 1 / math.sqrt(q.shape[2]) if scale is None else float(scale)
    scores = q @ k.repeat(heads // k.shape[0], axis=0).swapaxes(1, 2) * scale
    scores[:, masked] = -1e30  # not -inf: a query that is padding has no key at all
    shares: np.ndarray = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    agrees = bool(np.abs(np.where(masked, 0, shares - weights[layer])).max() < 0.02)
    # A power of two as range: the number in the page is the same on every machine.
    ranges = [2.0 ** math.ceil(math.log2(max(np.abs(x).max(), 1e-9))) for x in (q, k)]
    levels = [
        np.rint(x.reshape(-1, x.shape[2]) / most * 32767 + 32768).astype(np.uint16)
        for x, most in zip((q, k), ranges, strict=True)
    ]
    facts = {
        "dim": q.shape[2],
        "keyHeads": k.shape[0],
        "queryRange": ranges[0],
        "keyRange": ranges[1],
        "scale": scale,
        "agrees": agrees,
    }
    return png(np.concatenate(levels)), facts


def _one_layer(values: Any, what: str, count: int, layer: int, length: int) -> np.ndarray:
    """(head, token, dimension) of the layer."""
    vectors = values[layer] if isinstance(values, (tuple, list)) else values
    array = as_array(vectors)
    if array.ndim == 5 or (array.ndim == 4 and array.shape[0] == count and array.shape[0] != 1):
        array = array[layer]
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[1] != length or not np.isfinite(array).all():
        raise LabError(
            f"{what} must hold finite numbers of shape (head, token, dimension) with {length} "
            f"tokens, or the same of every layer; this has shape {array.shape}."
        )
    return array


def _palette() -> np.ndarray:
    """The colours of the bytes: weights (by their root, so that small ones show), mask, gap."""
    places = 2 * np.sqrt(np.arange(LEVELS + 1) / LEVELS)
    ramp = np.stack([np.interp(places, [0, 1, 2], part) for part in zip(*_STOPS, strict=True)], 1)
    return np.rint(np.vstack([ramp, [[228, 228, 232], [106, 111, 117]]])).astype(np.uint8)


def _address(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def _html(
    weights: np.ndarray,
    masked: np.ndarray,
    data: dict[str, Any],
    title: str,
    note: str,
    text: str,
    links: list[tuple[int, int, int, int, float]],
    vectors: bytes | None,
    head: np.ndarray,
) -> str:
    """Picture, tables and script."""
    pixels = tiles(weights, masked)
    # Small pictures are enlarged by a whole number: every weight stays a sharp square.
    width = pixels.shape[1] * max(1, min(16, 900 // pixels.shape[1], 500 // pixels.shape[0]))
    # (the width is an attribute: it stays where styles are dropped)
    look = "max-width:100%;height:auto;image-rendering:pixelated;background:#FFFFFF;padding:4px"
    caption = (
        "A column is a layer, a row a head. In each square a row is a query token, a column the "
        "key token it looks at; darker is more" + (", grey is masked." if masked.any() else ".")
    )
    names, keys = data["tokens"], data["keys"]
    number, place = data["layers"][data["layer"]], data["head"]
    tables = ""
    if links:
        rows = [[i, h, names[q], keys[k], f"{w:.2f}"] for i, h, q, k, w in links]
        tables += _table("Heads and their strongest links", ["layer", "head", "from", "to"], rows)
    rounded = np.round(head, 2)
    best = [(q, int(row.argmax())) for q, row in enumerate(rounded) if not masked[q].all()]
    best = sorted(sorted(best, key=lambda pair: -rounded[pair])[:24])
    rows = [[names[q], keys[k], f"{rounded[q, k]:.2f}"] for q, k in best]
    tables += _table(
        f"Layer {number}, head {place}: where each token looks most", ["from", "to"], rows
    )
    attributes = escape(json.dumps(data, ensure_ascii=False, separators=(",", ":")), quote=True)
    qk = f' data-qk="{_address(vectors)}"' if vectors else ""
    said = f"<p>{escape(note)}</p>" if note else ""
    return (
        f'<div class="llmlab-attention" data-attention="{attributes}"{qk}>'
        f'<figure style="margin:0"><img alt="{escape(text, quote=True)}" width="{width}" '
        f'style="{look}" src="{_address(png(pixels, _palette()))}">'
        f"<figcaption>{caption}</figcaption></figure>"
        f"<p>{escape(title)}</p>{said}"
        f"<details open><summary>The strongest links as a table</summary>{tables}</details>"
        f'<script type="module">{script("attention.js")}</script></div>'
    )


def _table(caption: str, columns: list[str], rows: list[list[Any]]) -> str:
    """A table with heads that a screen reader announces."""
    head = "".join(f'<th scope="col">{name}</th>' for name in [*columns, "weight"])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def script(name: str) -> str:
    """A script that lies beside this file, without what only its readers need."""
    source = Path(__file__).with_name(name).read_text(encoding="utf-8")
    lines = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())
