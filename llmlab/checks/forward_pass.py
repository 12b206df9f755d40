"""The exercises of notebook 02: next tokens, a norm, parameters, a loss, a sentence vector."""

import math
import random
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlab.checks import Exercise

IGNORED = -100  # the label that means "do not count this position", in torch and transformers


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


# ---- 02.1 the next token of a padded batch -------------------------------------------------------

_Logits = Float[Tensor, "batch sequence vocabulary"]
_Mask = Int[Tensor, "batch sequence"]
_Ids = Int[Tensor, "batch"]


def _next_inputs(rng: random.Random) -> tuple[Tensor, Tensor]:
    """Logits and a mask: rows of different lengths, all padded on the right."""
    batch, sequence, vocabulary = rng.randrange(3, 5), rng.randrange(7, 10), rng.randrange(20, 40)
    mask = torch.zeros(batch, sequence, dtype=torch.long)
    for row, length in enumerate(rng.sample(range(2, sequence), batch)):
        mask[row, :length] = 1
    return torch.randn(batch, sequence, vocabulary, generator=_generator(rng)), mask


def _at(logits: Tensor, positions: Tensor) -> Tensor:
    """Of each row the logits at one position: (batch, vocabulary)."""
    return logits[torch.arange(len(logits)), positions]


def _next(logits: _Logits, attention_mask: _Mask) -> _Ids:
    return _at(logits, attention_mask.sum(1) - 1).argmax(-1)


def _next_padding(logits: _Logits, attention_mask: _Mask) -> _Ids:
    return logits[:, -1].argmax(-1)


def _next_one_late(logits: _Logits, attention_mask: _Mask) -> _Ids:
    return _at(logits, attention_mask.sum(1)).argmax(-1)


def _next_one_early(logits: _Logits, attention_mask: _Mask) -> _Ids:
    return _at(logits, attention_mask.sum(1) - 2).argmax(-1)


def _next_first(logits: _Logits, attention_mask: _Mask) -> _Ids:
    return logits[:, 0].argmax(-1)


