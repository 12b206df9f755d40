"""The exercises of notebook 04: labels, precision and recall, calibration, a label a token."""

import math
import random
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llmlab.checks import Exercise

_Logits = Float[Tensor, "batch label"]
_TokenLogits = Float[Tensor, "batch sequence label"]
_Mask = Int[Tensor, "batch sequence"]
_Array = Float[np.ndarray, "text"]
_Labels = Int[np.ndarray, "text"]
_Right = Bool[np.ndarray, "text"]
_Named = list[tuple[str, float]]  # a (label, probability) for each text

_LABELS = ["anger", "fear", "joy", "love", "sadness", "surprise"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


def _names(rng: random.Random, count: int) -> dict[int, str]:
    """An id2label of so many labels, in no order that could be guessed."""
    return dict(enumerate(rng.sample(_LABELS, count)))


def _looked_up(got: Any, expected: Any, arguments: tuple) -> str:
    """Why id2label does not know a key: a tensor is no number to it, or it is no id at all."""
    if not isinstance(got, KeyError) or not got.args:
        return ""
    key, id2label = got.args[0], arguments[-1]
    if isinstance(key, Tensor):
        return (
            f"id2label has the keys 0 to {len(id2label) - 1}, and {key!r} is none of them, "
            "whatever number it holds: make it an int first."
        )
    if isinstance(key, int):
        return (
            f"{key} is no id of a label (they go from 0 to {len(id2label) - 1}): along which axis "
            "do you look for the largest logit?"
        )
    return ""


# ---- 04.1 from logits to labels ------------------------------------------------------------------


def _label_inputs(rng: random.Random) -> tuple[Tensor, dict[int, str]]:
    """Logits with another number of texts than labels; some or all may be very large."""
    batch, labels = rng.sample(range(3, 6), 2)
    order = torch.stack([torch.randperm(labels, generator=_generator(rng)) for _ in range(batch)])
    logits = 1.5 * order + 0.5 * torch.rand(batch, labels, generator=_generator(rng))
    # None, all, or one text near 1,000: then the others lie a thousand below the largest.
    shifts = rng.choice([[0.0] * batch, [1000.0] * batch, [1000.0] + [0.0] * (batch - 1)])
    rng.shuffle(shifts)
    return logits + torch.tensor(shifts)[:, None], _names(rng, labels)


def _named(probs: Tensor, ids: Tensor, id2label: dict[int, str]) -> _Named:
    """One (label, number) a text."""
    pairs = zip(probs, ids.tolist(), strict=True)
    return [(id2label[i], float(row[i])) for row, i in pairs]


def _labels(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits.softmax(-1), logits.argmax(-1), id2label)


def _labels_over_batch(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits.softmax(0), logits.argmax(-1), id2label)


def _labels_over_batch_all(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = logits.softmax(0)
    return _named(probs, probs.argmax(-1), id2label)


def _labels_over_all(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits.flatten().softmax(0).view_as(logits), logits.argmax(-1), id2label)


def _labels_over_all_too(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = logits.flatten().softmax(0).view_as(logits)
    return _named(probs, probs.argmax(-1), id2label)


def _labels_shifted_together(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = (logits - logits.max()).exp()
    return _named(probs / probs.sum(-1, keepdim=True), logits.argmax(-1), id2label)


def _labels_shifted_together_nan(logits: _Logits, id2label: dict[int, str]) -> _Named:
    powers = (logits - logits.max()).exp()
    probs = powers / powers.sum(-1, keepdim=True)
    return _named(probs, probs.argmax(-1), id2label)


def _labels_batch_argmax(logits: _Logits, id2label: dict[int, str]) -> _Named:
    # One answer a label instead of one a text, and ids that may be no labels at all.
    probs, best = logits.softmax(-1), logits.argmax(0)
    return [(id2label[int(i)], float(probs[i, n])) for n, i in enumerate(best)]


def _labels_batch_both(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = logits.softmax(0)
    return [(id2label[int(i)], float(p)) for p, i in zip(*probs.max(0), strict=True)]


def _labels_logit(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits, logits.argmax(-1), id2label)


def _labels_sigmoid(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits.sigmoid(), logits.argmax(-1), id2label)


def _labels_shares(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits / logits.sum(-1, keepdim=True), logits.argmax(-1), id2label)


def _labels_overflow(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return _named(probs, logits.argmax(-1), id2label)


def _labels_overflow_nan(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return _named(probs, probs.argmax(-1), id2label)


def _labels_least(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _named(logits.softmax(-1), logits.argmin(-1), id2label)


def _labels_ids(logits: _Logits, id2label: dict[int, str]) -> list[tuple[int, float]]:
    probs, ids = logits.softmax(-1).max(-1)
    return list(zip(ids.tolist(), probs.tolist(), strict=True))


def _labels_first(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return _labels(logits, id2label)[:1]


def _labels_last(logits: _Logits, id2label: dict[int, str]) -> _Named:
    probs, ids = logits.softmax(-1), logits.argmax(-1).tolist()
    return [(id2label[i], float(row[-1])) for row, i in zip(probs, ids, strict=True)]


def _labels_reversed(logits: _Logits, id2label: dict[int, str]) -> list[tuple[float, str]]:
    return [(p, label) for label, p in _labels(logits, id2label)]


def _labels_rounded(logits: _Logits, id2label: dict[int, str]) -> _Named:
    return [(label, round(p, 3)) for label, p in _labels(logits, id2label)]


# ---- 04.2 precision and recall -------------------------------------------------------------------


def _judged(rng: random.Random) -> tuple[_Array, _Labels, float]:
    """Few positives among many; for a positive and a negative the number is the threshold itself.

    Every count (true and false, positive and negative) is at least one.
    """
    threshold = rng.choice([0.25, 0.75])
    low, high = [0.1, 0.2, 0.2], [0.8, 0.9, 0.95]
    texts = [(threshold, 1), (threshold, 0)]
    texts += [(rng.choice(high), 1) for _ in range(rng.randrange(1, 4))]
    texts += [(rng.choice(high), 0) for _ in range(rng.randrange(1, 4))]
    texts += [(rng.choice(low), 1) for _ in range(rng.randrange(4, 7))]
    texts += [(rng.choice(low), 0) for _ in range(rng.randrange(12, 17))]
    texts += [(0.5, rng.randrange(2)) for _ in range(3)]
    rng.shuffle(texts)
    return np.array([p for p, _ in texts]), np.array([y for _, y in texts]), threshold


def _counts(said: list[bool], labels: _Labels) -> tuple[int, int, int, int]:
    """True and false positives, false and true negatives."""
    pairs = list(zip(said, map(bool, labels), strict=True))
    kinds = ((True, True), (True, False), (False, True), (False, False))
    tp, fp, fn, tn = (pairs.count(kind) for kind in kinds)
    return tp, fp, fn, tn


def _scores(probs: _Array, labels: _Labels, threshold: float) -> tuple[float, float]:
    tp, fp, fn, _ = _counts([p >= threshold for p in probs], labels)
    return tp / (tp + fp), tp / (tp + fn)


def _scores_swapped(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    return _scores(probs, labels, threshold)[::-1]


def _scores_above(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, fp, fn, _ = _counts([p > threshold for p in probs], labels)
    return tp / (tp + fp), tp / (tp + fn)


def _scores_below(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, fp, fn, _ = _counts([p < threshold for p in probs], labels)
    return tp / (tp + fp), tp / (tp + fn)


def _scores_half(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    return _scores(probs, labels, 0.5)


def _scores_accuracy(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, _, fn, tn = _counts([p >= threshold for p in probs], labels)
    return (tp + tn) / len(labels), tp / (tp + fn)


def _scores_accuracy_twice(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, _, _, tn = _counts([p >= threshold for p in probs], labels)
    return ((tp + tn) / len(labels),) * 2


def _scores_negative(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    _, fp, fn, tn = _counts([p >= threshold for p in probs], labels)
    return tn / (tn + fn), tn / (tn + fp)


def _scores_specific(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, fp, _, tn = _counts([p >= threshold for p in probs], labels)
    return tp / (tp + fp), tn / (tn + fp)


def _scores_of_all(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp = _counts([p >= threshold for p in probs], labels)[0]
    return (tp / len(labels),) * 2


def _scores_right_answers(probs: _Array, labels: _Labels, threshold: float) -> tuple:
    tp, fp, fn, tn = _counts([p >= threshold for p in probs], labels)
    return (tp + tn) / (tp + fp), (tp + tn) / (tp + fn)


# ---- 04.3 calibration error ----------------------------------------------------------------------


def _confident(rng: random.Random) -> tuple[_Array, _Right, int]:
    """Confidences away from the edges of the bins; bins of different sizes, and an empty one.

    Some bins are too sure of themselves and others not sure enough.
    """
    bins = rng.randrange(4, 7)
    filled = rng.sample(range(bins), bins - 1)
    texts: list[tuple[float, bool]] = []
    for turn, bin_ in enumerate(filled):
        right = turn % 2 if turn < 2 else rng.random()  # one bin all wrong, one all right
        for _ in range(3 + 4 * turn):
            texts.append(((bin_ + rng.uniform(0.15, 0.85)) / bins, rng.random() < right))
    rng.shuffle(texts)
    return np.array([c for c, _ in texts]), np.array([r for _, r in texts]), bins


def _gaps(confidence: _Array, correct: _Right, bins: int) -> list[tuple[int, float]]:
    """For each bin with texts: how many, and mean confidence minus share of right answers."""
    found = []
    for number in range(bins):
        inside = [i for i, c in enumerate(confidence) if min(int(c * bins), bins - 1) == number]
        if inside:
            n = len(inside)
            sure = sum(confidence[i] for i in inside) / n
            found.append((n, sure - sum(correct[i] for i in inside) / n))
    return found


def _error(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(n * abs(gap) for n, gap in _gaps(confidence, correct, bins)) / len(correct)


def _error_unweighted(confidence: _Array, correct: _Right, bins: int) -> float:
    gaps = _gaps(confidence, correct, bins)
    return sum(abs(gap) for _, gap in gaps) / len(gaps)


def _error_all_bins(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(abs(gap) for _, gap in _gaps(confidence, correct, bins)) / bins


def _error_sum(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(abs(gap) for _, gap in _gaps(confidence, correct, bins))


def _error_counts(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(n * abs(gap) for n, gap in _gaps(confidence, correct, bins))


def _error_by_bins(confidence: _Array, correct: _Right, bins: int) -> float:
    return _error_counts(confidence, correct, bins) / bins


def _error_signed(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(n * gap for n, gap in _gaps(confidence, correct, bins)) / len(correct)


def _error_one_bin(confidence: _Array, correct: _Right, bins: int) -> float:
    return abs(_error_signed(confidence, correct, bins))


def _error_largest(confidence: _Array, correct: _Right, bins: int) -> float:
    return max(abs(gap) for _, gap in _gaps(confidence, correct, bins))


def _error_squared(confidence: _Array, correct: _Right, bins: int) -> float:
    return sum(n * gap**2 for n, gap in _gaps(confidence, correct, bins)) / len(correct)


def _error_middle(confidence: _Array, correct: _Right, bins: int) -> float:
    middle = [(int(c * bins) + 0.5) / bins for c in confidence]
    return _error(np.array(middle), correct, bins)


def _error_each_text(confidence: _Array, correct: _Right, bins: int) -> float:
    pairs = zip(confidence, correct, strict=True)
    return sum(abs(c - right) for c, right in pairs) / len(correct)


def _error_nan(confidence: _Array, correct: _Right, bins: int) -> float:
    return math.nan  # there always is an empty bin, and the mean of nothing is nan


def _error_ten_bins(confidence: _Array, correct: _Right, bins: int) -> float:
    return _error(confidence, correct, 10)


_EMPTY = "a bin without texts has no mean (0 / 0): leave it out."


def _divided(got: Any, expected: Any, arguments: tuple) -> str:
    """The empty bin of those who divide as Python does, where NumPy makes a nan."""
    return _EMPTY if isinstance(got, ZeroDivisionError) else ""


# ---- 04.4 a label a token ------------------------------------------------------------------------


def _tagging(rng: random.Random) -> tuple[Tensor, Tensor, dict[int, str]]:
    """A batch padded on the right; numbers of texts, tokens and labels all differ."""
    batch, labels, sequence = rng.randrange(2, 4), rng.randrange(4, 6), rng.randrange(7, 10)
    mask = torch.ones(batch, sequence, dtype=torch.long)
    for row in range(1, batch):
        mask[row, rng.randrange(3, sequence - 1) :] = 0
    logits = torch.randn(batch, sequence, labels, generator=_generator(rng))
    return logits, mask, _names(rng, labels)


def _tags(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list[list[str]]:
    rows = zip(logits.argmax(-1), mask.bool(), strict=True)
    return [[id2label[i] for i in ids[keep].tolist()] for ids, keep in rows]


def _tags_padded(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return _tags(logits, torch.ones_like(mask), id2label)


def _tags_inverted(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return _tags(logits, 1 - mask, id2label)


def _tags_flat(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return [label for row in _tags(logits, mask, id2label) for label in row]


def _tags_ids(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    rows = zip(logits.argmax(-1), mask.bool(), strict=True)
    return [ids[keep].tolist() for ids, keep in rows]


def _tags_one(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    keep = mask[..., None]
    mean = (logits * keep).sum(1) / keep.sum(1)
    return [id2label[i] for i in mean.argmax(-1).tolist()]


def _tags_first(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return [id2label[i] for i in logits[:, 0].argmax(-1).tolist()]


def _tags_sequence(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    # The likeliest *token* for each label: numbers of tokens are looked up as labels.
    return [[id2label[i] for i in ids] for ids in logits.argmax(1).tolist()]


def _tags_special(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return [row[1:-1] for row in _tags(logits, mask, id2label)]


def _tags_shortest(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    shortest = int(mask.sum(-1).min())
    return [row[:shortest] for row in _tags(logits, mask, id2label)]


def _tags_none(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    rows = zip(logits.argmax(-1).tolist(), mask.tolist(), strict=True)
    return [[id2label[i] if real else None for i, real in zip(*r, strict=True)] for r in rows]


def _tags_with_probs(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    rows = zip(logits, mask.bool(), strict=True)
    return [_labels(row[keep], id2label) for row, keep in rows]


def _tags_zeroed(logits: _TokenLogits, mask: _Mask, id2label: dict[int, str]) -> list:
    return [[id2label[i] for i in ids] for ids in (logits.argmax(-1) * mask).tolist()]


EXERCISES = {
    "04.1": Exercise(
        title="turn a batch of logits into labels with their probabilities",
        inputs=_label_inputs,
        reference=_labels,
        mistakes={
            "softmax runs over the texts: each label's numbers add up to 1, not each text's.": (
                _labels_over_batch
            ),
            "softmax runs over the texts, and so the labels come out wrong too.": (
                _labels_over_batch_all
            ),
            "softmax runs over the whole batch: all texts together share one 1.": _labels_over_all,
            "softmax runs over the whole batch, and so the labels come out wrong too.": (
                _labels_over_all_too
            ),
            "you take the largest logit of the *whole batch* from each text. Where a text lies far "
            "below it, all its powers become 0, and 0 / 0 is no number.": _labels_shifted_together,
            "you take the largest logit of the *whole batch* from each text. Where a text lies far "
            "below it, all its powers become 0, 0 / 0 is no number, and the label is chance.": (
                _labels_shifted_together_nan
            ),
            "argmax runs along the batch: you ask for the best text, not for the best label.": (
                _labels_batch_argmax
            ),
            "both steps run along the batch: one answer a label instead of one a text.": (
                _labels_batch_both
            ),
            "your second number is the logit; a probability lies between 0 and 1.": _labels_logit,
            "each label is judged alone, so a text's numbers don't add up to 1 (a sigmoid).": (
                _labels_sigmoid
            ),
            "you divide the logits themselves by their sum; something must come before that.": (
                _labels_shares
            ),
            "e to a large power is inf in float32, and inf / inf is no number. Which numbers "
            "could be taken away from all logits of a text without changing its softmax?": (
                _labels_overflow
            ),
            "with large logits e to their power is inf, inf / inf is no number, and the label is "
            "chance. What may be taken away from a text's logits without changing its softmax?": (
                _labels_overflow_nan
            ),
            "this is the least likely label.": _labels_least,
            "you return the label's id; its name stands in id2label.": _labels_ids,
            "this is the answer for the first text alone.": _labels_first,
            "the label is right, and the number is always that of the last label.": _labels_last,
            "each pair is the wrong way round: the name comes first, then its probability.": (
                _labels_reversed
            ),
            "your probabilities are rounded. Return them as they are; round where you print.": (
                _labels_rounded
            ),
        },
        look=_looked_up,
    ),
    "04.2": Exercise(
        title="compute precision and recall at a threshold",
        inputs=_judged,
        reference=_scores,
        mistakes={
            "precision and recall are swapped.": _scores_swapped,
            "a text whose number is exactly the threshold counts as positive; yours does not.": (
                _scores_above
            ),
            "yours says positive below the threshold.": _scores_below,
            "you use 0.5 whatever the threshold is.": _scores_half,
            "the first number is the accuracy: it also counts the right negatives.": (
                _scores_accuracy
            ),
            "this is the accuracy, twice. With few positives it is high for anybody who says no.": (
                _scores_accuracy_twice
            ),
            "these are the figures of the negative label.": _scores_negative,
            "the second number is the share of *negatives* that were found.": _scores_specific,
            "you divide by all texts. Whom does each of the two figures ask about?": _scores_of_all,
            "you count every right answer, also where the model rightly said no. Neither figure "
            "counts those.": _scores_right_answers,
        },
    ),
    "04.3": Exercise(
        title="compute the expected calibration error",
        inputs=_confident,
        reference=_error,
        mistakes={
            "each bin counts the same; one of 19 texts should count more than one of 3.": (
                _error_unweighted
            ),
            "each bin counts the same, and the empty ones count too.": _error_all_bins,
            "this is the sum of the gaps, without weights.": _error_sum,
            "the gaps are weighted by the counts; divide by the number of all texts.": (
                _error_counts
            ),
            "the gaps are weighted by the counts and divided by the number of bins. What do the "
            "weights add up to?": _error_by_bins,
            "gaps of different signs cancel out in yours.": _error_signed,
            "this compares the means of all texts, as if there were one bin.": _error_one_bin,
            "this is the largest gap, another figure (the maximum calibration error).": (
                _error_largest
            ),
            "the gaps are squared; only their size counts.": _error_squared,
            "you take the middle of the bin for its mean confidence.": _error_middle,
            "you compare text by text: a single text is right or wrong, never 0.8 right.": (
                _error_each_text
            ),
            _EMPTY: _error_nan,
            "you use 10 bins whatever `bins` is.": _error_ten_bins,
        },
        look=_divided,
    ),
    "04.4": Exercise(
        title="give every real token its label",
        inputs=_tagging,
        reference=_tags,
        mistakes={
            "the padding gets labels too.": _tags_padded,
            "the mask is read the wrong way round: you label the padding.": _tags_inverted,
            "all texts are in one list; give each its own.": _tags_flat,
            "these are ids; the names stand in id2label.": _tags_ids,
            "this is one label a text: the mean over its tokens.": _tags_one,
            "this is the label of the first token alone.": _tags_first,
            "argmax runs along the tokens: it finds the best token for each label.": (
                _tags_sequence
            ),
            "the first and the last token are real tokens of the mask, too; yours are missing.": (
                _tags_special
            ),
            "every text is cut to the length of the shortest.": _tags_shortest,
            "multiplied by the mask, padding gets label 0 and stays in the list; take it out.": (
                _tags_zeroed
            ),
            "padding stands in your lists as None. It should not stand there at all.": _tags_none,
            "these are pairs, each name with its probability; here the names are enough.": (
                _tags_with_probs
            ),
        },
        look=_looked_up,
    ),
}
