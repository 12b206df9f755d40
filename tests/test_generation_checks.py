"""The exercises of notebook 05: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.generation`.
"""

import math

import numpy
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import llmlab
from llmlab.checks import find
from tests.tools.exercises import Exercises

# ---- 05.1: the perplexity of an answer -----------------------------------------------------------


def perplexity_right(logits, ids, prompt_length):
    return math.exp(cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:]))


def perplexity_right_loop(logits, ids, prompt_length):
    total = 0.0
    for place in range(prompt_length, len(ids)):
        total -= math.log2(logits[place - 1].softmax(0)[ids[place]])
    return 2 ** (total / (len(ids) - prompt_length))


def perplexity_of_everything(logits, ids, prompt_length):
    return torch.exp(cross_entropy(logits[:-1], ids[1:]))


def perplexity_first_token_lost(logits, ids, prompt_length):
    return torch.exp(cross_entropy(logits[prompt_length:-1], ids[prompt_length + 1 :]))


def perplexity_prompt_end_counted(logits, ids, prompt_length):
    return torch.exp(cross_entropy(logits[prompt_length - 2 : -1], ids[prompt_length - 1 :]))


def perplexity_unshifted(logits, ids, prompt_length):
    return torch.exp(cross_entropy(logits[prompt_length:], ids[prompt_length:]))


def perplexity_log2_exp(logits, ids, prompt_length):
    probs = logits[prompt_length - 1 : -1].softmax(1)
    own = probs[range(len(probs)), ids[prompt_length:]]
    return torch.exp(-torch.log2(own).mean())


def perplexity_ln_two(logits, ids, prompt_length):
    return 2 ** cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:])


def perplexity_wrong_count(logits, ids, prompt_length):
    loss = cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:], reduction="sum")
    return torch.exp(loss / len(ids))


def perplexity_no_mean(logits, ids, prompt_length):
    loss = cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:], reduction="sum")
    return loss.exp().item()


def perplexity_is_loss(logits, ids, prompt_length):
    return cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:]).item()


def perplexity_no_minus(logits, ids, prompt_length):
    return torch.exp(-cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:])).item()


def perplexity_exp_first(logits, ids, prompt_length):
    each = cross_entropy(logits[prompt_length - 1 : -1], ids[prompt_length:], reduction="none")
    return each.exp().mean().item()


def perplexity_mean_probability(logits, ids, prompt_length):
    probs = logits[prompt_length - 1 : -1].softmax(1)
    return 1 / probs[range(len(probs)), ids[prompt_length:]].mean().item()


start = 9  # as in the notebook: the tokens of its prompt


def perplexity_notebooks_start(logits, ids, prompt_length):
    probs = logits.softmax(-1)
    given = probs[range(len(ids) - 1), ids[1:]]
    return math.exp(-given.log()[start - 1 :].mean())


# ---- 05.2: one step of sampling ------------------------------------------------------------------


def step_right(logits, temperature, k):
    values, places = logits.topk(k)
    probs = torch.zeros_like(logits)
    probs[places] = (values / temperature).softmax(0)
    return probs


def step_right_renormalised(logits, temperature, k):
    probs = (logits / temperature).softmax(0)
    probs[probs < probs.sort(descending=True).values[k - 1]] = 0
    return (probs / probs.sum()).tolist()


def step_multiplied(logits, temperature, k):
    return step_right(logits * temperature**2, temperature, k)


def step_probabilities_divided(logits, temperature, k):
    probs = logits.softmax(0) / temperature
    probs[probs < probs.topk(k).values.min()] = 0
    return probs / probs.sum()


def step_everything_stays(logits, temperature, k):
    return torch.softmax(logits / temperature, dim=-1)


def step_not_shared_out(logits, temperature, k):
    probs = torch.softmax(logits / temperature, -1)
    probs[probs < probs.topk(k).values.min()] = 0.0
    return probs


def step_cut_logits_to_zero(logits, temperature, k):
    cut = logits < logits.topk(k).values.min()
    logits[cut] = 0.0
    return torch.softmax(logits / temperature, -1)


