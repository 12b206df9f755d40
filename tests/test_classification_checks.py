"""The exercises of notebook 04: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.classification`.
"""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score, recall_score

import llmlab
from llmlab.checks import find
from tests.tools.exercises import Exercises

ALL = ["04.1", "04.2", "04.3", "04.4"]


# ---- 04.1: labels and probabilities --------------------------------------------------------------


def labels_right(logits, id2label):
    answers = []
    for row in logits.numpy():
        powers = np.exp(row - row.max())
        best = int(powers.argmax())
        answers.append((id2label[best], float(powers[best] / powers.sum())))
    return answers


def labels_softmax_down(logits, id2label):
    probs = torch.softmax(logits, dim=0)
    return [(id2label[i], probs[n, i].item()) for n, i in enumerate(logits.argmax(dim=1).tolist())]


def labels_softmax_down_and_out(logits, id2label):
    values, ids = torch.softmax(logits, dim=0).max(dim=1)
    return [(id2label[i], p) for i, p in zip(ids.tolist(), values.tolist(), strict=True)]


def labels_softmax_everything(logits, id2label):
    probs = np.exp(logits.numpy() - logits.numpy().max())
    probs = probs / probs.sum()
    return [(id2label[i], probs[n, i]) for n, i in enumerate(probs.argmax(axis=1))]


def labels_softmax_everything_late(logits, id2label):
    probs = np.exp(logits.numpy() - logits.numpy().max())
    probs = probs / probs.sum()
    return [(id2label[i], probs[n, i]) for n, i in enumerate(logits.numpy().argmax(axis=1))]


def labels_shift_of_the_batch(logits, id2label):
    x = np.array(logits)
    powers = np.exp(x - x.max())
    probs = powers / powers.sum(axis=1, keepdims=True)
    return [(id2label[int(r.argmax())], p[r.argmax()]) for r, p in zip(x, probs, strict=True)]


def labels_shift_of_the_batch_late(logits, id2label):
    x = np.array(logits)
    powers = np.exp(x - np.max(x))
    probs = powers / np.sum(powers, axis=1)[:, None]
    return [(id2label[int(row.argmax())], float(row.max())) for row in probs]


def labels_tensor_key(logits, id2label):
    probs = logits.softmax(-1)
    return [(id2label[row.argmax()], row.max().item()) for row in probs]


def labels_argmax_down(logits, id2label):
    probs = logits.softmax(dim=1)
    return [(id2label[i.item()], probs[i, n].item()) for n, i in enumerate(probs_best(logits))]


def probs_best(logits):
    return logits.argmax(dim=0)


def labels_all_down(logits, id2label):
    values, ids = logits.softmax(0).max(0)
    return [(id2label[i.item()], v.item()) for v, i in zip(values, ids, strict=True)]


def labels_raw(logits, id2label):
    return [(id2label[row.argmax().item()], row.max().item()) for row in logits]


def labels_sigmoid(logits, id2label):
    return [(id2label[row.argmax().item()], row.max().sigmoid().item()) for row in logits]


def labels_without_e(logits, id2label):
    return [(id2label[row.argmax().item()], (row.max() / row.sum()).item()) for row in logits]


def labels_overflow(logits, id2label):
    answers = []
    for row in logits:
        powers = torch.exp(row)
        best = row.argmax().item()
        answers.append((id2label[best], (powers[best] / sum(powers)).item()))
    return answers


def labels_overflow_first(logits, id2label):
    probs = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    best = probs.argmax(dim=1)
    return [(id2label[int(i)], float(row[i])) for i, row in zip(best, probs, strict=True)]


def labels_least(logits, id2label):
    return [(id2label[r.argmin().item()], r.softmax(0).min().item()) for r in logits]


def labels_numbers(logits, id2label):
    return [(r.argmax().item(), r.softmax(0).max().item()) for r in logits]


def labels_one_text(logits, id2label):
    best = logits[0].argmax().item()
    return [(id2label[best], logits[0].softmax(dim=-1)[best].item())]


def labels_last_column(logits, id2label):
    return [(id2label[r.argmax().item()], r.softmax(0)[len(id2label) - 1].item()) for r in logits]


