"""The exercises of notebook 05: perplexity, a sampling step, the nucleus, the cache's size."""

import math
import random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.checks import Exercise

_Row = Float[Tensor, "vocabulary"]
_Logits = Float[Tensor, "sequence vocabulary"]
_Ids = Int[Tensor, "sequence"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


# ---- 05.1 the perplexity of an answer ------------------------------------------------------------


def _perplexity_inputs(rng: random.Random) -> tuple[Tensor, Tensor, int]:
    """Logits, ids, and how many of the first tokens are the prompt: at least two, and two more."""
    length, vocabulary = rng.randrange(7, 12), rng.randrange(5, 9)
    logits = 2 * torch.randn(length, vocabulary, generator=_generator(rng))
    ids = torch.randint(vocabulary, (length,), generator=_generator(rng))
    return logits, ids, rng.randrange(2, length - 3)


def _nats(logits: _Logits, ids: _Ids) -> Tensor:
    """−ln p of each token but the first."""
    return -logits[:-1].log_softmax(-1).gather(-1, ids[1:, None])[:, 0]


def _perplexity(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt - 1 :].mean().exp().item()


def _perplexity_all(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids).mean().exp().item()


def _perplexity_first_lost(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt:].mean().exp().item()


def _perplexity_last_of_prompt(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt - 2 :].mean().exp().item()


def _perplexity_not_shifted(logits: _Logits, ids: _Ids, prompt: int) -> float:
    own = -logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    return own[prompt:].mean().exp().item()


def _perplexity_bits(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return (_nats(logits, ids)[prompt - 1 :] / math.log(2)).mean().exp().item()


def _perplexity_two(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return 2 ** _nats(logits, ids)[prompt - 1 :].mean().item()


def _perplexity_over_all(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return (_nats(logits, ids)[prompt - 1 :].sum() / len(ids)).exp().item()


def _perplexity_sum(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt - 1 :].sum().exp().item()


def _perplexity_loss(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt - 1 :].mean().item()


def _perplexity_below_one(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return (-_nats(logits, ids)[prompt - 1 :]).mean().exp().item()


def _perplexity_mean_of_each(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[prompt - 1 :].exp().mean().item()


def _perplexity_mean_probability(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return 1 / (-_nats(logits, ids)[prompt - 1 :]).exp().mean().item()


def _perplexity_start(logits: _Logits, ids: _Ids, prompt: int) -> float:
    return _nats(logits, ids)[9 - 1 :].mean().exp().item()  # `start`, as the notebook has it


def _perplexity_likeliest(logits: _Logits, ids: _Ids, prompt: int) -> float:
    best = logits.log_softmax(-1).max(-1).values
    return (-best[prompt - 1 : -1]).mean().exp().item()


def _perplexity_logits(logits: _Logits, ids: _Ids, prompt: int) -> float:
    own = -logits[:-1].gather(-1, ids[1:, None])[:, 0]
    return own[prompt - 1 :].mean().exp().item()


def _perplexity_look(got: Any, expected: float, arguments: tuple) -> str:
    """No batch: a function copied from the notebook's cell indexes one."""
    if isinstance(got, IndexError) or (isinstance(got, Tensor) and got.ndim):
        what = "stops with an IndexError" if isinstance(got, IndexError) else "is no single number"
        return (
            f"your answer {what}. Logits and ids are of one text here, without a batch: there is "
            "no [0] to take. And at the end stands one number, the mean over the answer."
        )
    return ""


# ---- 05.2 one step of sampling -------------------------------------------------------------------


def _step_inputs(rng: random.Random) -> tuple[Tensor, float, int]:
    """Logits far enough apart, above and below 0, a temperature other than 1, a k that cuts."""
    size = rng.randrange(6, 12)
    order = torch.randperm(size, generator=_generator(rng))
    logits = 0.7 * (order - size / 2) + 0.3 * torch.rand(size, generator=_generator(rng))
    return logits, rng.choice([0.5, 0.7, 1.5, 2.0]), rng.randrange(2, size - 1)


def _top(logits: _Row, k: int) -> Tensor:
    """True at the k highest."""
    return logits >= logits.topk(k).values[-1]


def _step(logits: _Row, temperature: float, k: int) -> _Row:
    kept = logits.masked_fill(~_top(logits, k), -math.inf)
    return (kept / temperature).softmax(-1)


def _step_times(logits: _Row, temperature: float, k: int) -> _Row:
    return _step(logits, 1 / temperature, k)


def _step_no_temperature(logits: _Row, temperature: float, k: int) -> _Row:
    return _step(logits, 1.0, k)


def _step_no_cut(logits: _Row, temperature: float, k: int) -> _Row:
    return (logits / temperature).softmax(-1)


def _step_rest_lost(logits: _Row, temperature: float, k: int) -> _Row:
    return (logits / temperature).softmax(-1) * _top(logits, k)


def _step_cut_to_zero(logits: _Row, temperature: float, k: int) -> _Row:
    return (logits.masked_fill(~_top(logits, k), 0.0) / temperature).softmax(-1)


def _step_twice(logits: _Row, temperature: float, k: int) -> _Row:
    probs = (logits / temperature).softmax(-1)
    return probs.masked_fill(~_top(logits, k), -math.inf).softmax(-1)


def _step_only_k(logits: _Row, temperature: float, k: int) -> Tensor:
    return (logits.topk(k).values / temperature).softmax(-1)


def _step_probs_divided(logits: _Row, temperature: float, k: int) -> _Row:
    return _step_rest_lost(logits, 1.0, k) / temperature


def _step_lowest(logits: _Row, temperature: float, k: int) -> _Row:
    cut = logits > logits.topk(k, largest=False).values[-1]
    return (logits.masked_fill(cut, -math.inf) / temperature).softmax(-1)


def _step_filtered(logits: _Row, temperature: float, k: int) -> _Row:
    return logits.masked_fill(~_top(logits, k), -math.inf) / temperature


def _step_of_the_notebook(logits: _Row, temperature: float, k: int) -> _Row:
    return _step(logits, 0.7, 5)


def _step_one_too_few(logits: _Row, temperature: float, k: int) -> _Row:
    return _step(logits, temperature, k - 1)


def _step_sorted(logits: _Row, temperature: float, k: int) -> _Row:
    return _step(logits, temperature, k).sort(descending=True).values


# ---- 05.3 how large is the nucleus? --------------------------------------------------------------


def _nucleus_inputs(rng: random.Random) -> tuple[Tensor, float]:
    """Probabilities in any order, and a p in the middle of a step of their running sum."""
    size = rng.randrange(5, 12)
    weights = [rng.uniform(0.4, 0.9) ** n + 0.02 for n in range(size)]
    probs = torch.tensor([w / sum(weights) for w in weights])
    sums = [0.0, *probs.sort(descending=True).values.cumsum(0).tolist()]
    step = rng.randrange(1, size - 2)
    p = (sums[step] + sums[step + 1]) / 2  # so that rounding decides nothing
    return probs[torch.randperm(size, generator=_generator(rng))], p


def _sums(probs: _Row, descending: bool = True) -> list[float]:
    return probs.sort(descending=descending).values.cumsum(0).tolist()


def _nucleus(probs: _Row, p: float) -> int:
    return sum(s < p for s in _sums(probs)) + 1


def _nucleus_below(probs: _Row, p: float) -> int:
    return sum(s < p for s in _sums(probs))


def _nucleus_one_more(probs: _Row, p: float) -> int:
    return sum(s < p for s in _sums(probs)) + 2


def _nucleus_unsorted(probs: _Row, p: float) -> int:
    return sum(s < p for s in probs.cumsum(0).tolist()) + 1


def _nucleus_unsorted_below(probs: _Row, p: float) -> int:
    return sum(s < p for s in probs.cumsum(0).tolist())


def _nucleus_ascending(probs: _Row, p: float) -> int:
    return sum(s < p for s in _sums(probs, descending=False)) + 1


def _nucleus_ascending_below(probs: _Row, p: float) -> int:
    return sum(s < p for s in _sums(probs, descending=False))


def _nucleus_each(probs: _Row, p: float) -> int:
    return int((probs >= p).sum())


def _nucleus_min_p(probs: _Row, p: float) -> int:
    return int((probs >= p * probs.max()).sum())


def _nucleus_cut(probs: _Row, p: float) -> int:
    return len(probs) - _nucleus(probs, p)


def _nucleus_softmax(probs: _Row, p: float) -> int:
    return _nucleus(probs.softmax(-1), p)


def _nucleus_from_p_on(probs: _Row, p: float) -> int:
    return sum(s >= p for s in _sums(probs))


# ---- 05.4 the size of a cache --------------------------------------------------------------------


def _cache_inputs(rng: random.Random) -> tuple[int, int, int, int, int, int, int]:
    """layers, hidden, heads, key_heads, texts, tokens, bytes a number: all told apart."""
    key_heads, group = rng.choice([2, 3, 4, 8]), rng.choice([3, 4, 5])
    heads = key_heads * group
    size = rng.choice([32, 64, 128])
    return (
        rng.randrange(5, 40), heads * size, heads, key_heads,
        rng.randrange(3, 9), rng.randrange(100, 3000), rng.choice([1, 2, 4]),
    )  # fmt: skip


def _cache(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens * width


def _cache_half(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return layers * key_heads * (hidden // heads) * texts * tokens * width


def _cache_query_heads(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * hidden * texts * tokens * width


def _cache_both(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return layers * hidden * texts * tokens * width


def _cache_hidden_each(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * hidden * texts * tokens * width


def _cache_key_size(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * hidden // key_heads * texts * tokens * width


def _cache_one_text(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * tokens * width


def _cache_one_layer(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * key_heads * (hidden // heads) * texts * tokens * width


def _cache_numbers(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens


def _cache_squared(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens**2 * width


def _cache_formula(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * 4


def _cache_one_token(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * texts * width


def _cache_float32(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 2 * layers * key_heads * (hidden // heads) * texts * tokens * 4


def _cache_queries_too(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return layers * (heads + 2 * key_heads) * (hidden // heads) * texts * tokens * width


def _cache_bits(
    layers: int, hidden: int, heads: int, key_heads: int, texts: int, tokens: int, width: int
) -> int:
    return 8 * _cache(layers, hidden, heads, key_heads, texts, tokens, width)


EXERCISES = {
    "05.1": Exercise(
        "the perplexity of what comes after the prompt",
        _perplexity_inputs,
        _perplexity,
        {
            "the prompt is counted too. It is given, nobody has to write it: count only the tokens "
            "after it.": _perplexity_all,
            "the first token of the answer is missing: the row before it, at the prompt's last "
            "token, predicts it.": _perplexity_first_lost,
            "one token of the prompt is counted: its last one.": _perplexity_last_of_prompt,
            "each token is looked up in its own row. A row predicts the token after it: shift by "
            "one.": _perplexity_not_shifted,
            "bits and nats are mixed: with log2 the way back is 2 to the power of the mean, with "
            "the natural logarithm it is exp.": _perplexity_bits,
            "nats and bits are mixed: log_softmax is a natural logarithm, and its way back is exp, "
            "not 2 to the power.": _perplexity_two,
            "the mean is over the wrong count: divide by the tokens whose surprise you added, "
            "those of the answer.": _perplexity_over_all,
            "this is exp of the sum: it grows with every token. Take the mean.": _perplexity_sum,
            "this is the mean surprise, the loss. The perplexity is one step further.": (
                _perplexity_loss
            ),
            "a perplexity is at least 1. A sign is missing: surprise is minus the "
            "logarithm.": _perplexity_below_one,
            "first the mean, then exp: here exp came first, so a single unlikely token decides "
            "all.": _perplexity_mean_of_each,
            "you take the mean of the probabilities. The mean is over their logarithms, so that a "
            "text's probability is the product of its tokens'.": _perplexity_mean_probability,
            "you use `start`, which the notebook has from its own prompt. The length of this "
            "prompt is the argument prompt_length.": _perplexity_start,
            "this is the surprise at the model's own favourites. Look up the tokens that the "
            "text really has.": _perplexity_likeliest,
            "you use the logits as if they were logarithms of probabilities: softmax is "
            "missing.": _perplexity_logits,
        },
        look=_perplexity_look,
    ),
    "05.2": Exercise(
        "the probabilities that temperature and top-k leave",
        _step_inputs,
        _step,
        {
            "the temperature works the wrong way round: the higher it is, the surer your "
            "probabilities get. A logit is divided by it, not multiplied.": _step_times,
            "the temperature has no effect. Dividing probabilities and normalising them again "
            "cancels out: it must act on the logits, before softmax.": _step_no_temperature,
            "all tokens are still possible: only k of them may have a probability above 0.": (
                _step_no_cut
            ),
            "your probabilities don't add up to 1: those of the cut tokens are missing. Cut "
            "before softmax, or share out again what is left.": _step_rest_lost,
            "the cut tokens come back: a logit of 0 is no zero probability, since e to the power "
            "of 0 is 1. Which logit gives a probability of 0?": _step_cut_to_zero,
            "softmax works on logits, and here it got probabilities: it was applied twice.": (
                _step_twice
            ),
            "you return k probabilities, the likeliest first. Nobody can tell any more which "
            "tokens they belong to: keep the whole vocabulary, with 0 at the cut ones.": (
                _step_only_k
            ),
            "you divide probabilities by the temperature, and they don't add up to 1. Divide the "
            "logits, before softmax.": _step_probs_divided,
            "the k lowest logits stay; the k highest should.": _step_lowest,
            "these are logits still: the last step, from logits to probabilities, is missing.": (
                _step_filtered
            ),
            "0.7 and 5 were the numbers of our cell: use the arguments, temperature and k.": (
                _step_of_the_notebook
            ),
            "one token too few stays: the k-th likeliest is cut, too.": _step_one_too_few,
            "the numbers are right, but sorted: each token must keep the place that it has in "
            "the vocabulary.": _step_sorted,
        },
    ),
    "05.3": Exercise(
        "how many tokens top-p leaves",
        _nucleus_inputs,
        _nucleus,
        {
            "one too few: the token with which the sum crosses p stays too. Else the kept ones "
            "would not reach p, and with one very likely token nothing would stay.": _nucleus_below,
            "one too many: once the sum has reached p, nothing more is taken.": _nucleus_one_more,
            "you add up in the order of the vocabulary. The nucleus takes the likeliest "
            "first.": _nucleus_unsorted,
            "you add up in the order of the vocabulary, and leave out the token that crosses p. "
            "Take the likeliest first, and keep the one that crosses.": _nucleus_unsorted_below,
            "you begin with the least likely token. The nucleus takes the likeliest "
            "first.": _nucleus_ascending,
            "you begin with the least likely token, and leave out the one that crosses p. Take "
            "the likeliest first, and keep the one that crosses.": _nucleus_ascending_below,
            "you compare each probability with p. In top-p their sum is compared, likeliest "
            "first.": _nucleus_each,
            "this is min-p: each probability against a share of the largest. In top-p their sum is "
            "compared with p.": _nucleus_min_p,
            "you count the tokens from the crossing of p downwards; asked are those up to it.": (
                _nucleus_from_p_on
            ),
            "you count the tokens that are cut; asked is how many stay.": _nucleus_cut,
            "softmax was applied to probabilities: our top_p takes logits, and here you have "
            "the probabilities already.": _nucleus_softmax,
        },
    ),
    "05.4": Exercise(
        "the bytes of a cache",
        _cache_inputs,
        _cache,
        {
            "this is our formula as it stands: one token of one text, four bytes a number. Bring "
            "in the other arguments.": _cache_formula,
            "this is one token of each text: the cache holds all of them.": _cache_one_token,
            "you take four bytes a number, whatever `width` is.": _cache_float32,
            "queries are in yours, too: nobody asks for an old query again, so only keys and "
            "values are stored.": _cache_queries_too,
            "these are bits: width counts bytes already.": _cache_bits,
            "half of it is missing: keys and values are stored, two tensors in each layer.": (
                _cache_half
            ),
            "this counts a key and a value for every query head. With grouped heads several "
            "queries share one: count the key heads.": _cache_query_heads,
            "keys and values are two tensors, and each holds the key heads only, not all "
            "heads.": _cache_both,
            "each head holds hidden / heads numbers of a token, not all of hidden.": (
                _cache_hidden_each
            ),
            "the size of a head is hidden / heads, also where keys are shared.": _cache_key_size,
            "this is the cache of one text: each text of a batch has its own.": _cache_one_text,
            "this is one layer: each layer has its own keys and values.": _cache_one_layer,
            "these are numbers, not bytes.": _cache_numbers,
            "the cache grows with the tokens, not with their square: that is attention's table of "
            "weights, which is not kept.": _cache_squared,
        },
    ),
}
