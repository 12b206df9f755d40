"""The exercises of notebook 03: causal weights, grouped heads, an induction score, two masks."""

import random
import re
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlab.checks import Exercise

_Vectors = Float[Tensor, "token size"]
_Weights = Float[Tensor, "query key"]
_Keys = Float[Tensor, "batch key_head key size"]
_Mask = Int[Tensor, "batch position"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


# ---- 03.1 causal attention weights ---------------------------------------------------------------


def _vectors(rng: random.Random) -> tuple[Tensor, Tensor]:
    """Queries and keys; neither their number nor their size is that of the notebook's toy."""
    token, size = rng.randrange(7, 10), rng.choice([12, 16, 20])
    generator = _generator(rng)
    return torch.randn(token, size, generator=generator), torch.randn(
        token, size, generator=generator
    )


def _causal(q: _Vectors, k: _Vectors, scale: float | None = None, hidden: int = 1) -> _Weights:
    """`hidden`: the first diagonal that is masked."""
    scores = q @ k.T * (q.shape[1] ** -0.5 if scale is None else scale)
    later = torch.ones_like(scores).triu(hidden).bool()
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def _causal_by_size(q: _Vectors, k: _Vectors) -> _Weights:
    return _causal(q, k, scale=1 / q.shape[1])


def _causal_by_length(q: _Vectors, k: _Vectors) -> _Weights:
    return _causal(q, k, scale=len(q) ** -0.5)


def _causal_multiplied(q: _Vectors, k: _Vectors) -> _Weights:
    return _causal(q, k, scale=q.shape[1] ** 0.5)


def _causal_none(q: _Vectors, k: _Vectors) -> _Weights:
    return (q @ k.T / q.shape[1] ** 0.5).softmax(-1)


def _causal_after(q: _Vectors, k: _Vectors) -> _Weights:
    return _causal_none(q, k).tril()


def _causal_zero(q: _Vectors, k: _Vectors) -> _Weights:
    return (q @ k.T / q.shape[1] ** 0.5).tril().softmax(-1)


def _causal_earlier(q: _Vectors, k: _Vectors) -> _Weights:
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).tril(-1).bool(), -torch.inf).softmax(-1)


def _causal_inverted(q: _Vectors, k: _Vectors) -> _Weights:
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).tril().bool(), -torch.inf).softmax(-1)


def _causal_axis(q: _Vectors, k: _Vectors) -> _Weights:
    scores = q @ k.T / q.shape[1] ** 0.5
    later = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(later, -torch.inf).softmax(0)


def _causal_swapped(q: _Vectors, k: _Vectors) -> _Weights:
    return _causal(k, q)


def _causal_scores(q: _Vectors, k: _Vectors) -> _Weights:
    scores = q @ k.T / q.shape[1] ** 0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)


def _causal_six(q: _Vectors, k: _Vectors) -> _Weights:
    # stops: the notebook's mask is for its six tokens
    later = torch.ones(6, 6).triu(1).bool()
    return (q @ k.T / q.shape[1] ** 0.5).masked_fill(later, -torch.inf).softmax(-1)


def _causal_times_infinity(q: _Vectors, k: _Vectors) -> _Weights:
    scores = q @ k.T / q.shape[1] ** 0.5
    return (scores + torch.ones_like(scores).triu(1) * -torch.inf).softmax(-1)


def _causal_mask_by_size(q: _Vectors, k: _Vectors) -> _Weights:
    # stops: the mask has the size of the vectors
    later = torch.ones(q.shape[1], q.shape[1]).triu(1).bool()
    return (q @ k.T / q.shape[1] ** 0.5).masked_fill(later, -torch.inf).softmax(-1)


# ---- 03.2 a key for every head -------------------------------------------------------------------


def _keys(rng: random.Random) -> tuple[Tensor, int]:
    """Keys of at least two heads, each shared by two or by three queries."""
    batch, key_heads, length, size = (rng.randrange(2, 4) for _ in range(4))
    shape = (batch, key_heads, length + 2, size + 3)
    return torch.randn(shape, generator=_generator(rng)), key_heads * rng.randrange(2, 4)


