"""The sampler: what the page gets, what remains without scripts, what is refused."""

import base64
import gzip
import json
import math
import re
import struct

import numpy
import pytest
import torch
from transformers import AutoTokenizer

import llmlab
from llmlab import LabError, generation
from llmlab.views import View, sampler
from tests.test_views_attention import Outside, Sanitised
from tests.tools.notebooks import sanitised

SIZE = 49_152


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("smollm2-135m"))


def logits(seed=0, spread=3.0):
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)) * spread


def unpacked(view):
    """What the page reads: its facts, exact logits, all logits."""
    code = re.search(r'data-sampler="data:application/gzip;base64,([^"]*)"', view.html)[1]
    whole = gzip.decompress(base64.b64decode(code))
    length = struct.unpack("<I", whole[:4])[0]
    known = json.loads(whole[4 : 4 + length])
    named = len(known["ids"])
    exact = numpy.frombuffer(whole, "<f4", named, 4 + length)
    small = numpy.frombuffer(whole, "<f2", known["size"], 4 + length + 4 * named)
    assert 4 + length + 4 * named + 2 * known["size"] == len(whole)
    return known, exact, small


def test_the_page_gets_every_logit(tokenizer):
    values = logits()
    known, exact, small = unpacked(sampler(values, tokenizer))
    ordered = values.sort(descending=True, stable=True)
    lowered = (ordered.values - ordered.values[0]).numpy()
    assert known["size"] == len(small) == SIZE
    assert known["ids"] == ordered.indices[: len(known["ids"])].tolist()
    assert len(known["ids"]) == 2000
    assert (exact == lowered[:2000]).all()
    assert (numpy.diff(small.astype(float)) <= 0).all()
    # float16 has 11 binary digits: off by half of the last one at most
    assert (numpy.abs(small - lowered) <= numpy.abs(lowered) * 2**-11).all()
    assert known["tokens"][0] == tokenizer.decode(known["ids"][0]).replace(" ", "␣")


def test_of_the_rarer_tokens_too_little_is_lost_to_see(tokenizer):
    """The probabilities that the page can make of its numbers, at any temperature."""
    values = logits(spread=2.0)
    _, exact, small = unpacked(sampler(values, tokenizer))
    mine = numpy.concatenate([exact, small[len(exact) :]]).astype(float)
    for temperature in (0.05, 0.5, 1.0, 3.0):
        probs = generation.probabilities(values, temperature=temperature).sort(descending=True)
        weights = numpy.exp(mine / temperature)
        gap = numpy.abs(weights / weights.sum() - probs.values.numpy())
        assert gap.max() < 1e-5, temperature


def test_it_is_smaller_than_the_logits_alone(tokenizer):
    """All logits as float16 fill 98 kB; in order they pack well."""
    assert len(sampler(logits(), tokenizer).html) < 98_000


def test_text_and_table_are_those_of_the_settings(tokenizer):
    values = torch.full((SIZE,), -20.0)
    words = tokenizer(" he she it of <b>").input_ids[:5]
    values[words] = torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05]).log()
    view = sampler(values, tokenizer, top_k=3)
    assert isinstance(view, View)
    assert view.text == (
        "Next token at temperature 1, top-k 3, top-p off, min-p off: 3 of 49,152 tokens stay. "
        "␣he 0.444, ␣she 0.333, ␣it 0.222."
    )
    rows = re.findall(r"<tr>(.*?)</tr>", view.html)[1:]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert len(cells) == 10
    assert cells[0][:4] == ["1", "<code>␣he</code>", str(words[0]), "0.444"]
    assert cells[0][5] == "0.400"
    assert cells[4][3] == "cut" and cells[4][5] == "0.050"
    assert {cells[3][1], cells[4][1]} == {"<code>␣of</code>", "<code>␣&lt;</code>"}
    known, *_ = unpacked(view)
    assert (known["top_k"], known["temperature"], known["rows"]) == (3, 1.0, 20)
    whole = sampler(values, tokenizer)
    assert "all 49,152 tokens stay. ␣he 0.400" in whole.text
    one = sampler(values, tokenizer, temperature=0.5, top_p=0.0, min_p=0.25)
    assert one.text == (
        "Next token at temperature 0.5, top-k off, top-p 0, min-p 0.25: 1 of 49,152 tokens stays. "
        "␣he 1.000."
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_form_of_the_same_logits_is_the_same_view(tokenizer, dtype):
    exact = torch.arange(SIZE).remainder(97).div(4)  # all these types hold it
    expected = sampler(exact.float(), tokenizer).html
    assert sampler(exact.to(dtype), tokenizer).html == expected
    assert sampler(exact[None].float().requires_grad_(), tokenizer).html == expected
    assert sampler(exact.numpy(), tokenizer).html == expected


def test_noise_of_another_processor_is_not_seen_by_nbval(tokenizer):
    values = logits(3)
    values[tokenizer(" Paris London").input_ids] = torch.tensor([19.0, 17.5])
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(1)) * 1e-6
    views = [sampler(one, tokenizer, top_k=50) for one in (values, values + noise)]
    assert views[0].text == views[1].text
    assert sanitised(views[0].html) == sanitised(views[1].html)
    assert sampler(values, tokenizer, top_k=50).html == views[0].html


