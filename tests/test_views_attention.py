"""The attention explorer and bertviz offline: the data in the picture, sizes, text, bad input."""

import base64
import gzip
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import llmlab
from llmlab import LabError, plots
from llmlab.views import View, attention, bertviz
from llmlab.views.attention import GAP, LEVELS, MASKED, png, tiles
from tests.tools.notebooks import sanitised

WORDS = ["The", " animal", " was", " tired", " and", " it", " sat", " down"]


def softmax(scores):
    shares = numpy.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def made(layers=3, heads=2, queries=8, keys=None, causal=False, seed=0, sharp=3.0):
    """Weights of a random model: (layer, head, query, key), rows that sum to 1."""
    draw = numpy.random.default_rng(seed)
    scores = draw.normal(size=(layers, heads, queries, keys or queries)) * sharp
    if causal:
        scores[..., numpy.triu(numpy.ones((queries, queries), bool), 1)] = -numpy.inf
    return softmax(scores)


def facts(view):
    """What the page knows beside the picture."""
    return json.loads(unescape(re.search(r'data-attention="([^"]*)"', view.html)[1]))


def pictures(view):
    return [
        base64.b64decode(code)
        for code in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", view.html)
    ]


def decoded(view):
    """Bytes of the picture as (layer, head, query, key), read by another library than ours."""
    data = facts(view)
    picture = next(p for p in pictures(view) if Image.open(io.BytesIO(p)).mode == "P")
    pixels = numpy.asarray(Image.open(io.BytesIO(picture)))
    queries, keys = len(data["tokens"]), len(data["keys"])
    layers, heads = len(data["layers"]), len(data["heads"])
    assert pixels.shape == (heads * (queries + 1) + 1, layers * (keys + 1) + 1)
    assert (pixels[:: queries + 1] == GAP).all()
    assert (pixels[:, :: keys + 1] == GAP).all()
    grid = pixels[:-1, :-1].reshape(heads, queries + 1, layers, keys + 1)[:, 1:, :, 1:]
    return grid.transpose(2, 0, 1, 3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 8), (1, 1, 2), (2, 5, 33)])
def test_the_picture_holds_every_weight(shape, causal):
    weights = made(*shape, causal=causal)
    names = [f"t{i}" for i in range(shape[2])]
    bytes_ = decoded(attention(weights, names))
    later = numpy.triu(numpy.ones(shape[2:] * 2, bool), 1)
    if causal:
        assert (bytes_[..., later] == MASKED).all()
        assert (bytes_[..., ~later] <= LEVELS).all()
    read = numpy.where(bytes_ == MASKED, 0, bytes_) / LEVELS
    assert numpy.abs(read - weights).max() <= 0.002


def test_the_picture_is_light_where_nothing_is_and_dark_where_all_is():
    weights = numpy.zeros((1, 1, 2, 2))
    weights[..., 0] = 1
    image = Image.open(io.BytesIO(pictures(attention(weights, ["a", "b"]))[0])).convert("L")
    assert numpy.asarray(image)[1, 1] < 80  # from a to a: 1
    other = Image.open(io.BytesIO(pictures(attention(weights[..., ::-1], ["a", "b"]))[0]))
    assert numpy.asarray(other.convert("L"))[1, 1] == 255  # from a to a: 0


def test_sixteen_bit_pictures_keep_their_numbers():
    numbers = numpy.arange(0, 65536, 7, dtype=numpy.uint16)[:9000].reshape(90, 100)
    image = Image.open(io.BytesIO(png(numbers)))
    assert (numpy.asarray(image).astype(int) == numbers).all()


def test_causal_is_seen_in_the_weights():
    names = WORDS
    assert facts(attention(made(causal=True), names))["causal"]
    assert not facts(attention(made(), names))["causal"]
    assert not facts(attention(made(causal=True), names, key_tokens=names))["causal"]
    assert "causal" in attention(made(causal=True), names).text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_and_form_gives_the_same_view(dtype):
    # weights that all these types hold exactly
    exact = torch.tensor([[[[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25]]]], dtype=dtype)
    names = ["a", "b", "c"]
    expected = attention(exact.double().numpy(), names).html
    assert attention(exact, names).html == expected
    assert attention(exact[:, None], names).html == expected
    assert attention((exact,), names).html == expected  # as transformers returns it
    assert attention(exact.requires_grad_(), names).html == expected


