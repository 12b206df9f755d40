"""The exercises of notebook 07: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.fine_tuning`.
"""

import math
import re

import pytest
import torch

import llmlab
from llmlab.checks import find
from tests.tools.exercises import Exercises

ALL = ["07.1", "07.2", "07.3", "07.4"]


# ---- 07.1: the slope at the logits ---------------------------------------------------------------


def logit_right(logits, labels):
    rows = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(x) for x in row]
        probs = [p / sum(powers) for p in powers]
        probs[label] -= 1
        rows.append([p / len(labels) for p in probs])
    return rows


def logit_forgot_the_mean(logits, labels):
    slopes = torch.softmax(logits, dim=1)
    for text, label in enumerate(labels):
        slopes[text, label] -= 1
    return slopes


def logit_divided_by_labels(logits, labels):
    return logit_forgot_the_mean(logits, labels) / logits.size(1)


def logit_divided_by_everything(logits, labels):
    return logit_forgot_the_mean(logits, labels) / (logits.size(0) * logits.size(1))


def logit_target_minus_probability(logits, labels):
    slopes = -torch.softmax(logits, dim=1)
    slopes[range(len(labels)), labels] += 1
    return slopes / len(labels)


def logit_distance(logits, labels):
    wanted = torch.zeros_like(logits)
    wanted[range(len(labels)), labels] = 1
    return (logits.softmax(-1) - wanted).abs() / len(labels)


def logit_distance_and_no_mean(logits, labels):
    return logit_distance(logits, labels) * len(labels)


def logit_target_minus_probability_and_no_mean(logits, labels):
    return logit_target_minus_probability(logits, labels) * len(labels)


def logit_divided_by_the_notebooks_batch(logits, labels):
    return logit_forgot_the_mean(logits, labels) / 16


def logit_without_softmax(logits, labels):
    slopes = logits.clone()
    slopes[range(len(labels)), labels] -= 1
    return slopes / len(labels)


def logit_with_log_probs(logits, labels):
    slopes = torch.log_softmax(logits, dim=1)
    slopes[range(len(labels)), labels] -= 1
    return slopes / len(labels)


def logit_over_the_batch(logits, labels):
    slopes = logits.exp() / logits.exp().sum(dim=0)
    slopes[range(len(labels)), labels] -= 1
    return slopes / len(labels)


def logit_right_label_alone(logits, labels):
    probs = logits.softmax(1)
    slopes = torch.zeros_like(logits)
    for text, label in enumerate(labels):
        slopes[text, label] = probs[text, label] - 1
    return slopes / len(labels)


def logit_probabilities(logits, labels):
    return logits.softmax(1) / len(logits)


def logit_one_label_for_all(logits, labels):
    slopes = logits.softmax(1)
    slopes[:, labels[0]] -= 1
    return slopes / len(logits)


def logit_all_rows(logits, labels):
    p = logits.softmax(-1)
    p[:, labels] -= 1
    return p / len(labels)


def logit_all_rows_and_no_mean(logits, labels):
    return logit_all_rows(logits, labels) * len(labels)


def logit_subtracted_first(logits, labels):
    logits[range(len(labels)), labels] -= 1
    return logits.softmax(-1) / len(labels)


def logit_subtracted_first_and_no_mean(logits, labels):
    logits[range(len(labels)), labels] -= 1
    return logits.softmax(-1)


# ---- 07.2: momentum ------------------------------------------------------------------------------


def momentum_right(weight, gradients, lr, momentum):
    weight = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=momentum)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


