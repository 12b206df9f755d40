"""The exercises of notebook 06: cross-attention, shift right, the loss, the best of several."""

import math
import random

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmlab.checks import Exercise

_Query = Float[Tensor, "written size"]
_Key = Float[Tensor, "read size"]
_Mask = Int[Tensor, "read"]
_Weights = Float[Tensor, "written read"]
_Labels = Int[Tensor, "batch written"]
_Logits = Float[Tensor, "batch written vocabulary"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


# ---- 06.1 cross-attention weights ----------------------------------------------------------------


def _cross_inputs(rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, fewer or more keys, and a mask with some padding on the right."""
    size, read = rng.choice([3, 5, 8]), rng.randrange(5, 9)
    written = rng.choice([read - 2, read + 1, read + 2])
    generator = _generator(rng)
    q, k = (
        torch.randn(written, size, generator=generator),
        torch.randn(read, size, generator=generator),
    )
    mask = torch.ones(read, dtype=torch.long)
    mask[read - rng.randrange(1, 3) :] = 0
    return q, k, mask


def _scores(q: _Query, k: _Key) -> _Weights:
    return q @ k.T / q.shape[-1] ** 0.5


def _cross(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return _scores(q, k).masked_fill(mask == 0, -math.inf).softmax(-1)


def _cross_no_mask(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return _scores(q, k).softmax(-1)


def _cross_causal(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    later = torch.ones(len(q), len(k)).triu(1).bool()
    return _scores(q, k).masked_fill((mask == 0) | later, -math.inf).softmax(-1)


def _cross_only_causal(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    later = torch.ones(len(q), len(k)).triu(1).bool()
    return _scores(q, k).masked_fill(later, -math.inf).softmax(-1)


def _cross_not_divided(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return (q @ k.T).masked_fill(mask == 0, -math.inf).softmax(-1)


def _cross_by_size(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return (q @ k.T / q.shape[-1]).masked_fill(mask == 0, -math.inf).softmax(-1)


def _cross_by_tokens(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return (q @ k.T / len(k) ** 0.5).masked_fill(mask == 0, -math.inf).softmax(-1)


def _cross_by_queries(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return (q @ k.T / len(q) ** 0.5).masked_fill(mask == 0, -math.inf).softmax(-1)


def _cross_wrong_axis(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return _scores(q, k).masked_fill(mask == 0, -math.inf).softmax(0)


def _cross_zero_after(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return _scores(q, k).softmax(-1) * mask


def _cross_zero_scores(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return (_scores(q, k) * mask).softmax(-1)


def _cross_inverted(q: _Query, k: _Key, mask: _Mask) -> _Weights:
    return _scores(q, k).masked_fill(mask.bool(), -math.inf).softmax(-1)


# ---- 06.2 shift right ----------------------------------------------------------------------------


def _shift_inputs(rng: random.Random) -> tuple[Tensor, int, int]:
    """Labels that end with the end token 2, padded with -100; T5's ids, BART's, and others."""
    start, pad = rng.choice([(0, 0), (2, 1), (7, 3)])
    length, rows = rng.randrange(5, 9), rng.randrange(2, 5)
    labels = torch.randint(10, 40, (rows, length), generator=_generator(rng))
    ends = [length - 1, *(rng.randrange(2, length - 1) for _ in range(rows - 1))]
    for row, end in enumerate(ends):  # one row is full, the others have padding
        labels[row, end] = 2
        labels[row, end + 1 :] = -100
    return labels, start, pad


def _filled(labels: Tensor, pad: int) -> Tensor:
    return labels.masked_fill(labels == -100, pad)


def _shift(labels: _Labels, start: int, pad: int) -> _Labels:
    first = torch.full((len(labels), 1), start)
    return _filled(torch.cat([first, labels[:, :-1]], dim=1), pad)


def _shift_minus(labels: _Labels, start: int, pad: int) -> _Labels:
    return torch.cat([torch.full((len(labels), 1), start), labels[:, :-1]], dim=1)


def _shift_longer(labels: _Labels, start: int, pad: int) -> Tensor:
    return _filled(torch.cat([torch.full((len(labels), 1), start), labels], dim=1), pad)


def _shift_shorter(labels: _Labels, start: int, pad: int) -> Tensor:
    return _filled(labels[:, :-1], pad)


def _shift_left(labels: _Labels, start: int, pad: int) -> _Labels:
    last = torch.full((len(labels), 1), pad)
    return _filled(torch.cat([labels[:, 1:], last], dim=1), pad)


def _shift_none(labels: _Labels, start: int, pad: int) -> _Labels:
    return _filled(labels, pad)


def _shift_over(labels: _Labels, start: int, pad: int) -> _Labels:
    shifted = _filled(labels, pad)
    shifted[:, 0] = start
    return shifted


def _shift_roll(labels: _Labels, start: int, pad: int) -> _Labels:
    return _filled(labels.roll(1, dims=-1), pad)


def _shift_roll_minus(labels: _Labels, start: int, pad: int) -> _Labels:
    return labels.roll(1, dims=-1)


def _shift_end_lost(labels: _Labels, start: int, pad: int) -> _Labels:
    """Some think that the decoder never reads the end token: in a shorter row it does."""
    return _shift(labels.masked_fill(labels == 2, pad), start, pad)


def _shift_start_fills(labels: _Labels, start: int, pad: int) -> _Labels:
    return _shift(labels, start, start)


def _shift_pad_starts(labels: _Labels, start: int, pad: int) -> _Labels:
    return _shift(labels, pad, pad)


def _shift_zero_fills(labels: _Labels, start: int, pad: int) -> _Labels:
    return _shift(labels, start, 0)


# ---- 06.3 the loss -------------------------------------------------------------------------------


def _loss_inputs(rng: random.Random) -> tuple[Tensor, Tensor]:
    """Logits, and labels of different lengths padded with -100."""
    rows, length, vocabulary = rng.randrange(2, 5), rng.randrange(5, 9), rng.randrange(6, 12)
    generator = _generator(rng)
    logits = 2 * torch.randn(rows, length, vocabulary, generator=generator)
    labels = torch.randint(1, vocabulary, (rows, length), generator=generator)
    for row in range(1, rows):
        labels[row, rng.randrange(2, length - 1) :] = -100
    return logits, labels


def _flat(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction=reduction)


def _loss(logits: _Logits, labels: _Labels) -> float:
    return _flat(logits, labels).item()


def _loss_shifted(logits: _Logits, labels: _Labels) -> float:
    return _flat(logits[:, :-1], labels[:, 1:]).item()


def _loss_padding_counts(logits: _Logits, labels: _Labels) -> float:
    return _flat(logits, labels.masked_fill(labels == -100, 0)).item()


def _loss_over_places(logits: _Logits, labels: _Labels) -> float:
    return _flat(logits, labels, "sum").item() / labels.numel()


def _loss_by_row(logits: _Logits, labels: _Labels) -> float:
    return sum(cross_entropy(*row).item() for row in zip(logits, labels, strict=True)) / len(labels)


def _loss_sum(logits: _Logits, labels: _Labels) -> float:
    return _flat(logits, labels, "sum").item()


def _loss_last_label(logits: _Logits, labels: _Labels) -> float:
    """−100 as an index from behind or a clamp: another token of the vocabulary is counted."""
    return _flat(logits, labels.masked_fill(labels == -100, logits.shape[-1] - 1)).item()


def _loss_negative(logits: _Logits, labels: _Labels) -> float:
    return -_loss(logits, labels)


def _of_labels(scores: Tensor, labels: Tensor) -> Tensor:
    """The scores of the real labels, one behind the other."""
    real = labels != -100
    return scores.gather(-1, labels.clamp(min=0)[..., None])[..., 0][real]


def _loss_of_logits(logits: _Logits, labels: _Labels) -> float:
    return -_of_labels(logits, labels).mean().item()


def _loss_of_probabilities(logits: _Logits, labels: _Labels) -> float:
    return -_of_labels(logits.softmax(-1), labels).mean().item()


def _loss_mean_of_sums(logits: _Logits, labels: _Labels) -> float:
    return _loss_sum(logits, labels) / len(labels)


def _loss_perplexity(logits: _Logits, labels: _Labels) -> float:
    return math.exp(_loss(logits, labels))


# ---- 06.4 the best of several answers ------------------------------------------------------------


def _best_inputs(rng: random.Random) -> tuple[list[list[float]], float]:
    """Answers of different lengths; long ones have a lower sum and often a higher mean."""
    answers = []
    for length in rng.sample(range(2, 12), rng.randrange(5, 8)):
        each = rng.uniform(0.1, 6.0) / (1 + length)  # so that no length always wins
        answers.append([-round(each * rng.uniform(0.5, 1.5), 3) for _ in range(length)])
    return answers, rng.choice([0.0, 0.5, 1.0, 2.0])


def _scored(log_probs: list[list[float]], penalty: float) -> list[float]:
    return [sum(one) / len(one) ** penalty for one in log_probs]


def _at_most(values: list[float]) -> int:
    return values.index(max(values))


def _best(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most(_scored(log_probs, penalty))


def _best_sum(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most(_scored(log_probs, 0))


def _best_mean(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most(_scored(log_probs, 1))


def _best_lowest(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most([-score for score in _scored(log_probs, penalty)])


def _best_times(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most(_scored(log_probs, -penalty))


def _best_length_times(log_probs: list[list[float]], penalty: float) -> int:
    if not penalty:
        raise ZeroDivisionError("float division by zero")
    return _at_most([sum(one) / (len(one) * penalty) for one in log_probs])


def _best_mean_times(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most([sum(one) / len(one) * penalty for one in log_probs])


def _best_score(log_probs: list[list[float]], penalty: float) -> float:
    return max(_scored(log_probs, penalty))


def _best_shortest(log_probs: list[list[float]], penalty: float) -> int:
    return _at_most([-len(one) for one in log_probs])


EXERCISES = {
    "06.1": Exercise(
        "the weights with which what is written looks at what was read",
        _cross_inputs,
        _cross,
        {
            "padding gets attention: attention_mask has no effect.": _cross_no_mask,
            "a causal mask stands here as well as the padding's. The whole input was read before "
            "the first token is written: nothing of it is “later”.": _cross_causal,
            "this is the causal mask of a decoder's self-attention, and padding gets attention. "
            "Cross-attention needs the other mask.": _cross_only_causal,
            "the scores are not divided by √size.": _cross_not_divided,
            "the scores are divided by size, not by its root.": _cross_by_size,
            "the scores are divided by the root of how many tokens were read. size is the last "
            "axis of q and of k.": _cross_by_tokens,
            "the scores are divided by the root of how many tokens are written. size is the last "
            "axis of q and of k.": _cross_by_queries,
            "softmax runs along the wrong axis: each written token has 1 to share out among the "
            "read ones, not the other way round.": _cross_wrong_axis,
            "padding is set to 0 after softmax: the rows no longer add up to 1. What must not be "
            "seen needs a score that softmax turns into 0.": _cross_zero_after,
            "a score of 0 is no mask: e to the power of 0 is 1, so padding still gets a "
            "share.": _cross_zero_scores,
            "the mask is upside down: only padding gets attention. 1 stands for a real "
            "token.": _cross_inverted,
        },
    ),
    "06.2": Exercise(
        "what the decoder reads while it learns these labels",
        _shift_inputs,
        _shift,
        {
            "−100 is left in the input: no token has this id, and the embedding can't look it "
            "up.": _shift_minus,
            "the rows got one longer. The last label is never read, only guessed.": _shift_longer,
            "the rows got one shorter, and nothing tells the decoder to start.": _shift_shorter,
            "this is shifted to the left: the decoder would read what comes after the token that "
            "it is to guess.": _shift_left,
            "nothing is shifted: the decoder would read the very token that it is to "
            "guess.": _shift_none,
            "the first label is overwritten, not shifted: from the second place on the decoder "
            "reads what it is to guess.": _shift_over,
            "the last token comes round to the front. In the front stands the start "
            "token.": _shift_roll,
            "two things: the last token comes round to the front, where the start token belongs; "
            "and −100 stays in what is read.": _shift_roll_minus,
            "the end token is filled with padding. Behind it in a shorter row it is read like any "
            "other.": _shift_end_lost,
            "padding is filled with the start token. Families have different ids for the "
            "two.": _shift_start_fills,
            "the rows start with the padding id. That is right for T5 only: start_id is "
            "given.": _shift_pad_starts,
            "padding is filled with 0. That is T5's padding id; here pad_id is "
            "given.": _shift_zero_fills,
        },
    ),
    "06.3": Exercise(
        "the mean surprise at all real labels",
        _loss_inputs,
        _loss,
        {
            "labels are shifted against the logits, as in a causal model. Here the input was "
            "shifted already: row t guesses label t.": _loss_shifted,
            "padding is counted, as if token 0 were to be guessed there.": _loss_padding_counts,
            "padding is counted, as if the last token of the vocabulary were to be guessed "
            "there.": _loss_last_label,
            "the sum is right, but it is divided by all places, padding too.": _loss_over_places,
            "this is the mean of each text's mean: a token of a short text counts more than one of "
            "a long text. Put all real labels together first.": _loss_by_row,
            "this is the sum. The loss is the mean over the real labels.": _loss_sum,
            "these are the logits of the labels with a minus. First they must become "
            "log-probabilities: log_softmax.": _loss_of_logits,
            "−p is not the surprise. The surprise is −ln p.": _loss_of_probabilities,
            "this is the mean of each text's sum. The loss is the mean over the real labels of all "
            "texts.": _loss_mean_of_sums,
            "a surprise is never negative: a minus is missing.": _loss_negative,
            "this is the perplexity, e to the power of the loss.": _loss_perplexity,
        },
    ),
    "06.4": Exercise(
        "the index of the answer with the highest score",
        _best_inputs,
        _best,
        {
            "the length plays no part: this is the best bare sum.": _best_sum,
            "this is always the best mean: penalty plays no part.": _best_mean,
            "this is the worst answer. Log-probabilities are negative: the best is the largest, "
            "nearest to 0.": _best_lowest,
            "the sum is multiplied by the length, so long answers get even worse. It is "
            "divided.": _best_times,
            "the sum is divided by length times penalty. Penalty is a power of the "
            "length.": _best_length_times,
            "the mean is multiplied by penalty. Penalty is a power of the "
            "length alone.": _best_mean_times,
            "this is the best score. The place of that answer in the list is asked for.": (
                _best_score
            ),
            "this is always the shortest answer.": _best_shortest,
        },
    ),
}