def step_softmax_twice(logits, temperature, k):
    probs = torch.softmax(logits / temperature, -1)
    probs[probs < probs.topk(k).values.min()] = -torch.inf
    return torch.softmax(probs, -1)


def step_k_numbers(logits, temperature, k):
    return torch.softmax(logits.topk(k)[0] / temperature, 0)


def step_logits(logits, temperature, k):
    cut = logits < logits.topk(k).values.min()
    return (logits / temperature).masked_fill(cut, -torch.inf)


def step_lowest(logits, temperature, k):
    keep = logits.argsort()[:k]
    out = torch.full_like(logits, -torch.inf)
    out[keep] = logits[keep] / temperature
    return out.softmax(-1)


def step_probabilities_divided_unshared(logits, temperature, k):
    probs = logits.softmax(0) / temperature
    probs[probs < probs.topk(k).values.min()] = 0
    return probs


# ---- 05.3: the nucleus ---------------------------------------------------------------------------


def nucleus_right(probs, p):
    total, count = 0.0, 0
    for prob in sorted(probs.tolist(), reverse=True):
        total, count = total + prob, count + 1
        if total >= p:
            return count
    return count


def nucleus_right_numpy(probs, p):
    falling = numpy.sort(probs.numpy())[::-1]
    return int((falling.cumsum() - falling < p).sum())


def nucleus_crossing_cut(probs, p):
    return (probs.sort(descending=True)[0].cumsum(0) <= p).sum()


def nucleus_one_too_many(probs, p):
    return (probs.sort(descending=True)[0].cumsum(0) <= p).sum() + 2


def nucleus_unsorted(probs, p):
    total = 0.0
    for count, prob in enumerate(probs.tolist(), 1):
        total += prob
        if total >= p:
            return count
    return len(probs)


def nucleus_unsorted_cut(probs, p):
    return (probs.cumsum(0) <= p).sum()


def nucleus_ascending(probs, p):
    return (probs.sort()[0].cumsum(0) < p).sum() + 1


def nucleus_ascending_cut(probs, p):
    return (probs.sort()[0].cumsum(0) < p).sum()


def nucleus_each_compared(probs, p):
    return len([prob for prob in probs if prob >= p])


def nucleus_min_p(probs, p):
    return (probs >= probs.max() * p).sum()


def nucleus_counts_cut(probs, p):
    return len(probs) - nucleus_right(probs, p)


# ---- 05.4: the cache -----------------------------------------------------------------------------