def test_the_same_weights_give_the_same_html():
    first, second = (attention(made(), WORDS, layer=1) for _ in range(2))
    assert first.html == second.html
    assert "id=" not in first.html.split("<script")[0]


def test_noise_of_another_processor_is_not_seen_by_nbval():
    weights = made(6, 4, seed=3)
    noise = numpy.random.default_rng(1).normal(size=weights.shape) * 1e-6
    views = [attention(w, WORDS) for w in (weights, numpy.clip(weights + noise, 0, 1))]
    assert views[0].text == views[1].text
    assert sanitised(views[0].html) == sanitised(views[1].html)


def test_text_and_table_name_the_strongest_links():
    weights = numpy.full((2, 2, 4, 4), 0.1)
    weights[..., 0] = 0.7  # every head looks at the first token: left out
    weights[1, 0, 2] = [0.1, 0.82, 0.05, 0.03]
    weights[0, 1, 3] = [0.2, 0.1, 0.6, 0.1]
    view = attention(weights, ["The", "Ġcat", "Ġsat", "▁down"])
    assert isinstance(view, View)
    links = view.text.split("itself: ")[1].split("; ")
    assert links[0] == "layer 1, head 0: ␣sat → ␣cat 0.82"
    assert links[1] == "layer 0, head 1: ␣down → ␣sat 0.60"
    data = facts(view)
    assert (data["layer"], data["head"]) == (1, 0)  # it opens on the strongest
    table = view.html.split("<table>")[1].split("</table>")[0]
    first = re.findall(r"<td>(.*?)</td>", table)[:5]
    assert first == ["1", "0", "␣sat", "␣cat", "0.82"]
    assert re.findall(r'<th scope="col">(.*?)</th>', table)[-1] == "weight"
    assert f'alt="{view.text}"' in view.html  # nothing in it needs escaping here
    chosen = facts(attention(weights, list("abcd"), layer=0))
    assert (chosen["layer"], chosen["head"]) == (0, 1)
    chosen = facts(attention(weights, list("abcd"), layer=0, head=0))
    assert (chosen["layer"], chosen["head"]) == (0, 0)


def test_cross_attention_has_two_rows_of_tokens():
    view = attention(made(2, 2, 3, 5), ["le", "chat", "dort"], ["the", "cat", "is", "asleep", "."])
    assert decoded(view).shape == (2, 2, 3, 5)
    assert "3 query and 5 key tokens, cross-attention" in view.text
    data = facts(view)
    assert (data["tokens"][1], data["keys"][1]) == ("chat", "cat")


# ---- padding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_is_masked_and_the_rest_is_as_without_it(side, causal):
    """The same text with three tokens of padding, whose rows hold what models put there."""
    weights = made(queries=5, causal=causal)
    padded = numpy.full((3, 2, 8, 8), 1 / 8)
    inside = slice(3, 8) if side == "left" else slice(0, 5)
    padded[:, :, inside] = 0
    padded[:, :, inside, inside] = weights
    mask = torch.zeros(1, 8, dtype=torch.long)
    mask[0, inside] = 1
    names = [f"t{i}" for i in range(5)]
    pads = ["[PAD]"] * 3
    view = attention(padded, pads + names if side == "left" else names + pads, attention_mask=mask)
    alone = attention(weights, names)
    bytes_ = decoded(view)
    assert (bytes_[:, :, inside, inside] == decoded(alone)).all()
    outside = mask[0].numpy() == 0
    assert (bytes_[:, :, outside] == MASKED).all() and (bytes_[..., outside] == MASKED).all()
    assert facts(view)["padding"] == numpy.flatnonzero(outside).tolist()
    assert facts(view)["causal"] == causal
    assert view.text == alone.text.replace("5 tokens", "8 tokens (3 of them padding)")
    assert "<td>[PAD]</td>" not in view.html  # no row of the tables is about padding
    assert "grey is masked" in view.html