def labels_other_way_round(logits, id2label):
    best = logits.softmax(dim=-1).max(dim=-1)
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [(p, id2label[i]) for p, i in pairs]


def labels_rounded(logits, id2label):
    probs = torch.softmax(logits, dim=-1)
    return [(id2label[int(p.argmax())], round(p.max().item(), 3)) for p in probs]


# ---- 04.2: precision and recall ------------------------------------------------------------------


def table(probs, labels, threshold):
    """Students' counting: true and false positives, false and true negatives."""
    tp = sum(1 for p, y in zip(probs, labels, strict=True) if p >= threshold and y == 1)
    fp = sum(1 for p, y in zip(probs, labels, strict=True) if p >= threshold and y == 0)
    fn = sum(1 for p, y in zip(probs, labels, strict=True) if p < threshold and y == 1)
    return tp, fp, fn, len(labels) - tp - fp - fn


def scores_right(probs, labels, threshold):
    said = probs >= threshold  # as the notebook does
    return precision_score(labels, said), recall_score(labels, said)


def scores_swapped(probs, labels, threshold):
    tp, fp, fn, _ = table(probs, labels, threshold)
    return tp / (tp + fn), tp / (tp + fp)


def scores_strictly_above(probs, labels, threshold):
    said = [int(p > threshold) for p in probs]
    return precision_score(labels, said), recall_score(labels, said)


def scores_upside_down(probs, labels, threshold):
    said = [int(p < threshold) for p in probs]
    return precision_score(labels, said), recall_score(labels, said)


def scores_at_a_half(probs, labels, threshold):
    said = np.array(probs) >= 0.5
    return precision_score(labels, said), recall_score(labels, said)


def scores_accuracy_first(probs, labels, threshold):
    said = np.array(probs) >= threshold
    return float((said == np.array(labels)).mean()), recall_score(labels, said)


def scores_accuracy_only(probs, labels, threshold):
    accuracy = float(((np.array(probs) >= threshold) == np.array(labels)).mean())
    return accuracy, accuracy


def scores_of_the_other(probs, labels, threshold):
    said = np.array(probs) >= threshold
    return precision_score(labels, said, pos_label=0), recall_score(labels, said, pos_label=0)


def scores_specificity(probs, labels, threshold):
    tp, fp, _, tn = table(probs, labels, threshold)
    return tp / (tp + fp), tn / (fp + tn)


def scores_by_all(probs, labels, threshold):
    tp, *_ = table(probs, labels, threshold)
    return tp / len(probs), tp / len(probs)


def scores_of_right_answers(probs, labels, threshold):
    said = probs >= threshold
    both = (said == labels).sum()
    return both / said.sum(), both / labels.sum()


# ---- 04.3: calibration error ---------------------------------------------------------------------