def _spread(key: _Keys, heads: int, dim: int = 1) -> Tensor:
    return key.repeat_interleave(heads // key.shape[1], dim=dim)


def _spread_in_turn(key: _Keys, heads: int) -> Tensor:
    return key.repeat(1, heads // key.shape[1], 1, 1)


def _spread_too_many(key: _Keys, heads: int) -> Tensor:
    return key.repeat_interleave(heads, dim=1)


def _spread_three(key: _Keys, heads: int) -> Tensor:
    return key.repeat_interleave(3, dim=1)


def _spread_by_three(key: _Keys, heads: int) -> Tensor:
    return torch.stack([key[:, head // 3] for head in range(heads)], dim=1)


def _spread_flat(key: _Keys, heads: int) -> Tensor:
    return key.repeat_interleave(heads // key.shape[1])


def _stops_at_heads(got: object, expected: object, arguments: tuple) -> str:
    """What to say of an answer to 03.2 that stops with an error, in the place of torch's words."""
    if isinstance(got, TypeError) and re.search("float|received an invalid", str(got)):
        return (
            "something counts with a number that is not whole. In Python 6 / 2 is 3.0, also where "
            "it comes out even; there is another division, one that gives whole numbers."
        )
    if isinstance(got, RuntimeError) and "expanded size" in str(got):
        return "expand copies only an axis of length 1, and there are several keys."
    if isinstance(got, IndexError):
        return "you ask for a key head that is not there: their number is an axis of `key`."
    return ""


def _spread_by_texts(key: _Keys, heads: int) -> Tensor:
    return key.repeat_interleave(heads // len(key), dim=1)


def _spread_as_keys(key: _Keys, heads: int) -> Tensor:
    return key.repeat_interleave(key.shape[1], dim=1)


def _spread_first(key: _Keys, heads: int) -> Tensor:
    return key[:, :1].repeat(1, heads, 1, 1)


def _spread_mean(key: _Keys, heads: int) -> Tensor:
    return key.mean(1, keepdim=True).repeat(1, heads, 1, 1)


# ---- 03.3 an induction score ---------------------------------------------------------------------


def _twice(rng: random.Random) -> tuple[Tensor]:
    """Causal weights of a sequence of n tokens shown twice."""
    length = 2 * rng.randrange(4, 8)
    scores = torch.randn(length, length, generator=_generator(rng))
    later = torch.ones(length, length).triu(1).bool()
    return (scores.masked_fill(later, -torch.inf).softmax(-1),)


def _induction(weights: _Weights, step: int = 1) -> Tensor:
    """Mean weight from each token of the second copy to `step` after its first copy."""
    n = len(weights) // 2
    places = torch.arange(n)
    return weights[places + n, places + step].mean()


def _induction_three(weights: _Weights) -> Tensor:
    return weights[[3, 4, 5], [1, 2, 3]].mean()


def _induction_whole(weights: _Weights) -> Tensor:
    # stops: there is no row 2n
    n = len(weights)
    return torch.stack([weights[n + i, i + 1] for i in range(n)]).mean()


def _induction_diagonal(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    return weights.diagonal(1 - n).mean()


def _induction_sum(weights: _Weights) -> Tensor:
    return _induction(weights) * (len(weights) // 2)


def _induction_all(weights: _Weights) -> Tensor:
    return _induction(weights) / 2


def _induction_previous(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    return weights.diagonal(-1)[n - 1 :].mean()


def _induction_transposed(weights: _Weights) -> Tensor:
    return _induction(weights.T)


def _induction_one_less(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    places = torch.arange(n - 1)
    return weights[places + n, places + 1].mean()


def _induction_first_only(weights: _Weights) -> Tensor:
    return weights[len(weights) // 2, 1]


def _induction_block(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    return weights[n:, 1 : n + 1].mean()


def _induction_first_copy(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    return weights[n:, :n].sum(-1).mean()


def _induction_from_one(weights: _Weights) -> Tensor:
    n = len(weights) // 2
    places = torch.arange(1, n)
    return weights[places + n, places + 1].mean()


def _induction_half(weights: _Weights) -> Tensor:
    # stops: half of the length, 4.0, is no whole number
    n: Any = len(weights) / 2
    return torch.stack([weights[n + i, i + 1] for i in range(n)]).mean()


# ---- 03.4 causal and padded ----------------------------------------------------------------------


def _padded_left(rng: random.Random) -> tuple[Tensor]:
    """A mask of texts of different lengths, padded on the left; the longest has no padding."""
    batch, length = rng.randrange(3, 5), rng.randrange(6, 9)
    mask = torch.ones(batch, length, dtype=torch.long)
    for row, padding in enumerate(rng.sample(range(1, length - 2), batch - 1)):
        mask[row, :padding] = 0
    return (mask[torch.tensor(rng.sample(range(batch), batch))],)


def _earlier(mask: _Mask) -> Bool[Tensor, "query key"]:
    return torch.ones(mask.shape[1], mask.shape[1]).tril().bool()


def _may(mask: _Mask) -> Bool[Tensor, "batch query key"]:
    return _earlier(mask) & mask.bool()[:, None, :]


def _may_causal(mask: _Mask) -> Tensor:
    return _earlier(mask).repeat(len(mask), 1, 1)


def _may_padding(mask: _Mask) -> Tensor:
    return mask.bool()[:, None, :].repeat(1, mask.shape[1], 1)


def _may_either(mask: _Mask) -> Tensor:
    return _earlier(mask) | mask.bool()[:, None, :]


def _may_queries(mask: _Mask) -> Tensor:
    return _earlier(mask) & mask.bool()[:, :, None]


def _may_hidden(mask: _Mask) -> Tensor:
    return ~_may(mask)


def _may_not_itself(mask: _Mask) -> Tensor:
    return _earlier(mask).tril(-1) & mask.bool()[:, None, :]


def _may_later(mask: _Mask) -> Tensor:
    return _earlier(mask).T & mask.bool()[:, None, :]


def _may_on_padding(mask: _Mask) -> Tensor:
    return _earlier(mask) & ~mask.bool()[:, None, :]


def _may_hidden_by_both(mask: _Mask) -> Tensor:
    return ~_earlier(mask) & ~mask.bool()[:, None, :]


def _may_later_of_the_notebook(mask: _Mask) -> Tensor:
    return ~_earlier(mask) & mask.bool()[:, None, :]


def _may_and(mask: _Mask) -> Tensor:
    # stops: `and` wants one True or False
    return _earlier(mask) and mask.bool()[:, None, :]


def _may_one_axis_less_turned(mask: _Mask) -> Tensor:
    return mask.bool() & _earlier(mask)


def _may_one_axis_less(mask: _Mask) -> Tensor:
    # stops: (query, key) and (batch, key) do not fit
    return _earlier(mask) & mask.bool()


def _may_always_itself(mask: _Mask) -> Tensor:
    return _may(mask) | torch.eye(mask.shape[1]).bool()


def _may_axis_in_front(mask: _Mask) -> Tensor:
    # stops: (query, key) and (1, batch, key) do not fit
    return _earlier(mask) & mask.bool()[None]


def _as_bools(got: object, expected: object) -> bool:
    """True and False of the right shape and places: as a tensor, an array or nested lists."""
    answer, right = torch.as_tensor(got), torch.as_tensor(expected)
    return answer.dtype == torch.bool and torch.equal(answer, right)


def _numbers(got: object, expected: object, arguments: tuple) -> str:
    """What to say of an answer to 03.4 that is made of numbers."""
    try:
        answer = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        return ""
    if answer.dtype == torch.bool:
        return ""
    return (
        "your answer holds numbers; asked for are True and False. `masked_fill` takes nothing "
        "else, and 1 and 0 come out of a multiplication or of a mask that is not made bool first."
    )


_AXES = "the two masks have different axes: one is (query, key), the other (batch, key)."

EXERCISES = {
    "03.1": Exercise(
        title="compute a head's causal attention weights",
        inputs=_vectors,
        reference=_causal,
        mistakes={
            "the scores are not divided by anything.": partial(_causal, scale=1.0),
            "you divide by the size itself; look at section 1 again.": _causal_by_size,
            "you divide by a root, but by that of the number of tokens.": _causal_by_length,
            "you multiply where the formula divides.": _causal_multiplied,
            "you divide by √3: that is the size of the toy's vectors.": (
                partial(_causal, scale=3**-0.5)
            ),
            "you divide by 8: that is right for vectors of 64 numbers.": (
                partial(_causal, scale=1 / 8)
            ),
            "no mask: your tokens look ahead.": _causal_none,
            "the later weights are 0, but the rows don't add up to 1: you mask too late.": (
                _causal_after
            ),
            "a score of 0 hides nothing: e to the power of 0 is 1.": _causal_zero,
            "your mask hides the tokens before and shows the later ones.": _causal_earlier,
            "your mask is the wrong way round: it hides all that may be seen, and the last "
            "token has nothing left.": _causal_inverted,
            "a token may see itself; yours may not, and the first has nothing left.": (
                partial(_causal, hidden=0)
            ),
            "your mask begins one place too late: each token sees the one after it.": (
                partial(_causal, hidden=2)
            ),
            "softmax runs along the wrong axis: the columns add up to 1, not the rows.": (
                _causal_axis
            ),
            "queries and keys are swapped: rows are queries.": _causal_swapped,
            "these are the masked scores; the last step is missing.": _causal_scores,
            "your mask is for six tokens, as many as the toy has; here their number differs from "
            "test to test.": _causal_six,
            "your weights are nan, which is no number: 0 times infinity has no value.": (
                _causal_times_infinity
            ),
            "your mask is made with the size of the vectors; it wants a row and a column for "
            "every token.": _causal_mask_by_size,
        },
    ),
    "03.2": Exercise(
        title="give every query head its key",
        inputs=_keys,
        reference=_spread,
        look=_stops_at_heads,
        mistakes={
            "your keys come in turn (A, B, A, B): neighbours should share one.": _spread_in_turn,
            "you copy each key as often as there are query heads: that is too many.": (
                _spread_too_many
            ),
            "you always copy three times: that is SmolLM2's group.": _spread_three,
            "you divide the head's number by 3: that is right for SmolLM2 alone.": (
                _spread_by_three
            ),
            "all your heads read the first key.": _spread_first,
            "you copy single numbers and lose all axes: say along which one to copy.": (
                _spread_flat
            ),
            "you average the keys; each query head should read one of them.": _spread_mean,
            "you copy along the batch axis.": partial(_spread, dim=0),
            "you copy along the tokens: the text has become longer.": partial(_spread, dim=2),
            "you copy the numbers inside each vector.": partial(_spread, dim=3),
            "you divide by the number of texts: the first axis of `key` is the batch.": (
                _spread_by_texts
            ),
            "you copy each key as often as there are keys; how many queries share one is "
            "another number.": _spread_as_keys,
        },
    ),
    "03.3": Exercise(
        title="measure how much a head does induction",
        inputs=_twice,
        reference=_induction,
        mistakes={
            "you look at the first copy of the token itself, not at what came after it.": (
                partial(_induction, step=0)
            ),
            "you look at the token before the first copy.": partial(_induction, step=-1),
            "you look two tokens after the first copy.": partial(_induction, step=2),
            "you fixed n = 3, as in the example: n is half the length of the weights.": (
                _induction_three
            ),
            "you take n as the whole length: there is no row at n + i then.": _induction_whole,
            "you took a whole diagonal of the matrix: it begins before the second copy.": (
                _induction_diagonal
            ),
            "this is a sum: a longer sequence would get a larger score.": _induction_sum,
            "you divide by all queries; only those of the second copy count.": _induction_all,
            "this is the attention to the token just before.": _induction_previous,
            "rows are queries: you read keys as queries, where a causal head has 0.": (
                _induction_transposed
            ),
            "one is missing: the last token has a place to look at too.": _induction_one_less,
            "this is one query alone.": _induction_first_only,
            "you took a whole block: each query has one key that counts.": _induction_block,
            "this is the attention to all of the first copy.": _induction_first_copy,
            "the first token of the second copy is left out.": _induction_from_one,
            "your n is not whole: in Python 6 / 2 is 3.0, also where it comes out even. There is "
            "another division, one that gives whole numbers.": _induction_half,
        },
    ),
    "03.4": Exercise(
        title="join the causal mask and the padding mask",
        inputs=_padded_left,
        reference=_may,
        same=_as_bools,
        look=_numbers,
        mistakes={
            "padding can still be seen: this is the causal mask alone.": _may_causal,
            "later tokens can still be seen: this is the padding mask alone.": _may_padding,
            "one of the conditions is enough for you; both must hold.": _may_either,
            "you hide rows: padding must not be looked *at*, so it is a matter of keys.": (
                _may_queries
            ),
            "True should say that a query may look; yours says that it may not.": _may_hidden,
            "no token sees itself.": _may_not_itself,
            "your tokens look ahead, and not back.": _may_later,
            "your tokens see nothing but padding: 1 in the mask means real.": _may_on_padding,
            "this is True where a key is later and padding: True should say what may be seen, "
            "and one reason is enough to hide a key.": _may_hidden_by_both,
            "your causal part is that of section 2, where True means hidden; here True says what "
            "may be seen.": _may_later_of_the_notebook,
            "`and` joins one True or False with another; element by element it is an operator "
            "of a single sign.": _may_and,
            _AXES: _may_one_axis_less,
            "the two masks have different axes: one is (batch, key), the other (query, key).": (
                _may_one_axis_less_turned
            ),
            "your padding tokens see themselves: they are keys that are padding, like any other.": (
                _may_always_itself
            ),
            "the new axis stands in front of the texts: where do the queries stand in an answer?": (
                _may_axis_in_front
            ),
        },
    ),
}