def test_padding_of_the_other_text_in_cross_attention():
    weights = made(2, 2, 3, 5)
    weights[..., 4] = 0
    view = attention(weights, list("abc"), list("vwxyz"), attention_mask=[1, 1, 1, 1, 0])
    assert (decoded(view)[..., 4] == MASKED).all()
    assert (decoded(view)[..., :4] != MASKED).all()
    assert "3 query and 5 key tokens (1 padding), cross-attention" in view.text


def test_queries_and_keys_explain_the_weights_beside_padding():
    query, key, weights = queries_and_keys()
    mask = numpy.array([1] * 6 + [0, 0])
    view = attention(weights, WORDS, query=query, key=key, attention_mask=mask)
    assert facts(view)["qk"]["agrees"]
    assert not facts(attention(weights, WORDS, query=-query, key=key, attention_mask=mask))["qk"][
        "agrees"
    ]


def test_one_token():
    view = attention(numpy.ones((2, 2, 1, 1)), ["Hello"])
    assert view.text == (
        "Attention of 2 layers × 2 heads over 1 token. "
        "There are no links, beside those to the first token and to itself."
    )
    assert (decoded(view) == LEVELS).all()
    assert "<td>Hello</td><td>Hello</td><td>1.00</td>" in view.html


def test_one_token_in_all_other_pictures():
    one = torch.ones(2, 2, 1, 1)
    beside = "but to the first token and to itself"
    assert plots.head(one[0, 0], ["Hi"]).alt == f"Strongest links: none {beside}."
    assert plots.heads(one[0], ["Hi"]).alt.endswith("head 0: no link; head 1: no link.")
    for kind in ("head", "model"):
        assert "2 layers × 2 heads over 1 tokens" in bertviz(kind, one, ["Hi"]).text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_all_other_pictures(dtype):
    exact = torch.tensor([[[[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25]]]])
    half, names = exact.to(dtype), ["a", "b", "c"]
    assert bertviz("head", half, names).html == bertviz("head", exact, names).html
    assert plots.head(half[0, 0], names).alt == plots.head(exact[0, 0], names).alt
    assert plots.heads(half[0], names).alt == plots.heads(exact[0], names).alt


def test_layers_can_be_chosen():
    weights = made(5)
    view = attention(weights, WORDS, layers=[4, 1])
    assert facts(view)["layers"] == [1, 4]
    assert "Shown: layers 1, 4." in view.text
    assert numpy.abs(decoded(view) / LEVELS - weights[[1, 4]]).max() <= 0.002
    assert facts(attention(weights, WORDS, layers=[1], layer=3))["layers"] == [1, 3]


def heads_of_a_model(layers, heads, length):
    """Weights as spread as a small model's: a sink, the near past, and a few far tokens."""
    draw = numpy.random.default_rng(0)
    places = numpy.arange(length)
    distance = places[:, None] - places
    slopes = draw.uniform(0, 0.5, size=(layers, heads, 1, 1))
    scores = draw.normal(size=(layers, heads, length, length)) - slopes * numpy.abs(distance)
    scores[..., 0] += draw.uniform(0, 6, size=(layers, heads, 1))
    scores[..., distance < 0] = -numpy.inf
    return softmax(scores)


def test_64_tokens_of_270_heads_take_under_half_a_megabyte():
    view = attention(heads_of_a_model(30, 9, 64), [f" token{i}" for i in range(64)])
    assert len(view.html.encode()) <= 450_000
    assert len(facts(view)["layers"]) == 30


