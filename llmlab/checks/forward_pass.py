"""The exercises of notebook 02: next tokens, a loss, a norm, parameters, a sentence vector."""

import math
import random
from functools import partial
from typing import Any

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


def _next_every_position(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return logits[:, attention_mask.sum(1) - 1].argmax(-1)  # (batch, batch)


def _next_no_axis(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return _at(logits, attention_mask.sum(1) - 1).argmax()


def _next_values_and_places(logits: _Logits, attention_mask: _Mask) -> Any:
    return _at(logits, attention_mask.sum(1) - 1).max(-1)


def _next_mask_axis(logits: _Logits, attention_mask: _Mask) -> Tensor:
    return _at(logits, attention_mask.sum(0) - 1)  # stops: as many positions as the sequence has


# ---- 02.2 the loss of a padded batch -----------------------------------------------------------

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


def _loss_probability(logits: _Logits, labels: _Labels) -> Tensor:
    counted = labels[:, 1:] != IGNORED
    return (-_surprise(logits[:, :-1], labels[:, 1:])).exp()[counted].mean()


def _loss_softmax_over(dim: int, logits: _Logits, labels: _Labels) -> Tensor:
    """Softmax along another axis, before or after the shift (the last row counts or not)."""
    targets = labels[:, 1:]
    picked = logits[:, :-1].log_softmax(dim).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked[targets != IGNORED].mean()


def _loss_softmax_over_whole(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, 1:]
    picked = logits.log_softmax(1)[:, :-1].gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked[targets != IGNORED].mean()


def _loss_log_of_logits(logits: _Logits, labels: _Labels) -> Tensor:
    targets = labels[:, 1:]
    picked = logits[:, :-1].gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -picked[targets != IGNORED].log().mean()


def _loss_mask_not_shifted(logits: _Logits, labels: _Labels) -> Tensor:
    log_probs = logits[:, :-1].log_softmax(-1)
    picked = log_probs.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return -picked[labels[:, :-1] != IGNORED].mean()


def _loss_token_0_masked(logits: _Logits, labels: _Labels) -> Tensor:
    return _loss(logits, labels.masked_fill(labels == 0, IGNORED))


def _loss_row_minus_1(logits: _Logits, labels: _Labels) -> Tensor:
    """A loop over all positions that reads row j - 1, also where j is 0."""
    return (_surprise(logits.roll(1, 1), labels)).sum() / (labels != IGNORED).sum()


def _loss_softmax_twice(logits: _Logits, labels: _Labels) -> Tensor:
    return _loss(logits.softmax(-1), labels)


def _loss_ignored_gathered(logits: _Logits, labels: _Labels) -> Tensor:
    # stops: -100 is no place in the vocabulary
    return logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:, None])


def _loss_ignored_indexed(logits: _Logits, labels: _Labels) -> Tensor:
    return logits[0, 0][labels[labels == IGNORED][0]]  # stops, as it does in a loop


def _loss_ignored_listed(logits: _Logits, labels: _Labels) -> Tensor:
    row = labels[0, 1:]
    return logits[0, :-1][range(len(row)), row]  # stops, with two lists of places


# ---- 02.3 GPT-2's norm -------------------------------------------------------------------------


def _norm_inputs(rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    batch, sequence, hidden = rng.sample(range(4, 9), 3)
    draw = _generator(rng)
    x = torch.randn(batch, sequence, hidden, generator=draw) * 30 + 20
    x[0, 0] = 7.0  # equal numbers: without the tiny number this is 0 / 0
    x[1, 1] = 0.01 * torch.randn(hidden, generator=draw)  # so small that its place shows
    weight = torch.rand(hidden, generator=draw) + 0.5
    return x, weight, torch.randn(hidden, generator=draw)


_Stream = Float[Tensor, "batch sequence hidden"]
_Vector = Float[Tensor, "hidden"]


def _layer_norm(x: _Stream, weight: _Vector, bias: _Vector) -> _Stream:
    return nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)