def test_cut_logits_stay_cut(tokenizer):
    values = logits()
    values[100:] = -math.inf
    values[5] = -1e6  # beyond float16, but not cut
    view = sampler(values, tokenizer)
    assert f"100 of {SIZE:,} tokens stay" in view.text
    _, exact, small = unpacked(view)
    assert numpy.isfinite(small).sum() == 100
    assert numpy.isfinite(exact).sum() == 100


def test_sanitised_it_still_shows_the_table(tokenizer):
    view = sampler(logits(), tokenizer)
    left = Sanitised(view.html).html
    assert "llmlabSampler" not in left
    assert left.count("<tr>") == 11
    assert left.count('<th scope="col">') == 6
    assert "<caption>Next token at temperature 1" in left


def test_it_asks_nothing_of_the_outside(tokenizer):
    view = sampler(logits(), tokenizer)
    assert Outside(view.html).found == []
    assert "//" not in re.sub(r"base64,[^\"]*", "", view.html)
    for word in ("fetch(", "import(", "http"):
        assert word not in re.sub(r"base64,[^\"]*", "", view.html)
    assert " id=" not in view.html.split("<script")[0]


def test_tokens_that_look_like_html_stay_tokens(tokenizer):
    values = torch.full((SIZE,), -20.0)
    values[tokenizer("</script>\n<b>\"'&").input_ids] = 5.0
    view = sampler(values, tokenizer)
    assert view.html.count("<script") == view.html.count("</script>") == 1
    assert "<b>" not in view.html


BAD = {
    "two positions": (torch.zeros(2, SIZE), r"of shape \(2, 49152\).*outputs\.logits\[0, -1\]"),
    "a batch": (torch.zeros(1, 3, SIZE), r"outputs\.logits\[0, -1\]"),
    "nothing": (torch.zeros(0), "one position"),
    "a number": (torch.tensor(1.0), "one position"),
    "a text": ("Paris", "this is a text"),
    "NaN": (torch.full((SIZE,), math.nan), "hold NaN"),
    "+inf": (torch.full((SIZE,), math.inf), r"\+inf"),
    "nothing left": (torch.full((SIZE,), -math.inf), "every token was cut"),
    "another model": (torch.zeros(100), "100 logits, and this tokenizer has 49,152 tokens"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named_in_the_students_words(tokenizer, what):
    wrong, words = BAD[what]
    with pytest.raises(LabError, match=words):
        sampler(wrong, tokenizer)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 0}, "above 0"),
        ({"top_k": -1}, "whole number"),
        ({"top_p": 2}, "top_p is a share"),
        ({"min_p": -1}, "min_p is a share"),
        ({"rows": 0}, "rows is how many"),
    ],
)
def test_settings_out_of_range(tokenizer, settings, words):
    with pytest.raises(LabError, match=words):
        sampler(logits(), tokenizer, **settings)


def test_the_tokenizer_itself_is_needed():
    with pytest.raises(LabError, match="not 'smollm2-135m'"):
        sampler(logits(), "smollm2-135m")