def _next_all(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return logits.argmax(-1)


def _next_sequence_axis(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return logits.argmax(1)


def _next_one_text(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return logits[0, attention_mask[0].sum() - 1].argmax(-1)


def _next_logit(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return _at(logits, attention_mask.sum(1) - 1).amax(-1)


def _next_probability(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return _at(logits, attention_mask.sum(1) - 1).softmax(-1).amax(-1)


# ---- 02.2 GPT-2's norm -------------------------------------------------------------------------


def _norm_inputs(rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    batch, sequence, hidden = rng.sample(range(4, 9), 3)
    draw = _generator(rng)
    # large numbers: where the tiny 1e-5 stands must not decide
    x = torch.randn(batch, sequence, hidden, generator=draw) * 30 + 20
    weight = torch.rand(hidden, generator=draw) + 0.5
    return x, weight, torch.randn(hidden, generator=draw)


_Stream = Float[Tensor, "batch sequence hidden"]
_Vector = Float[Tensor, "hidden"]


def _layer_norm(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    return nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)


def _centred_over(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Mean 0 and spread 1 over these axes; the right one is the last."""
    centred = x - x.mean(dim, keepdim=True)
    return centred / (centred.pow(2).mean(dim, keepdim=True) + 1e-5).sqrt()


def _rms_norm(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() + bias


def _norm_sample(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    spread = (x.var(-1, keepdim=True) + 1e-5).sqrt()
    return weight * (x - x.mean(-1, keepdim=True)) / spread + bias


def _norm_half_centred(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    size = (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return weight * (x - x.mean(-1, keepdim=True)) / size + bias


def _norm_no_root(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    variance = x.var(-1, keepdim=True, correction=0)
    return weight * (x - x.mean(-1, keepdim=True)) / (variance + 1e-5) + bias


# ---- 02.3 the loss of a padded batch -----------------------------------------------------------

_Labels = Int[Tensor, "batch sequence"]


def _loss_inputs(rng: random.Random) -> tuple[Tensor, Tensor]:
    batch, sequence, vocabulary = rng.randrange(2, 5), rng.randrange(6, 10), rng.randrange(4, 9)
    draw = _generator(rng)
    logits = 2 * torch.randn(batch, sequence, vocabulary, generator=draw)
    labels = torch.randint(vocabulary, (batch, sequence), generator=draw)
    labels[0, 3:] = IGNORED  # one short text at least, so that the means differ
    for row in range(1, batch - 1):
        labels[row, rng.randrange(4, sequence) :] = IGNORED
    return logits, labels


def _surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """−log P(label) at each position, 0 where the label is ignored."""
    log_probs = logits.log_softmax(-1)
    picked = log_probs.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return -picked * (labels != IGNORED)


def _loss(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, 1:]
    return _surprise(logits[:, :-1], targets).sum() / (targets != IGNORED).sum()


def _loss_no_shift(logits: _Logits, labels: _Labels) -> Tensor:
    return _surprise(logits, labels).sum() / (labels != IGNORED).sum()


def _loss_shift_back(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, :-1]
    return _surprise(logits[:, 1:], targets).sum() / (targets != IGNORED).sum()


def _loss_over_all(logits: _Logits, labels: _Labels) -> Tensor:
    return _surprise(logits[:, :-1], labels[:, 1:]).mean()


def _loss_padding_is_token_0(logits: _Logits, labels: _Labels) -> Tensor:
    return _surprise(logits[:, :-1], labels[:, 1:].clamp(min=0)).mean()


def _loss_sum(logits: _Logits, labels: _Labels) -> Tensor:
    return _surprise(logits[:, :-1], labels[:, 1:]).sum()


def _loss_by_text(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, 1:]
    texts = _surprise(logits[:, :-1], targets).sum(1) / (targets != IGNORED).sum(1)
    return texts.mean()


def _loss_bits(logits: _Logits, labels: _Labels) -> Tensor:
    return _loss(logits, labels) / math.log(2)


def _loss_sign(logits: _Logits, labels: _Labels) -> Tensor:
    return -_loss(logits, labels)


def _loss_log_last(logits: _Logits, labels: _Labels) -> Tensor:
    counted = labels[:, 1:] != IGNORED
    return -(-_surprise(logits[:, :-1], labels[:, 1:])).exp()[counted].mean().log()


def _loss_raw_logits(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, 1:]
    picked = logits[:, :-1].gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked[targets != IGNORED].mean()


# ---- 02.4 parameters from the sizes --------------------------------------------------------------


def _sizes(rng: random.Random) -> tuple[int, int, int, int, int, int]:
    key_heads, group, head = rng.randrange(2, 5), rng.randrange(2, 5), 2 * rng.randrange(4, 40)
    heads = key_heads * group
    return (
        rng.randrange(1000, 60000), heads * head, rng.randrange(2, 40), heads, key_heads,
        rng.randrange(200, 4000),
    )  # fmt: skip


def _count(
    vocabulary: int,
    hidden: int,
    layers: int,
    heads: int,
    key_heads: int,
    inner: int,
    *,
    tied: bool = True,
    key_value: float = 2,
    output: int = 1,
    matrices: int = 3,
    norms: int = 2,
    last_norm: int = 1,
) -> int:
    """The parameters of a Llama without biases; the options after the star are for mistakes."""
    attention = (1 + output) * hidden * hidden + key_value * hidden * (hidden // heads) * key_heads
    layer = attention + matrices * hidden * inner + norms * hidden
    ends = vocabulary * hidden * (1 if tied else 2) + last_norm * hidden
    return int(layers * layer + ends)


def _count_all_heads(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, layers, heads, heads, inner)


def _count_head_as_hidden(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, layers, 1, key_heads, inner)


def _count_one_layer(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, 1, heads, key_heads, inner)


# ---- 02.5 a vector for a sentence --------------------------------------------------------------

_Sentence = Float[Tensor, "batch hidden"]


def _pool_inputs(rng: random.Random) -> tuple[Tensor, Tensor]:
    batch, hidden = rng.sample(range(2, 5), 2)
    sequence = rng.randrange(6, 9)
    states = torch.randn(batch, sequence, hidden, generator=_generator(rng))
    mask = torch.ones(batch, sequence, dtype=torch.long)
    mask[0, 2:] = 0  # real tokens 0 and 1, then padding
    for row in range(1, batch):
        mask[row, rng.randrange(4, sequence) :] = 0
    return states, mask


def _pool(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    keep = attention_mask[..., None]
    return (last_hidden_state * keep).sum(1) / keep.sum(1)


def _pool_padding(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return last_hidden_state.mean(1)


def _pool_long_divisor(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return (last_hidden_state * attention_mask[..., None]).mean(1)


def _pool_sum(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return (last_hidden_state * attention_mask[..., None]).sum(1)


def _pool_inverted(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return _pool(last_hidden_state, 1 - attention_mask)


def _pool_first(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return last_hidden_state[:, 0]


def _pool_last(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return last_hidden_state[:, -1]


def _pool_hidden_axis(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    return (last_hidden_state * attention_mask[..., None]).mean(-1)


def _pool_batch_axis(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    return (last_hidden_state * attention_mask[..., None]).mean(0)


def _pool_whole_batch(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    return (last_hidden_state * attention_mask[..., None]).sum(1) / attention_mask.sum()


EXERCISES = {
    "02.1": Exercise(
        title="find the likeliest next token of every text in a padded batch",
        inputs=_next_inputs,
        reference=_next,
        mistakes={
            "you read the last position of every row, and in a padded row that is padding.": (
                _next_padding
            ),
            "you look one position too far: there the text is over.": _next_one_late,
            "you look one position too early.": _next_one_early,
            "you read the first position: it has seen one token only.": _next_first,
            "you return an answer for every position; one a text is asked for.": _next_all,
            "your argmax runs along the sequence: it finds positions, not tokens.": (
                _next_sequence_axis
            ),
            "only the first text gets an answer.": _next_one_text,
            "these are the logits themselves; their place in the vocabulary is asked for.": (
                _next_logit
            ),
            "these are probabilities; the ids they belong to are asked for.": _next_probability,
        },
    ),
    "02.2": Exercise(
        title="write GPT-2's norm",
        inputs=_norm_inputs,
        reference=_layer_norm,
        mistakes={
            "this is still RMSNorm (plus the bias): one of the two steps is missing.": _rms_norm,
            "nearly: the spread is that of a sample. Look up what torch's `var` and `std` divide "
            "by.": _norm_sample,
            "the spread is taken of the numbers before their mean is removed.": _norm_half_centred,
            "you divide by the variance itself: its unit is the square of what you want.": (
                _norm_no_root
            ),
            "you normalise along the sequence: every token's vector should stand alone.": (
                lambda x, weight, bias: weight * _centred_over(x, 1) + bias
            ),
            "you normalise across the batch: one text now depends on the others.": (
                lambda x, weight, bias: weight * _centred_over(x, 0) + bias
            ),
            "mean and spread are taken over the whole tensor at once.": (
                lambda x, weight, bias: weight * _centred_over(x, (0, 1, 2)) + bias
            ),
            "the bias has no effect in your result.": (
                lambda x, weight, bias: weight * _centred_over(x, -1)
            ),
            "the weight has no effect in your result.": (
                lambda x, weight, bias: _centred_over(x, -1) + bias
            ),
            "the weight stretches the bias too: mind the order.": (
                lambda x, weight, bias: weight * (_centred_over(x, -1) + bias)
            ),
        },
    ),
    "02.3": Exercise(
        title="compute the loss of a padded batch",
        inputs=_loss_inputs,
        reference=_loss,
        mistakes={
            "each position is asked for the token that it has just read.": _loss_no_shift,
            "each position is asked for the token before it: the shift goes the other way.": (
                _loss_shift_back
            ),
            "you add up the right terms and divide by too many: the ignored positions are still "
            "in the count.": _loss_over_all,
            "the ignored positions are scored as if token 0 stood there.": _loss_padding_is_token_0,
            "this is a total: it grows with the length of the batch.": _loss_sum,
            "a short text weighs as much as a long one in your mean.": _loss_by_text,
            "the unit is bits: your logarithm has base 2.": _loss_bits,
            "the sign is turned round: a loss is never below zero.": _loss_sign,
            "you take the logarithm of a mean: mean and logarithm do not commute.": _loss_log_last,
            "these are raw logits: they have not become probabilities yet.": _loss_raw_logits,
        },
    ),
    "02.4": Exercise(
        title="count a Llama's parameters from its sizes",
        inputs=_sizes,
        reference=_count,
        mistakes={
            "the two ends share one table, and you count it twice.": partial(_count, tied=False),
            "you give every query head its own key and value head.": _count_all_heads,
            "your key and value heads are each as wide as the whole vector.": (
                _count_head_as_hidden
            ),
            "keys or values: one of the two is missing.": partial(_count, key_value=1),
            "the attention block has one more matrix, behind the heads.": partial(_count, output=0),
            "your MLP has two matrices, as GPT-2's: look at the parts list again.": (
                partial(_count, matrices=2)
            ),
            "the norms are left out.": partial(_count, norms=0, last_norm=0),
            "each layer has more than one norm.": partial(_count, norms=1),
            "one small vector at the very end is missing.": partial(_count, last_norm=0),
            "this is a model of one layer.": _count_one_layer,
        },
    ),
    "02.5": Exercise(
        title="make one vector of each sentence",
        inputs=_pool_inputs,
        reference=_pool,
        mistakes={
            "the padding takes part in the mean.": _pool_padding,
            "the padding is zeroed, and still counts in what you divide by.": _pool_long_divisor,
            "this is a sum: a long sentence gets a longer vector.": _pool_sum,
            "the mask is read the wrong way round: you average the padding.": _pool_inverted,
            "this is the first token's vector alone.": _pool_first,
            "this is the last position's vector alone, and in a padded row that is padding.": (
                _pool_last
            ),
            "you average over the hidden axis: each token became one number.": _pool_hidden_axis,
            "you average over the batch axis: the sentences are mixed together.": _pool_batch_axis,
            "every row is divided by the number of tokens in the whole batch.": _pool_whole_batch,
        },
    ),
}