def _norm(
    x: _Stream,
    weight: _Vector,
    bias: _Vector,
    *,
    dim: int | tuple[int, ...] = -1,
    tiny: str = "under the root",
    spread: str = "",
    weighted: str = "",
) -> Tensor:
    """LayerNorm by hand; the options after the star are for mistakes."""
    centred = x - x.mean(dim, keepdim=True)
    squares = x if spread == "not centred" else centred
    variance = squares.pow(2).mean(dim, keepdim=True)
    if spread == "sample":
        variance = x.var(dim, keepdim=True)
    under, outside = 1e-5 * (tiny == "under the root"), 1e-5 * (tiny == "outside")
    divisor = variance + max(under, outside)
    if spread != "no root":
        divisor = (variance + under).sqrt() + outside
    if spread == "not above":
        centred = x
    if spread == "rms":
        centred, divisor = x, (x.pow(2).mean(dim, keepdim=True) + under).sqrt() + outside
    normed = centred / divisor
    if weighted == "bias too":
        return weight * (normed + bias)
    return (1 if weighted == "no" else weight) * normed + (0 if weighted == "no bias" else bias)


def _norm_axis_lost(x: _Stream, weight: _Vector, bias: _Vector) -> Tensor:
    return weight * (x - x.mean(-1)) + bias  # stops: (hidden) cannot meet (sequence)


_NORM_MISTAKES: dict[str, dict[str, Any]] = {
    "this is still RMSNorm (plus the bias): one of the two steps is missing.": {"spread": "rms"},
    "nearly: the spread is that of a sample. Look up what torch's `var` and `std` divide by.": {
        "spread": "sample"
    },
    "the spread is taken of the numbers before their mean is removed.": {"spread": "not centred"},
    "you divide by the variance itself: its unit is the square of what you want.": {
        "spread": "no root"
    },
    "the mean is taken off for the spread only: what you divide still has it.": {
        "spread": "not above"
    },
    "you normalise along the sequence: every token's vector should stand alone.": {"dim": 1},
    "you normalise across the batch: one text now depends on the others.": {"dim": 0},
    "mean and spread are taken over the whole tensor at once.": {"dim": (0, 1, 2)},
    "the bias has no effect in your result.": {"weighted": "no bias"},
    "the weight has no effect in your result.": {"weighted": "no"},
    "the weight stretches the bias too: mind the order.": {"weighted": "bias too"},
}


def _norm_not_divided(x: _Stream, weight: _Vector, bias: _Vector) -> Tensor:
    return weight * (x - x.mean(-1, keepdim=True)) + bias


# Where the tiny number stands is a mistake of its own, and may come with each of the others.
_TINY = {
    "under the root": "",
    "outside": "the tiny 1e-5 is added after the root: add it before.",
    "nowhere": "where all numbers of a vector are equal you divide 0 by 0: the tiny 1e-5 is "
    "missing.",
}


def _norm_mistakes() -> dict[str, Any]:
    """Message -> mistake, for each mistake with the tiny number in each place."""
    found: dict[str, Any] = {}
    for tiny, also in _TINY.items():
        if also:
            found[also] = partial(_norm, tiny=tiny)
        for message, options in _NORM_MISTAKES.items():
            no_root = options.get("spread") == "no root" and tiny == "outside"
            if also and ("dim" in options or no_root):
                continue  # there the place of the tiny number makes no difference
            whole = f"{message} And {also}" if also else message
            found[whole] = partial(_norm, tiny=tiny, **options)
    found["the mean is gone, but nothing is divided by the spread."] = _norm_not_divided
    found["an axis got lost: a mean takes (batch, sequence, hidden) to (batch, sequence), and the "
          "two do not fit together. Look at `keepdim` in rms_norm."] = _norm_axis_lost  # fmt: skip
    return found


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