def by_bin(confidence, correct, bins):
    """Students' bins: (mean confidence, accuracy, texts) of those that hold any."""
    confidence, correct = np.array(confidence), np.array(correct, dtype=float)
    edges = np.linspace(0, 1, bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            yield confidence[inside].mean(), correct[inside].mean(), inside.sum()


def error_right(confidence, correct, bins):
    total = 0.0
    for sure, accuracy, n in by_bin(confidence, correct, bins):
        total += n / len(correct) * abs(sure - accuracy)
    return total


def error_plain_mean(confidence, correct, bins):
    return np.mean([abs(s - a) for s, a, _ in by_bin(confidence, correct, bins)])


def error_mean_with_empty(confidence, correct, bins):
    gaps = np.zeros(bins)
    for k, (s, a, _) in enumerate(by_bin(confidence, correct, bins)):
        gaps[k] = abs(s - a)
    return gaps.mean()


def error_added(confidence, correct, bins):
    return sum(abs(s - a) for s, a, _ in by_bin(confidence, correct, bins))


def error_times_counts(confidence, correct, bins):
    return sum(n * abs(s - a) for s, a, n in by_bin(confidence, correct, bins))


def error_by_bins(confidence, correct, bins):
    total = 0.0
    for sure, accuracy, n in by_bin(confidence, correct, bins):
        total += abs(sure - accuracy) * n
    return total / bins


def error_with_sign(confidence, correct, bins):
    return sum(n * (s - a) for s, a, n in by_bin(confidence, correct, bins)) / len(correct)


def error_of_the_means(confidence, correct, bins):
    return abs(np.mean(confidence) - np.mean(correct))


def error_maximum(confidence, correct, bins):
    return max(abs(s - a) for s, a, _ in by_bin(confidence, correct, bins))


def error_squares(confidence, correct, bins):
    return sum(n * (s - a) ** 2 for s, a, n in by_bin(confidence, correct, bins)) / len(correct)


def error_from_the_middle(confidence, correct, bins):
    total = 0.0
    for s, a, n in by_bin(confidence, correct, bins):
        middle = (math.floor(s * bins) + 0.5) / bins
        total += n * abs(middle - a)
    return total / len(correct)


def error_with_nan(confidence, correct, bins):
    place = (confidence * bins).astype(int)
    with np.errstate(invalid="ignore"):
        sizes = np.bincount(place, minlength=bins)
        sure = np.bincount(place, weights=confidence, minlength=bins) / sizes
        share = np.bincount(place, weights=correct, minlength=bins) / sizes
    return (np.abs(sure - share) * sizes).sum() / len(correct)


def error_of_ten_bins(confidence, correct, bins):
    return sum(n * abs(s - a) for s, a, n in by_bin(confidence, correct, 10)) / len(correct)


def error_by_zero(confidence, correct, bins):
    total = 0
    for k in range(bins):
        inside = [i for i, c in enumerate(confidence.tolist()) if int(c * bins) == k]
        sure = sum(confidence.tolist()[i] for i in inside) / len(inside)
        share = sum(correct.tolist()[i] for i in inside) / len(inside)
        total += len(inside) * abs(sure - share)
    return total / len(correct)


def error_one_by_one(confidence, correct, bins):
    return float(np.abs(np.array(confidence) - np.array(correct, dtype=float)).mean())


# ---- 04.4: a label a token -----------------------------------------------------------------------


def tags_right(logits, attention_mask, id2label):
    answers = []
    for text in range(logits.shape[0]):
        row = []
        for place in range(logits.shape[1]):
            if attention_mask[text, place] == 1:
                row.append(id2label[int(torch.argmax(logits[text, place]))])
        answers.append(row)
    return answers


def tags_of_padding_too(logits, attention_mask, id2label):
    return [[id2label[i] for i in row] for row in logits.argmax(dim=-1).tolist()]


def tags_of_padding_only(logits, attention_mask, id2label):
    ids = logits.argmax(-1)
    return [
        [id2label[int(i)] for i, m in zip(row, mask, strict=True) if not m]
        for row, mask in zip(ids, attention_mask, strict=True)
    ]


def tags_in_one_list(logits, attention_mask, id2label):
    return [id2label[int(i)] for i in logits.argmax(-1)[attention_mask == 1]]


def tags_as_ids(logits, attention_mask, id2label):
    lengths = attention_mask.sum(1).tolist()
    return [row[:n] for row, n in zip(logits.argmax(-1).tolist(), lengths, strict=True)]


def tags_a_text(logits, attention_mask, id2label):
    means = [row[mask == 1].mean(0) for row, mask in zip(logits, attention_mask, strict=True)]
    return [id2label[int(m.argmax())] for m in means]


def tags_cls(logits, attention_mask, id2label):
    return [id2label[int(row[0].argmax())] for row in logits]


def tags_wrong_axis(logits, attention_mask, id2label):
    return [[id2label[int(i)] for i in row] for row in logits.argmax(dim=1)]


def tags_none(logits, attention_mask, id2label):
    rows = logits.argmax(-1).tolist()
    for row, mask in zip(rows, attention_mask, strict=True):
        row[:] = [id2label[i] if m == 1 else None for i, m in zip(row, mask, strict=True)]
    return rows


def tags_with_probs(logits, attention_mask, id2label):
    best = logits.softmax(-1).max(-1)
    answers = []
    for n, length in enumerate(attention_mask.sum(1).tolist()):
        names = [id2label[i] for i in best.indices[n, :length].tolist()]
        answers.append(list(zip(names, best.values[n, :length].tolist(), strict=True)))
    return answers


def tags_zeroed(logits, attention_mask, id2label):
    scores = logits * attention_mask.unsqueeze(-1)
    return [[id2label[i] for i in row] for row in scores.argmax(-1).tolist()]


def tags_wrong_axis_masked(logits, attention_mask, id2label):
    ids = logits.argmax(dim=1).tolist()
    pairs = zip(ids, attention_mask.tolist(), strict=True)
    return [[id2label[i] for i, m in zip(*p, strict=False) if m] for p in pairs]


def tags_tensor_key(logits, attention_mask, id2label):
    rows = zip(logits.argmax(-1), attention_mask.bool(), strict=True)
    return [[id2label[i] for i in ids[keep]] for ids, keep in rows]


def tags_without_the_ends(logits, attention_mask, id2label):
    return [row[1:-1] for row in tags_right(logits, attention_mask, id2label)]


def tags_cut(logits, attention_mask, id2label):
    rows = tags_right(logits, attention_mask, id2label)
    return [row[: min(map(len, rows))] for row in rows]


RIGHT = [
    ("04.1", labels_right),
    ("04.2", scores_right),
    ("04.3", error_right),
    ("04.4", tags_right),
]
WRONG = [
    ("04.1", labels_softmax_down, "each label's numbers add up to 1"),
    ("04.1", labels_softmax_down_and_out, "over the texts, and so the labels"),
    ("04.1", labels_softmax_everything_late, "all texts together share one 1"),
    ("04.1", labels_softmax_everything, "over the whole batch, and so the labels"),
    ("04.1", labels_shift_of_the_batch, "and 0 / 0 is no number."),
    ("04.1", labels_shift_of_the_batch_late, "0 / 0 is no number, and the label"),
    ("04.1", labels_argmax_down, "argmax runs along the batch"),
    ("04.1", labels_all_down, "both steps run along the batch"),
    ("04.1", labels_raw, "number is the logit"),
    ("04.1", labels_sigmoid, "judged alone"),
    ("04.1", labels_without_e, "something must come before"),
    ("04.1", labels_overflow, "Which numbers could be taken away"),
    ("04.1", labels_overflow_first, "is inf, inf / inf is no number, and the label is chance"),
    ("04.1", labels_least, "the least likely"),
    ("04.1", labels_numbers, "the label's id"),
    ("04.1", labels_one_text, "the first text alone"),
    ("04.1", labels_last_column, "always that of the last label"),
    ("04.1", labels_other_way_round, "the name comes first"),
    ("04.1", labels_rounded, "your probabilities are rounded"),
    ("04.2", scores_swapped, "are swapped"),
    ("04.2", scores_strictly_above, "exactly the threshold"),
    ("04.2", scores_upside_down, "below the threshold"),
    ("04.2", scores_at_a_half, "0.5 whatever"),
    ("04.2", scores_accuracy_first, "the first number is the accuracy"),
    ("04.2", scores_accuracy_only, "the accuracy, twice"),
    ("04.2", scores_of_the_other, "of the negative label"),
    ("04.2", scores_specificity, "share of *negatives*"),
    ("04.2", scores_by_all, "you divide by all texts"),
    ("04.2", scores_of_right_answers, "rightly said no"),
    ("04.3", error_plain_mean, "one of 19 texts"),
    ("04.3", error_mean_with_empty, "the empty ones count too"),
    ("04.3", error_added, "without weights"),
    ("04.3", error_times_counts, "divide by the number of all texts"),
    ("04.3", error_by_bins, "divided by the number of bins"),
    ("04.3", error_with_sign, "cancel out"),
    ("04.3", error_of_the_means, "as if there were one bin"),
    ("04.3", error_maximum, "maximum calibration error"),
    ("04.3", error_squares, "are squared"),
    ("04.3", error_from_the_middle, "the middle of the bin"),
    ("04.3", error_one_by_one, "text by text"),
    ("04.3", error_with_nan, "a bin without texts has no mean"),
    ("04.3", error_of_ten_bins, "you use 10 bins"),
    ("04.4", tags_of_padding_too, "the padding gets labels too"),
    ("04.4", tags_of_padding_only, "you label the padding"),
    ("04.4", tags_in_one_list, "all texts are in one list"),
    ("04.4", tags_as_ids, "these are ids"),
    ("04.4", tags_a_text, "one label a text"),
    ("04.4", tags_cls, "the first token alone"),
    ("04.4", tags_wrong_axis, "argmax runs along the tokens"),
    ("04.4", tags_without_the_ends, "the first and the last token"),
    ("04.4", tags_cut, "the length of the shortest"),
    ("04.4", tags_none, "as None"),
    ("04.4", tags_with_probs, "these are pairs"),
    ("04.4", tags_zeroed, "padding gets label 0"),
]
# These stop with an error, which is answered by what it means.
STOPPED = [
    ("04.1", labels_tensor_key, "make it an int first"),
    ("04.3", error_by_zero, "a bin without texts has no mean"),
    ("04.4", tags_tensor_key, "make it an int first"),
    # it stops on some draws and is wrong on others: the first of them decides
    ("04.4", tags_wrong_axis_masked, "is no id of a label|argmax runs along the tokens"),
]


class TestExercises(Exercises):
    notebook = "04"
    right = RIGHT
    wrong = WRONG


@pytest.mark.parametrize(
    ("number", "answer", "words"), STOPPED, ids=lambda x: getattr(x, "__name__", "")
)
def test_an_error_of_a_known_kind_is_answered_in_words(number, answer, words):
    result = llmlab.check(number, answer)
    assert result.status == "wrong"
    assert re.search(words, result.message)


def test_a_number_of_numpy_is_a_number():
    """A wrong one hears what is wrong with it, not that its type is another."""
    message = llmlab.check("04.3", lambda confidence, correct, bins: np.float64(7.5)).message
    assert "7.5" in message and "float64" not in message
    assert "gives 7" in llmlab.check("04.3", lambda confidence, correct, bins: 7).message


def test_reading_a_tensor_with_numpy_frightens_nobody(recwarn):
    def answer(logits, id2label):
        return labels_right(torch.tensor(np.array(logits)), id2label)

    assert llmlab.check("04.1", answer).status == "passed"
    assert [w for w in recwarn if issubclass(w.category, DeprecationWarning)] == []


@pytest.mark.parametrize("number", ALL)
def test_no_message_holds_the_code_that_would_be_right(number):
    for message in find(number).mistakes:
        for code in ("softmax(", "argmax(", "dim=", ">=", "tp", "abs(", "mask ==", "/ ("):
            assert code not in message


# ---- the references against what others compute --------------------------------------------------


def test_the_probabilities_survive_large_logits():
    logits = torch.tensor([[1000.0, 1001.0, 999.0]])
    ((label, p),) = find("04.1").reference(logits, {0: "a", 1: "b", 2: "c"})
    assert label == "b"
    assert p == pytest.approx(math.e / (math.e + 1 + 1 / math.e))


def test_precision_and_recall_of_a_case_done_by_hand():
    # said yes to four, two of them right; three are to be found
    probs, labels = [0.9, 0.8, 0.5, 0.5, 0.1, 0.2], [1, 0, 1, 0, 1, 0]
    assert find("04.2").reference(probs, labels, 0.5) == (2 / 4, 2 / 3)


def test_a_calibration_error_done_by_hand():
    # 0.6 and half of two right: gap 0.1; 0.9 and all of one right: gap 0.1; 0.95 wrong
    error = find("04.3").reference([0.6, 0.6, 0.95, 0.9], [True, False, False, True], 10)
    assert error == pytest.approx((2 * 0.1 + 2 * abs(0.925 - 0.5)) / 4)
    assert find("04.3").reference([1.0, 1.0], [True, True], 4) == 0  # 1 lies in the last bin


def test_token_labels_of_a_case_done_by_hand():
    logits = torch.tensor([[[1.0, 2], [3, 0], [0, 9]], [[0, 1.0], [5, 0], [0, 1]]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert find("04.4").reference(logits, mask, {0: "O", 1: "PER"}) == [
        ["PER", "O", "PER"],
        ["PER", "O"],
    ]