def test_long_texts_show_fewer_layers_and_say_so():
    weights = heads_of_a_model(30, 9, 256).astype(numpy.float32)
    names = [f" token{i}" for i in range(256)]
    view = attention(weights, names, layer=17)
    layers = facts(view)["layers"]
    assert 2 <= len(layers) < 30
    assert 17 in layers
    # as many as fit, and not one of them more
    assert 1_500_000 * 0.85 < len(view.html.encode()) <= 1_500_000
    assert re.search(r"All 30 layers would take \d\.\d MB, so only layers \d", view.text)
    assert "layers=[…]" in view.text
    assert (
        f"<p>{view.text[view.text.index('All 30') : view.text.index(' Strongest')]}</p>"
        in view.html
    )


class Outside(HTMLParser):
    """Every address that a page asks for."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.found.append(value)


NAMESPACES = {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for


def test_no_view_has_an_address_of_the_outside():
    views = [
        attention(made(), WORDS),
        bertviz("head", made(), WORDS),
        bertviz("model", made(), WORDS),
    ]
    for view in views:
        assert all(a.startswith("data:") for a in Outside(view.html).found)
        assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s'\"<]*", view.html)) <= NAMESPACES
        assert "import(" not in view.html
        assert "fetch(" not in view.html
    for view in views[1:]:
        data = unpacked(view)
        assert "http" not in data["html"]
        assert "require.config" not in data["script"]
        found = re.findall(r"https?://[^\s'\"]*", data["script"])
        assert [a for a in found if not a.startswith("https://github.com/tensorflow/")] == []


class Sanitised(HTMLParser):
    """HTML as a notebook that is not trusted shows it: no scripts, styles, data attributes."""

    def __init__(self, html):
        super().__init__()
        self.html, self.inside = "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style"):
            self.inside += 1
            return
        kept = [(n, v) for n, v in attrs if n in ("src", "alt", "scope", "open")]
        self.html += f"<{tag}" + "".join(f' {n}="{v}"' for n, v in kept) + ">"

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside -= 1
        else:
            self.html += f"</{tag}>"

    def handle_data(self, data):
        if not self.inside:
            self.html += data


def test_sanitised_it_still_shows_the_picture_and_the_table():
    view = attention(made(), WORDS)
    left = Sanitised(view.html).html
    assert "llmlabAttention" not in left
    image = re.search(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', left)
    assert image[1] == view.text
    assert Image.open(io.BytesIO(base64.b64decode(image[2]))).size == (3 * 9 + 1, 2 * 9 + 1)
    assert left.count("<table>") == 2
    assert "<details open=" in left  # nothing but a script closes it
    assert "A column is a layer" in left
    assert Sanitised(bertviz("head", made(), WORDS).html).html.count("bertviz's head view") == 1


def test_tokens_that_look_like_html_stay_tokens():
    evil = ["<script>alert(1)</script>", '"&amp;', "</div>", "'", "\n", "", "𝛼"]
    view = attention(made(queries=7), evil)
    assert view.html.count("<script") == 1
    assert "alert(1)<" not in view.html
    assert facts(view)["tokens"] == [*evil[:4], "⏎", "⟨empty⟩", "𝛼"]


# ---- queries and keys -------------------------------------------------------------------------


def queries_and_keys(heads=4, shared=2, length=8, width=16):
    draw = numpy.random.default_rng(5)
    query = draw.normal(size=(heads, length, width)) * 3
    key = draw.normal(size=(shared, length, width)) * 2
    scores = query @ key.repeat(heads // shared, axis=0).swapaxes(1, 2) / width**0.5
    scores[:, numpy.triu(numpy.ones((length, length), bool), 1)] = -numpy.inf
    return query, key, softmax(scores)[None]


def vectors(view):
    """Queries and keys as the page reads them."""
    data = facts(view)
    qk = data["qk"]
    numbers = numpy.asarray(Image.open(io.BytesIO(pictures(view)[0]))).astype(float)
    numbers = (numbers - 32768) / 32767
    rows = len(data["heads"]) * len(data["tokens"])
    return numbers[:rows] * qk["queryRange"], numbers[rows:] * qk["keyRange"]


def test_queries_and_keys_make_the_weights():
    query, key, weights = queries_and_keys()
    view = attention(weights, WORDS, query=query, key=key)
    qk = facts(view)["qk"]
    assert qk["agrees"]
    assert (qk["dim"], qk["keyHeads"], qk["scale"]) == (16, 2, 0.25)
    q, k = vectors(view)
    q, k = q.reshape(4, 8, 16), k.reshape(2, 8, 16)
    assert numpy.abs(q - query).max() < 1e-3
    assert numpy.abs(k - key).max() < 1e-3
    score = (q[3] @ k[1].T / 4)[5, :6]
    assert numpy.abs(softmax(score) - weights[0, 3, 5, :6]).max() < 1e-3


def test_weights_that_queries_and_keys_do_not_explain_are_told():
    query, key, weights = queries_and_keys()
    assert not facts(attention(weights, WORDS, query=query * 2, key=key))["qk"]["agrees"]
    half = attention(weights, WORDS, query=query * 2, key=key, scale=0.125)
    assert facts(half)["qk"]["agrees"]


def test_queries_of_all_layers_give_those_of_the_chosen_one():
    query, key, weights = queries_and_keys()
    three = numpy.concatenate([made(2, 4, causal=True), weights])
    one = attention(three, WORDS, query=query, key=key, layer=2)
    all_query = torch.tensor(numpy.stack([query * 0, query * 7, query]))
    all_key = torch.tensor(numpy.stack([key * 0, key * 7, key]))
    assert attention(three, WORDS, query=all_query, key=all_key, layer=2).html == one.html
    batch = attention(three, WORDS, query=all_query[:, None], key=all_key[:, None], layer=2)
    assert batch.html == one.html


# ---- bad input --------------------------------------------------------------------------------

BAD = {
    "too few tokens": (lambda: attention(made(), WORDS[:5]), "5 tokens, but the attention has 8"),
    "too many keys": (
        lambda: attention(made(queries=8, keys=5), WORDS, WORDS),
        "8 key_tokens, but the attention has 5 keys",
    ),
    "cross without keys": (lambda: attention(made(keys=5), WORDS), "key_tokens=…"),
    "a text": (lambda: attention(made(), "eight tokens"), "list of its tokens"),
    "ids": (lambda: attention(made(), list(range(8))), "convert_ids_to_tokens"),
    "sdpa": (lambda: attention((), WORDS), "attn_implementation='eager'"),
    "nothing": (lambda: attention(None, WORDS), "attn_implementation='eager'"),
    "empty text": (lambda: attention(numpy.zeros((2, 2, 0, 0)), []), "Was the text empty"),
    "no layers": (lambda: attention(numpy.zeros((0, 2, 3, 3)), ["a", "b", "c"]), "empty"),
    "two texts": (lambda: attention(torch.rand(2, 2, 3, 8, 8), WORDS), "of 2 texts"),
    "one head": (lambda: attention(made()[0, 0], WORDS), "has shape (8, 8)"),
    "uneven": (lambda: attention([made()[0], made()[0, :, :5]], WORDS), "differ in shape"),
    "scores": (lambda: attention(numpy.log(made()), WORDS), "scores before softmax"),
    "nan": (lambda: attention(made() * numpy.nan, WORDS), "nan or inf"),
    "words": (lambda: attention("attention", WORDS), "this is a str"),
    "layer": (lambda: attention(made(), WORDS, layer=3), "the layers are 0 to 2"),
    "head": (lambda: attention(made(), WORDS, head=-1), "the heads are 0 to 1"),
    "layers": (lambda: attention(made(), WORDS, layers=[0, 9]), "no layer 9"),
    "no layers chosen": (lambda: attention(made(), WORDS, layers=[]), "at least one"),
    "second sentence": (
        lambda: attention(made(), WORDS, sentence_b_start=8),
        "between 1 and 7",
    ),
    "mask of others": (
        lambda: attention(made(), WORDS, attention_mask=[1, 1, 0]),
        "8 of them here",
    ),
    "mask of padding only": (
        lambda: attention(made(), WORDS, attention_mask=[0] * 8),
        "1 for a token and 0 for padding",
    ),
    "mask of weights": (
        lambda: attention(made(), WORDS, attention_mask=[0.5] * 8),
        "1 for a token and 0 for padding",
    ),
    "picture of a layer as a head": (
        lambda: plots.head(made()[0], WORDS),
        "one head, (query, key); the weights have shape (2, 8, 8)",
    ),
    "picture of all layers": (
        lambda: plots.heads(made(), WORDS),
        "one layer, (head, query, key); the weights have shape (3, 2, 8, 8)",
    ),
    "picture with other tokens": (
        lambda: plots.heads(made()[0], WORDS[:5]),
        "5 tokens, but the attention has 8",
    ),
    "picture with other names": (
        lambda: plots.heads(made()[0], WORDS, names=["a"]),
        "2 heads but 1 names",
    ),
    "query alone": (lambda: attention(made(), WORDS, query=made()), "belong together"),
    "query of others": (
        lambda: attention(made(), WORDS, query=numpy.ones((2, 5, 4)), key=numpy.ones((2, 5, 4))),
        "with 8 tokens",
    ),
    "heads that do not divide": (
        lambda: attention(made(), WORDS, query=numpy.ones((2, 8, 4)), key=numpy.ones((3, 8, 4))),
        "a divisor",
    ),
    "kind": (lambda: bertviz("neuron", made(), WORDS), "'head' and 'model'"),
    "bertviz tokens": (lambda: bertviz("head", made(), WORDS[:3]), "3 query and 3 key tokens"),
    "bertviz option": (lambda: bertviz("head", made(), WORDS, colour=1), "refused"),
    "bertviz layer": (lambda: bertviz("head", made(), WORDS, layer=7), "refused"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence(name):
    call, part = BAD[name]
    with pytest.raises(LabError) as caught:
        call()
    assert part in str(caught.value)


# ---- bertviz ----------------------------------------------------------------------------------


def unpacked(view):
    """What the page runs: bertviz's HTML and script, d3 and jQuery."""
    code = re.search(r"data:application/gzip;base64,([A-Za-z0-9+/=]+)", view.html)[1]
    return json.loads(gzip.decompress(base64.b64decode(code)))