def momentum_in_place(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * v + g
        weight -= lr * v
    return weight


def momentum_one_step(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * v + g
    return weight - lr * v


def momentum_returns_in_the_loop(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * v + g
        weight = weight - lr * v
        return weight


def momentum_uphill(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * v + g
        weight = weight + lr * v
    return weight


def momentum_ignored(weight, gradients, lr, momentum):
    return weight - lr * gradients.sum(dim=0)


def momentum_lr_ignored(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = v * momentum + g
        weight = weight - v
    return weight


def momentum_as_an_average(weight, gradients, lr, momentum):
    v = torch.zeros_like(weight)
    for g in gradients:
        v = momentum * v + (1 - momentum) * g
        weight = weight - lr * v
    return weight


def momentum_does_not_fade(weight, gradients, lr, momentum):
    v = torch.zeros_like(weight)
    for g in gradients:
        v += g
        weight = weight - lr * v
    return weight


def momentum_last_gradient(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * 0 + g
    return weight - lr * v


def momentum_of_one_gradient(weight, gradients, lr, momentum):
    for step, g in enumerate(gradients):
        v = g + (momentum * gradients[step - 1] if step else 0)
        weight = weight - lr * v
    return weight


def momentum_returns_the_way(weight, gradients, lr, momentum):
    v, way = 0, 0
    for g in gradients:
        v = momentum * v + g
        way = way + v
    return way


def momentum_steps_first(weight, gradients, lr, momentum):
    v = torch.zeros_like(weight)
    for g in gradients:
        weight = weight - lr * v
        v = momentum * v + g
    return weight


def momentum_lr_twice(weight, gradients, lr, momentum):
    v = 0
    for g in gradients:
        v = momentum * v + lr * g
        weight = weight - lr * v
    return weight


# ---- 07.3: which rank fits -----------------------------------------------------------------------


def rank_right(shapes, budget):
    rank = 0
    while sum((rank + 1) * (a + b) for a, b in shapes) <= budget:
        rank += 1
    return rank


def rank_rounded_up(shapes, budget):
    return math.ceil(budget / sum(a + b for a, b in shapes))


def rank_of_a(shapes, budget):
    return math.floor(budget / sum(shape[1] for shape in shapes))


def rank_of_b(shapes, budget):
    return math.floor(budget / sum(shape[0] for shape in shapes))


def rank_of_the_matrices(shapes, budget):
    return int(budget / sum(a * b for a, b in shapes))


def rank_for_each_alone(shapes, budget):
    return min(int(budget / (a + b)) for a, b in shapes)


def rank_of_the_first(shapes, budget):
    a, b = shapes[0]
    return budget // (a + b)


def rank_doubled(shapes, budget):
    return budget // (2 * sum(a + b for a, b in shapes))


def rank_as_a_fraction(shapes, budget):
    return budget / sum(map(sum, shapes))


def rank_rounded(shapes, budget):
    return round(budget / sum(a + b for a, b in shapes))


# ---- 07.4: parts of different sizes --------------------------------------------------------------


def parts_right(gradients, sizes):
    total = 0
    for gradient, size in zip(gradients, sizes, strict=True):
        total = total + gradient * (size / sum(sizes))
    return total


def parts_added(gradients, sizes):
    return sum(gradients)


def parts_averaged(gradients, sizes):
    return sum(gradients) / len(gradients)


def parts_last(gradients, sizes):
    for gradient in gradients:
        kept = gradient
    return kept


def parts_as_a_sum(gradients, sizes):
    return sum(g * n for g, n in zip(gradients, sizes, strict=True))


def parts_divided_by_parts(gradients, sizes):
    return sum(g * n for g, n in zip(gradients, sizes, strict=True)) / len(sizes)


def parts_divided_twice(gradients, sizes):
    return parts_right(gradients, sizes) / len(gradients)


def parts_divided_by_own_size(gradients, sizes):
    return sum(g / n for g, n in zip(gradients, sizes, strict=True))


def parts_added_then_divided(gradients, sizes):
    return sum(gradients) / sum(sizes)


def parts_divided_in_the_loop(gradients, sizes):
    total = 0
    for gradient, size in zip(gradients, sizes, strict=True):
        total += gradient * size
        total /= sum(sizes)
    return total


def logit_minus_the_number(logits, labels):
    return (logits.softmax(dim=-1) - labels.unsqueeze(1)) / logits.shape[0]


def logit_minus_the_number_and_no_mean(logits, labels):
    return torch.stack([row.softmax(0) - label for row, label in zip(logits, labels, strict=True)])


def momentum_returns_velocity(weight, gradients, lr, momentum):
    velocity = 0
    for row in gradients:
        velocity = momentum * velocity + row
        weight = weight - lr * velocity
    return velocity


def momentum_starts_with_a_gradient(weight, gradients, lr, momentum):
    velocity = gradients[0]
    for row in gradients:
        velocity = momentum * velocity + row
        weight = weight - lr * velocity
    return weight


def rank_one_too_far(shapes, budget):
    rank = 0
    while sum(rank * (a + b) for a, b in shapes) <= budget:
        rank += 1
    return rank


def rank_strictly_below(shapes, budget):
    rank = 0
    while sum((rank + 1) * (a + b) for a, b in shapes) < budget:
        rank += 1
    return rank


RIGHT = [
    ("07.1", logit_right),
    ("07.2", momentum_right),
    ("07.3", rank_right),
    ("07.4", parts_right),
]
WRONG = [
    ("07.1", logit_forgot_the_mean, "the gradient of the sum"),
    ("07.1", logit_divided_by_labels, "by the number of labels"),
    ("07.1", logit_divided_by_everything, "how many logits there are"),
    ("07.1", logit_target_minus_probability, "is reversed: a higher"),
    ("07.1", logit_distance, "are all distances. Which way"),
    ("07.1", logit_distance_and_no_mean, "are all distances; and"),
    ("07.1", logit_target_minus_probability_and_no_mean, "reversed; and the loss"),
    ("07.1", logit_divided_by_the_notebooks_batch, "by 16"),
    ("07.1", logit_without_softmax, "from the logits themselves"),
    ("07.1", logit_with_log_probs, "from log-probabilities"),
    ("07.1", logit_over_the_batch, "runs over the texts"),
    ("07.1", logit_right_label_alone, "only the right label has a slope"),
    ("07.1", logit_probabilities, "all your slopes are positive"),
    ("07.1", logit_one_label_for_all, "the first one's label"),
    ("07.1", logit_all_rows, "takes all rows. Each"),
    ("07.1", logit_all_rows_and_no_mean, "two things: a colon"),
    ("07.1", logit_subtracted_first, "Probabilities first"),
    ("07.1", logit_subtracted_first_and_no_mean, "two things: you subtract"),
    ("07.1", logit_minus_the_number, "the same from every probability"),
    ("07.1", logit_minus_the_number_and_no_mean, "where 1 or 0 was wanted"),
    ("07.2", momentum_returns_velocity, "this is the last velocity"),
    ("07.2", momentum_starts_with_a_gradient, "starts with the first gradient"),
    ("07.2", momentum_in_place, "in place"),
    ("07.2", momentum_one_step, "in the end, with the last velocity"),
    ("07.2", momentum_returns_in_the_loop, "inside the loop"),
    ("07.2", momentum_uphill, "uphill"),
    ("07.2", momentum_ignored, "plain SGD"),
    ("07.2", momentum_lr_ignored, "learning rate plays no part"),
    ("07.2", momentum_as_an_average, "only a part of the new gradient"),
    ("07.2", momentum_does_not_fade, "never fades"),
    ("07.2", momentum_last_gradient, "only the last gradient"),
    ("07.2", momentum_of_one_gradient, "the gradient just before"),
    ("07.2", momentum_returns_the_way, "Return the weight"),
    ("07.2", momentum_steps_first, "step first"),
    ("07.2", momentum_lr_twice, "multiplied in twice"),
    ("07.3", rank_one_too_far, "one rank too many"),
    ("07.3", rank_rounded_up, "you round up"),
    ("07.3", rank_strictly_below, "one too few"),
    ("07.3", rank_of_a, "you count A alone"),
    ("07.3", rank_of_b, "you count B alone"),
    ("07.3", rank_of_the_matrices, "the large matrices themselves"),
    ("07.3", rank_for_each_alone, "have the whole budget"),
    ("07.3", rank_of_the_first, "the first matrix only"),
    ("07.3", rank_doubled, "everything twice"),
    ("07.3", rank_rounded, "to the nearest whole number"),
    ("07.3", rank_as_a_fraction, "a whole number"),
    ("07.4", parts_added, "this is the sum, so"),
    ("07.4", parts_averaged, "counts the same"),
    ("07.4", parts_last, "only the last part"),
    ("07.4", parts_as_a_sum, "much too long"),
    ("07.4", parts_divided_by_parts, "by the number of parts"),
    ("07.4", parts_divided_twice, "once too often"),
    ("07.4", parts_divided_by_own_size, "the less it counts"),
    ("07.4", parts_divided_in_the_loop, "in every turn of the loop"),
    ("07.4", parts_added_then_divided, "add means and divide"),
]


class TestExercises(Exercises):
    notebook = "07"
    right = RIGHT
    wrong = WRONG


@pytest.mark.parametrize("number", ALL)
def test_no_message_holds_the_code_that_would_be_right(number):
    for message in find(number).mistakes:
        for code in ("softmax(", "one_hot", "len(", "sum(", "//", "shape["):
            assert code not in message


def test_another_mistake_sees_the_slopes_that_were_wanted():
    def half(logits, labels):
        return logit_forgot_the_mean(logits, labels) / len(labels) / 2

    message = llmlab.check("07.1", half).message
    expected, got = (eval(part) for part in re.findall(r"\[\[.*?\]\]", message))
    torch.testing.assert_close(torch.tensor(got), torch.tensor(expected) / 2, atol=2e-3, rtol=0)
    flat = lambda logits, labels: logit_forgot_the_mean(logits, labels).sum(1)  # noqa: E731
    assert "one slope a logit" in llmlab.check("07.1", flat).message


def test_autograd_is_a_right_way():
    def by_backward(logits, labels):
        logits = logits.clone().requires_grad_()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        return logits.grad

    assert llmlab.check("07.1", by_backward).status == "passed"


def test_a_copy_may_be_changed_in_place():
    """Only the caller's own tensor is left alone."""

    def on_a_copy(weight, gradients, lr, momentum):
        weight, velocity = weight.clone(), torch.zeros_like(weight)
        for gradient in gradients:
            velocity.mul_(momentum).add_(gradient)
            weight -= lr * velocity
        return weight

    assert llmlab.check("07.2", on_a_copy).status == "passed"


def test_without_notes_it_is_in_place_as_well():
    def in_place(weight, gradients, lr, momentum):
        with torch.no_grad():
            return momentum_in_place(weight, gradients, lr, momentum)

    assert "in place" in llmlab.check("07.2", in_place).message


def test_a_rank_may_come_as_a_float():
    answer = lambda shapes, budget: float(rank_right(shapes, budget))  # noqa: E731
    assert llmlab.check("07.3", answer).status == "passed"


# ---- the references against what PyTorch and peft compute ----------------------------------------


def test_the_slopes_are_autograds():
    logits = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1, 0])
    torch.nn.functional.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(find("07.1").reference(logits.detach(), labels), logits.grad)


def test_the_rank_is_the_largest_whose_peft_model_fits():
    from peft import LoraConfig, get_peft_model

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = torch.nn.Linear(30, 70)
            self.tall = torch.nn.Linear(20, 11)

    budget = 700
    rank = find("07.3").reference([(70, 30), (11, 20)], budget)
    trainable = []
    for r in (rank, rank + 1):
        model = get_peft_model(Two(), LoraConfig(r=r, target_modules=["wide", "tall"]))
        trainable.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert trainable[0] <= budget < trainable[1]


def test_the_parts_give_the_gradient_of_the_whole_batch():
    x, y = torch.randn(9, 4), torch.randn(9)
    weight = torch.zeros(4, requires_grad=True)

    def gradient(rows):
        return torch.autograd.grad(((x[rows] @ weight - y[rows]) ** 2).mean(), weight)[0]

    parts = [slice(0, 4), slice(4, 7), slice(7, 9)]
    ours = find("07.4").reference([gradient(rows) for rows in parts], [4, 3, 2])
    torch.testing.assert_close(ours, gradient(slice(0, 9)))