def cache_right(layers, hidden, heads, key_heads, texts, tokens, width):
    return width * tokens * texts * layers * (hidden * key_heads // heads) * 2


def cache_keys_only(layers, hidden, heads, key_heads, texts, tokens, width):
    return width * tokens * texts * layers * (hidden * key_heads // heads)


def cache_query_heads(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * heads * (hidden // heads) * texts * tokens * width


def cache_keys_only_query_heads(layers, hidden, heads, key_heads, texts, tokens, width):
    return layers * heads * (hidden // heads) * texts * tokens * width


def cache_hidden_a_head(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * hidden * texts * tokens * width


def cache_size_by_key_heads(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * (hidden // key_heads) * texts * tokens * width


def cache_one_text(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * (hidden // heads) * tokens * width


def cache_one_layer(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * key_heads * (hidden // heads) * texts * tokens * width


def cache_in_numbers(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens


def cache_tokens_squared(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens * tokens * width


def cache_formula_of_the_notebook(layers, hidden, heads, key_heads, texts, tokens, width):
    size = hidden // heads
    return 2 * layers * key_heads * size * 4


def cache_without_tokens(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * (hidden // heads) * texts * width


def cache_in_bits(layers, hidden, heads, key_heads, texts, tokens, width):
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens * width * 8


def step_with_our_numbers(logits, temperature, k):
    logits = logits / 0.7
    return logits.masked_fill(logits < logits.topk(5).values[-1], -torch.inf).softmax(-1)


def nucleus_by_our_top_p(probs, p):
    """The notebook's `top_p`, which takes logits."""
    again, order = probs.softmax(-1).sort(descending=True)
    before = again.cumsum(-1) - again
    cut = probs.clone()
    cut[order[before >= p]] = -torch.inf
    return cut.isfinite().sum()


def perplexity_of_the_favourites(logits, ids, prompt_length):
    probs = logits.softmax(-1)
    surprise = [-math.log(probs[i - 1].max()) for i in range(prompt_length, len(ids))]
    return math.exp(sum(surprise) / len(surprise))


def perplexity_without_softmax(logits, ids, prompt_length):
    places = range(prompt_length, len(ids))
    surprise = [-logits[i - 1, ids[i]].item() for i in places]
    return math.exp(sum(surprise) / len(surprise))


def step_cuts_the_kth_too(logits, temperature, k):
    logits = logits / temperature
    logits[logits <= logits.topk(k).values[-1]] = -torch.inf
    return logits.softmax(-1)


def step_in_order(logits, temperature, k):
    logits = (logits / temperature).sort(descending=True).values
    logits[k:] = -torch.inf
    return logits.softmax(-1)


def nucleus_behind_the_crossing(probs, p):
    sums = probs.sort(descending=True).values.cumsum(-1)
    return int((sums >= p).sum())


def cache_always_four_bytes(layers, hidden, heads, key_heads, texts, tokens, width):
    size = hidden // heads
    return 2 * layers * key_heads * size * 4 * texts * tokens


def cache_with_queries(layers, hidden, heads, key_heads, texts, tokens, width):
    size = hidden // heads
    numbers = heads * size + key_heads * size + key_heads * size
    return layers * numbers * texts * tokens * width


# ---- the checks ----------------------------------------------------------------------------------

RIGHT = [
    ("05.1", perplexity_right),
    ("05.1", perplexity_right_loop),
    ("05.2", step_right),
    ("05.2", step_right_renormalised),
    ("05.3", nucleus_right),
    ("05.3", nucleus_right_numpy),
    ("05.4", cache_right),
]

WRONG = [
    ("05.1", perplexity_of_everything, "the prompt is counted too"),
    ("05.1", perplexity_first_token_lost, "the first token of the answer is missing"),
    ("05.1", perplexity_prompt_end_counted, "one token of the prompt"),
    ("05.1", perplexity_unshifted, "shift by one"),
    ("05.1", perplexity_log2_exp, "bits and nats are mixed"),
    ("05.1", perplexity_ln_two, "nats and bits are mixed"),
    ("05.1", perplexity_wrong_count, "the wrong count"),
    ("05.1", perplexity_no_mean, "exp of the sum"),
    ("05.1", perplexity_is_loss, "the loss"),
    ("05.1", perplexity_no_minus, "at least 1"),
    ("05.1", perplexity_exp_first, "here exp came first"),
    ("05.1", perplexity_mean_probability, "the mean of the probabilities"),
    ("05.1", perplexity_notebooks_start, "you use `start`"),
    ("05.1", perplexity_of_the_favourites, "own favourites"),
    ("05.1", perplexity_without_softmax, "softmax is missing"),
    ("05.2", step_cuts_the_kth_too, "the k-th likeliest is cut"),
    ("05.2", step_in_order, "but sorted"),
    ("05.3", nucleus_behind_the_crossing, "the crossing of p downwards"),
    ("05.4", cache_always_four_bytes, "whatever `width` is"),
    ("05.4", cache_with_queries, "queries are in yours"),
    ("05.2", step_with_our_numbers, "0.7 and 5 were the numbers of our cell"),
    ("05.3", nucleus_by_our_top_p, "our top_p takes logits"),
    ("05.4", cache_formula_of_the_notebook, "our formula as it stands"),
    ("05.4", cache_without_tokens, "one token of each text"),
    ("05.4", cache_in_bits, "these are bits"),
    ("05.2", step_multiplied, "divided by it, not multiplied"),
    ("05.2", step_probabilities_divided, "no effect"),
    ("05.2", step_everything_stays, "all tokens are still possible"),
    ("05.2", step_not_shared_out, "share out again"),
    ("05.2", step_cut_logits_to_zero, "come back"),
    ("05.2", step_softmax_twice, "applied twice"),
    ("05.2", step_k_numbers, "you return k probabilities"),
    ("05.2", step_probabilities_divided_unshared, "you divide probabilities"),
    ("05.2", step_lowest, "the k lowest"),
    ("05.2", step_logits, "logits still"),
    ("05.3", nucleus_crossing_cut, "one too few"),
    ("05.3", nucleus_one_too_many, "one too many"),
    ("05.3", nucleus_unsorted, "the order of the vocabulary. The nucleus"),
    ("05.3", nucleus_unsorted_cut, "the order of the vocabulary, and leave out"),
    ("05.3", nucleus_ascending, "least likely token. The nucleus"),
    ("05.3", nucleus_ascending_cut, "least likely token, and leave out"),
    ("05.3", nucleus_each_compared, "you compare each probability with p"),
    ("05.3", nucleus_min_p, "this is min-p"),
    ("05.3", nucleus_counts_cut, "you count the tokens that are cut"),
    ("05.4", cache_keys_only, "half of it is missing"),
    ("05.4", cache_query_heads, "for every query head"),
    ("05.4", cache_keys_only_query_heads, "keys and values are two tensors, and"),
    ("05.4", cache_hidden_a_head, "not all of hidden"),
    ("05.4", cache_size_by_key_heads, "the size of a head"),
    ("05.4", cache_one_text, "the cache of one text"),
    ("05.4", cache_one_layer, "this is one layer"),
    ("05.4", cache_in_numbers, "not bytes"),
    ("05.4", cache_tokens_squared, "not with their square"),
]


class TestExercises(Exercises):
    notebook = "05"
    right = RIGHT
    wrong = WRONG


def perplexity_of_a_batch(logits, ids, prompt_length):
    return -logits[0, :-1].log_softmax(-1)[range(3)]


def perplexity_ids_of_a_batch(logits, ids, prompt_length):
    return logits.softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]].mean()


@pytest.mark.parametrize("answer", [perplexity_of_a_batch, perplexity_ids_of_a_batch])
def test_who_looks_for_a_batch_is_told_that_there_is_none(answer):
    result = llmlab.check("05.1", answer)
    assert result.status == "wrong" and "no [0] to take" in result.message


# ---- the references are transformers' ------------------------------------------------------------


def test_a_step_is_what_generate_draws_from():
    generator = torch.Generator().manual_seed(3)
    for temperature, k in [(0.5, 1), (1.0, 7), (2.0, 40)]:
        logits = 3 * torch.randn(40, generator=generator)
        warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature), TopKLogitsWarper(k)])
        theirs = warpers(torch.zeros(1, 1).long(), logits[None].clone()).softmax(-1)[0]
        torch.testing.assert_close(find("05.2").reference(logits, temperature, k), theirs)


def test_the_nucleus_is_that_of_top_p():
    generator = torch.Generator().manual_seed(4)
    for p in [0.05, 0.5, 0.9, 0.99]:
        logits = 3 * torch.randn(200, generator=generator)
        kept = TopPLogitsWarper(p)(torch.zeros(1, 1).long(), logits[None].clone()).isfinite().sum()
        assert find("05.3").reference(logits.softmax(-1), p) == kept


def test_the_cache_has_as_many_bytes_in_transformers():
    config = LlamaConfig(
        vocab_size=50, hidden_size=48, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2,
    )  # fmt: skip
    cache = DynamicCache()
    with torch.no_grad():
        LlamaForCausalLM(config)(torch.ones(4, 9).long(), past_key_values=cache, use_cache=True)
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert find("05.4").reference(3, 48, 6, 2, 4, 9, 4) == measured


def test_perplexity_is_the_loss_with_the_prompt_ignored():
    config = LlamaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(50, (1, 9))
    labels = ids.clone()
    labels[:, :4] = -100
    with torch.no_grad():
        outputs = model(ids, labels=labels)
    got = find("05.1").reference(outputs.logits[0], ids[0], 4)
    assert got == pytest.approx(outputs.loss.exp().item(), rel=1e-5)