@pytest.mark.parametrize("kind", ["head", "model"])
def test_bertviz_gets_rounded_weights_and_a_fixed_id(kind):
    weights = made()
    view = bertviz(kind, torch.tensor(weights, dtype=torch.float32), WORDS)
    data = unpacked(view)
    parameters = json.loads(re.search(r"params = (\{.*?\});", data["script"])[1])
    drawn = numpy.array(parameters["attention"][0]["attn"])
    assert (drawn == numpy.round(weights.astype(numpy.float32).astype(float), 3)).all()
    assert parameters["root_div_id"] == "llmlab-bertviz-0"
    assert 'id="llmlab-bertviz-0"' in data["html"]
    assert view.html == bertviz(kind, torch.tensor(weights, dtype=torch.float32), WORDS).html
    assert f"bertviz's {kind} view of 3 layers × 2 heads over 8 tokens" in view.text


def test_bertviz_gets_the_libraries_it_asks_for_with_their_licences():
    data = unpacked(bertviz("head", made(), WORDS))
    assert "v5.7.0" in data["d3"][:80]
    assert "jQuery v3.7.1" in data["jquery"][:40]
    vendor = Path(llmlab.__file__).parent / "views" / "vendor"
    assert "Mike Bostock" in (vendor / "d3.LICENSE.txt").read_text()
    assert "OpenJS Foundation" in (vendor / "jquery.LICENSE.txt").read_text()
    asked = set(re.findall(r"requirejs\(\[(.*?)\]", data["script"]))
    assert asked == {"'jquery', 'd3'"}


