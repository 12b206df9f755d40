"""The parts of homework 4: a head's scores, its weights, several heads, all of it, a window."""

import random
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.checks import Exercise
from llmlab.grading.assignment import Assignment, Part

_Vectors = Float[Tensor, "token size"]
_Scores = Float[Tensor, "query key"]
_Hidden = Float[Tensor, "token width"]
_Heads = Float[Tensor, "head token size"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


def _normal(rng: random.Random, *shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator(rng))


# ---- hw4.1 scores --------------------------------------------------------------------------------


def _queries_and_keys(rng: random.Random) -> tuple[Tensor, Tensor]:
    """As many queries as keys; the size is never their number, nor that of the notebook's model."""
    token, size = rng.randrange(5, 9), rng.choice([10, 12, 20, 24])
    return _normal(rng, token, size), _normal(rng, token, size)


def _scores(q: _Vectors, k: _Vectors) -> _Scores:
    return q @ k.T / q.shape[-1] ** 0.5


def _scores_raw(q: _Vectors, k: _Vectors) -> _Scores:
    return q @ k.T


def _scores_by_size(q: _Vectors, k: _Vectors) -> _Scores:
    return q @ k.T / q.shape[-1]


def _scores_by_tokens(q: _Vectors, k: _Vectors) -> _Scores:
    return q @ k.T / len(q) ** 0.5


def _scores_times(q: _Vectors, k: _Vectors) -> _Scores:
    return q @ k.T * q.shape[-1] ** 0.5


def _scores_of(q: _Vectors, k: _Vectors, size: int) -> _Scores:
    return q @ k.T / size**0.5


def _scores_turned(q: _Vectors, k: _Vectors) -> _Scores:
    return _scores(k, q)


def _scores_softmax(q: _Vectors, k: _Vectors) -> _Scores:
    return _scores(q, k).softmax(-1)


def _scores_untransposed(q: _Vectors, k: _Vectors) -> Tensor:
    return q @ k  # stops


def _scores_elementwise(q: _Vectors, k: _Vectors) -> Tensor:
    return q * k / q.shape[-1] ** 0.5


# ---- hw4.2 causal weights, hw4.5 a window --------------------------------------------------------


def _square(rng: random.Random) -> tuple[Tensor]:
    token = rng.randrange(5, 9)
    return (2 * _normal(rng, token, token),)


def _masked(scores: _Scores, hide: Tensor) -> _Scores:
    return scores.masked_fill(hide, -torch.inf).softmax(-1)


def _ones(scores: _Scores) -> Tensor:
    return torch.ones_like(scores)


def _causal(scores: _Scores, first: int = 1) -> _Scores:
    """`first`: the first diagonal that is hidden."""
    return _masked(scores, _ones(scores).triu(first).bool())


def _causal_none(scores: _Scores) -> _Scores:
    return scores.softmax(-1)


def _causal_late(scores: _Scores) -> _Scores:
    return scores.softmax(-1).tril()


def _causal_zero(scores: _Scores) -> _Scores:
    return scores.tril().softmax(-1)


def _causal_earlier(scores: _Scores) -> _Scores:
    return _masked(scores, _ones(scores).tril(-1).bool())


def _causal_inverted(scores: _Scores) -> _Scores:
    return _masked(scores, _ones(scores).tril().bool())


def _causal_columns(scores: _Scores) -> _Scores:
    return scores.masked_fill(_ones(scores).triu(1).bool(), -torch.inf).softmax(0)


def _causal_no_softmax(scores: _Scores) -> _Scores:
    return scores.masked_fill(_ones(scores).triu(1).bool(), -torch.inf)


def _window_inputs(rng: random.Random) -> tuple[Tensor, int]:
    token = rng.randrange(7, 11)
    return 2 * _normal(rng, token, token), rng.randrange(2, 5)


def _window(scores: _Scores, window: int, more: int = 0) -> _Scores:
    ones = _ones(scores)
    return _masked(scores, (ones.triu(1) + ones.tril(-window - more)).bool())


def _window_only_causal(scores: _Scores, window: int) -> _Scores:
    return _causal(scores)


def _window_both_sides(scores: _Scores, window: int) -> _Scores:
    return _masked(scores, (_ones(scores).triu(window) + _ones(scores).tril(-window)).bool())


def _window_far(scores: _Scores, window: int) -> _Scores:
    """Only what lies before the window; a row with nothing left is shared evenly."""
    return _masked(scores, _ones(scores).triu(1 - window).bool())


def _window_ahead(scores: _Scores, window: int) -> _Scores:
    return _masked(scores, (_ones(scores).triu(window) + _ones(scores).tril(-1)).bool())


def _window_late(scores: _Scores, window: int) -> _Scores:
    return _causal(scores).triu(1 - window)


def _window_three(scores: _Scores, window: int) -> _Scores:
    return _window(scores, 3)


# ---- hw4.3 heads ---------------------------------------------------------------------------------


def _to_split(rng: random.Random) -> tuple[Tensor, int]:
    """Numbers of tokens, of heads and of a head's size all differ."""
    token, heads, size = rng.sample([2, 3, 4, 5, 6, 7], 3)
    return _normal(rng, token, heads * size), heads


def _split(x: _Hidden, heads: int) -> _Heads:
    return x.reshape(len(x), heads, -1).transpose(0, 1)


def _split_reshaped(x: _Hidden, heads: int) -> _Heads:
    return x.reshape(heads, len(x), -1)


def _split_not_turned(x: _Hidden, heads: int) -> Tensor:
    return x.reshape(len(x), heads, -1)


def _split_in_turn(x: _Hidden, heads: int) -> _Heads:
    return x.reshape(len(x), -1, heads).permute(2, 0, 1)


def _split_tokens_last(x: _Hidden, heads: int) -> Tensor:
    return _split(x, heads).transpose(1, 2)


def _split_six(x: _Hidden, heads: int) -> _Heads:
    return _split(x, 6)


def _split_copies(x: _Hidden, heads: int) -> Tensor:
    return x[None].repeat(heads, 1, 1)


# ---- hw4.4 a layer's weights ---------------------------------------------------------------------


def _layer(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, int]:
    token, heads, size = rng.sample([3, 4, 5, 6], 3)
    width = heads * size
    weight = _normal(rng, width, 3 * width) / width**0.5
    return _normal(rng, token, width), weight, _normal(rng, 3 * width), heads


def _weights(
    hidden: _Hidden, weight: Tensor, bias: Tensor, heads: int,
    *, places: tuple[int, int] = (0, 1), biased: bool = True, scale: str = "size",
    causal: bool = True, mixed: bool = False,
) -> Float[Tensor, "head query key"]:  # fmt: skip
    """`places`: which thirds of the product are queries and keys."""
    parts = (hidden @ weight + (bias if biased else 0)).chunk(3, dim=-1)
    split = _split_reshaped if mixed else _split
    q, k = (split(parts[place], heads) for place in places)
    by = {"size": q.shape[-1], "width": hidden.shape[-1], "none": 1}[scale]
    scores = q @ k.transpose(-1, -2) / by**0.5
    return _causal(scores) if causal else scores.softmax(-1)


def _weights_mean(hidden: _Hidden, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    return _weights(hidden, weight, bias, heads).mean(0)


def _weights_single(hidden: _Hidden, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    return _weights(hidden, weight, bias, 1)


def _weights_six(hidden: _Hidden, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    return _weights(hidden, weight, bias, 6)


def _weights_linear(hidden: _Hidden, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    return _weights(hidden, weight.T, bias, heads)  # stops


EXERCISES = {
    "hw4.1": Exercise(
        title="scaled dot products of queries and keys",
        inputs=_queries_and_keys,
        reference=_scores,
        mistakes={
            "nothing is divided: the longer the vectors, the larger your scores.": _scores_raw,
            "you divide by the size itself; the formula has its root.": _scores_by_size,
            "you divide by the root of the number of tokens; it is that of the size of a query.": (
                _scores_by_tokens
            ),
            "you multiply by the root where the formula divides.": _scores_times,
            "you divide by 4: that is right for vectors of 16 numbers.": (
                partial(_scores_of, size=16)
            ),
            "you divide by √32: that is right for vectors of 32 numbers.": (
                partial(_scores_of, size=32)
            ),
            "you divide by 8: that is right for vectors of 64 numbers.": (
                partial(_scores_of, size=64)
            ),
            "rows and columns are swapped: a row belongs to a query.": _scores_turned,
            "these are weights already: the softmax comes in the next part.": _scores_softmax,
            "(token, size) @ (token, size) does not fit: one of the two must be transposed.": (
                _scores_untransposed
            ),
            "you multiply number by number and don't add up; a dot product is one number for each "
            "pair of a query and a key.": _scores_elementwise,
        },
    ),
    "hw4.2": Exercise(
        title="from scores to causal weights",
        inputs=_square,
        reference=_causal,
        mistakes={
            "no mask: your tokens look ahead.": _causal_none,
            "the later weights are 0, but the rows don't add up to 1: mask before the softmax.": (
                _causal_late
            ),
            "a score of 0 hides nothing: e to the power of 0 is 1.": _causal_zero,
            "your mask hides the tokens before and shows the later ones.": _causal_earlier,
            "your mask is the wrong way round: the last token has nothing left.": _causal_inverted,
            "a token may see itself; yours may not, and the first has nothing left.": (
                partial(_causal, first=0)
            ),
            "your mask begins one place too late: each token sees the one after it.": (
                partial(_causal, first=2)
            ),
            "softmax runs along the wrong axis: your columns add up to 1, not the rows.": (
                _causal_columns
            ),
            "these are the masked scores: the softmax is missing.": _causal_no_softmax,
        },
    ),
    "hw4.3": Exercise(
        title="cut vectors into heads",
        inputs=_to_split,
        reference=_split,
        mistakes={
            "the shape is right and the numbers are mixed up: one reshape to (head, token, size) "
            "puts numbers of different tokens into one vector.": _split_reshaped,
            "the heads are cut well, but the axes are (token, head, size).": _split_not_turned,
            "each head takes every so-manieth number; it should take a run of neighbours.": (
                _split_in_turn
            ),
            "the last two axes are swapped: asked is (head, token, size).": _split_tokens_last,
            "your number of heads is fixed at 6: it is an argument.": _split_six,
            "each head gets the whole vector; it should get its share.": _split_copies,
        },
    ),
    "hw4.4": Exercise(
        title="the attention weights of a whole layer",
        inputs=_layer,
        reference=_weights,
        mistakes={
            "no mask: your tokens look ahead.": partial(_weights, causal=False),
            "the bias is missing.": partial(_weights, biased=False),
            "you divide by the root of the width; each head has a smaller size.": (
                partial(_weights, scale="width")
            ),
            "the scores are not divided by anything.": partial(_weights, scale="none"),
            "queries and keys are swapped: the first third are queries.": (
                partial(_weights, places=(1, 0))
            ),
            "you take the values for keys: keys are the second third.": (
                partial(_weights, places=(0, 2))
            ),
            "you take the second and the last third; queries and keys are the first two.": (
                partial(_weights, places=(1, 2))
            ),
            "queries are compared with queries.": partial(_weights, places=(0, 0)),
            "the heads are cut by one reshape, which mixes tokens: see part 3.": (
                partial(_weights, mixed=True)
            ),
            "you average the heads; asked is each one's own matrix.": _weights_mean,
            "one head over the whole width: cut into heads before you multiply.": _weights_single,
            "your number of heads is fixed at 6: it is an argument.": _weights_six,
            "this weight is stored as (in, out), unlike that of nn.Linear: don't transpose it.": (
                _weights_linear
            ),
        },
    ),
    "hw4.5": Exercise(
        title="a window that moves along",
        inputs=_window_inputs,
        reference=_window,
        mistakes={
            "your window has no end: it is the causal mask of part 2.": _window_only_causal,
            "one too many: a window of 2 is the token itself and the one before it.": (
                partial(_window, more=1)
            ),
            "one too few: the token itself counts as one, not as two.": partial(_window, more=-1),
            "your window is open on both sides: later tokens are seen.": _window_both_sides,
            "your window lies ahead of the token; it should end at it.": _window_ahead,
            "your mask is the wrong way round: what lies in the window is hidden.": _window_far,
            "the rows don't add up to 1: hide both ends before the softmax.": _window_late,
            "your window is fixed at 3: it is an argument.": _window_three,
        },
    ),
}

ASSIGNMENT = Assignment(
    name="hw4",
    notebook="hw4_build_attention.ipynb",
    parts=(
        Part("hw4.1", "scores", 2, EXERCISES["hw4.1"]),
        Part("hw4.2", "causal_weights", 4, EXERCISES["hw4.2"]),
        Part("hw4.3", "split_heads", 4, EXERCISES["hw4.3"]),
        Part("hw4.4", "attention_weights", 6, EXERCISES["hw4.4"]),
        Part("hw4.5", "windowed_weights", 4, EXERCISES["hw4.5"]),
    ),
)