def _count_head_of_64(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    head = 64  # keys and values: 2 matrices of (key_heads * 64, hidden)
    without = _count(vocabulary, hidden, layers, heads, key_heads, inner, key_value=0)
    return without + layers * 2 * hidden * head * key_heads


def _count_third(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    without = _count(vocabulary, hidden, layers, heads, key_heads, inner, key_value=0)
    return without + layers * 2 * hidden * (hidden // 3)


def _count_smollm2(*sizes: int) -> int:
    return 134_515_008


def _count_all_heads(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, layers, heads, heads, inner)


def _count_head_as_hidden(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, layers, 1, key_heads, inner)


def _count_one_key_head(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(vocabulary, hidden, layers, heads, 1, inner)


def _count_no_embedding(
    vocabulary: int, hidden: int, layers: int, heads: int, key_heads: int, inner: int
) -> int:
    return _count(0, hidden, layers, heads, key_heads, inner)


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


def _pool_divisor_axis(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    total = (last_hidden_state * attention_mask[..., None]).sum(1)
    return total / attention_mask.sum(1)  # stops: (batch, hidden) / (batch)


def _pool_mask_axis(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    return (
        last_hidden_state * attention_mask
    )  # stops: (batch, sequence, hidden) * (batch, sequence)


def _pool_one_for_all(last_hidden_state: _Stream, attention_mask: _Mask) -> Tensor:
    return last_hidden_state[attention_mask == 1].mean(0)


def _pool_last_real(last_hidden_state: _Stream, attention_mask: _Mask) -> _Sentence:
    return _at(last_hidden_state, attention_mask.sum(1) - 1)


_NO_PLACE = (
    "−100 is no place in the vocabulary: decide which positions to keep first, then look up."
)

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
            "you take the positions of all texts from every row; from each row one is wanted. "
            "Give a list of rows as well.": _next_every_position,
            "your argmax has no axis: it searched all texts at once.": _next_no_axis,
            "only the first text gets an answer.": _next_one_text,
            "these are the logits themselves; their place in the vocabulary is asked for.": (
                _next_logit
            ),
            "these are probabilities; the ids they belong to are asked for.": _next_probability,
            "`max` gives two things, the largest values and their places, and you return both.": (
                _next_values_and_places
            ),
            "you add up the mask along the batch: the length of each text is wanted, one number a "
            "row.": _next_mask_axis,
        },
    ),
    "02.2": Exercise(
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
            "this is a mean of probabilities: where is the logarithm?": _loss_probability,
            "your softmax runs along the sequence: at each position the tokens of the vocabulary "
            "should share the 1.": partial(_loss_softmax_over, 1),
            "your softmax runs along the whole sequence: at each position the tokens of the "
            "vocabulary should share the 1.": _loss_softmax_over_whole,
            "your softmax runs across the batch: one text now depends on the others.": partial(
                _loss_softmax_over, 0
            ),
            "this is not a number: some logits are negative and have no logarithm. Turn them "
            "into probabilities first.": _loss_log_of_logits,
            "the labels are shifted, and your mask is not: it lets one padded position a text "
            "in.": _loss_mask_not_shifted,
            "you also skip token 0. It is a real token: once −100 has been replaced by 0, nobody "
            "can tell the two apart.": _loss_token_0_masked,
            "the first token counts too in your mean, and nobody predicts it. Where position 0 "
            "asks for the row before, Python takes the last one, without an error.": (
                _loss_row_minus_1
            ),
            "softmax has run twice: once in a line of yours, and once inside a function that wants "
            "logits.": _loss_softmax_twice,
            _NO_PLACE + " (gather stopped.)": _loss_ignored_gathered,
            _NO_PLACE + " (The loop stopped.)": _loss_ignored_indexed,
            _NO_PLACE + " (The look-up stopped.)": _loss_ignored_listed,
        },
    ),
    "02.3": Exercise(
        title="write GPT-2's norm",
        inputs=_norm_inputs,
        reference=_layer_norm,
        mistakes=_norm_mistakes(),
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
            "nearly: count the norms outside the layers.": partial(_count, last_norm=0),
            "your heads always have 64 numbers: that is SmolLM2's size, not every model's.": (
                _count_head_of_64
            ),
            "your keys and values are a third of `hidden`: that is SmolLM2's share, not every "
            "model's. Use `key_heads`.": _count_third,
            "this is SmolLM2's own count, whatever the sizes.": _count_smollm2,
            "this is a model of one layer.": _count_one_layer,
            "your keys and values are those of a single head, and a layer has several of them.": (
                _count_one_key_head
            ),
            "this is the model without its table of tokens.": _count_no_embedding,
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
            "which axes has your divisor? (batch, hidden) can't be divided by (batch).": (
                _pool_divisor_axis
            ),
            "the mask has one axis less than the states: give it one at the end.": _pool_mask_axis,
            "padding is gone, and so are the borders between the sentences: all their tokens went "
            "into one vector.": _pool_one_for_all,
            "this is the vector of the last real token alone: right for the next word, not for a "
            "sentence's mean.": _pool_last_real,
        },
    ),
}