def test_bertviz_is_a_third_of_its_scripts_own_size():
    assert len(bertviz("head", made(), WORDS).html) < 160_000


def test_bertviz_asks_before_it_draws_many_tokens():
    names = [f"t{i}" for i in range(33)]
    large = bertviz("model", made(2, 2, 33), names)
    assert unpacked(large)["wait"]
    size = len(unpacked(large)["script"]) / 1e6
    assert f"It is large: {size:.1f} MB of script, and drawn at once 4,356 lines" in large.text
    assert "llmlab.views.attention(attention, tokens)" in large.text
    assert not unpacked(bertviz("model", made(2, 2, 32), names[:32]))["wait"]


def test_bertviz_takes_cross_attention_and_options():
    view = bertviz("head", made(3, 2, 3, 5), list("abc"), list("vwxyz"), layer=2)
    script = unpacked(view)["script"]
    parameters = json.loads(re.search(r"params = (\{.*?\});", script)[1])
    assert parameters["layer"] == 2
    assert parameters["attention"][0]["left_text"] == list("abc")
    assert parameters["attention"][0]["right_text"] == list("vwxyz")


# ---- plain pictures ---------------------------------------------------------------------------


def test_a_head_as_a_heatmap_names_its_strongest_links():
    weights = made(1, 1, causal=True)[0, 0]
    weights[:] = numpy.eye(8)
    weights[5] = [0, 0.8, 0, 0, 0, 0.2, 0, 0]
    weights[3] = [0.4, 0, 0.6, 0, 0, 0, 0, 0]
    picture = plots.head(torch.tensor(weights), WORDS, title="Layer 2, head 1")
    assert picture.alt == (
        "Layer 2, head 1. Strongest links: ␣it → ␣animal 0.80; ␣tired → ␣was 0.60. Grey: masked."
    )
    axes = picture.axes[0]
    drawn = axes.images[0].get_array()
    assert (drawn.mask == numpy.triu(numpy.ones((8, 8), bool), 1)).all()
    assert (drawn.filled(0) == weights).all()
    assert [label.get_text() for label in axes.get_yticklabels()][1] == "␣animal"
    assert [label.get_text() for label in axes.get_xticklabels()][5] == "␣it"
    assert "0.80" in [text.get_text() for text in axes.texts]
    assert "Grey" not in plots.head(made()[0, 0], WORDS).alt


@pytest.mark.parametrize("count", [1, 2, 9, 12, 32])
def test_a_layers_heads_as_a_grid_in_the_same_colours(count):
    weights = made(1, count)[0]
    picture = plots.heads(weights[None], WORDS, title="Layer 7")  # with the batch axis
    drawn = [axes for axes in picture.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [f"head {h}" for h in range(count)]
    assert {axes.images[0].get_clim() for axes in drawn} == {(0, 1)}
    assert all(
        (axes.images[0].get_array() == one).all() for axes, one in zip(drawn, weights, strict=True)
    )
    assert picture.alt.count("head ") == count
    chosen = plots.heads(weights[:1], WORDS, names=["16.0"])
    assert "token and to itself: 16.0: " in chosen.alt


def test_cross_attention_as_a_picture():
    weights = numpy.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7]])
    picture = plots.head(weights, ["le", "chat"], ["the", "cat", "."])
    assert picture.alt == "Strongest links: le → the 0.90; chat → . 0.70."


# ---- the script -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention.js", "bertviz.js"])
def test_the_script_survives_hosts_that_join_lines(name):
    source = (Path(llmlab.__file__).parent / "views" / name).read_text(encoding="utf-8")
    bare = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    assert not re.search(r"(^|\s)//", bare)
    assert "</script" not in source


def test_tiles_are_layers_across_and_heads_down():
    weights = numpy.zeros((2, 3, 2, 2))
    weights[1, 2, 0, 1] = 1
    rows, columns = numpy.nonzero(tiles(weights, numpy.zeros((2, 2), bool)) == LEVELS)
    assert (rows.tolist(), columns.tolist()) == ([2 * 3 + 1], [1 * 3 + 2])
