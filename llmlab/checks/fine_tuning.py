"""The exercises of notebook 07: a gradient, momentum, the rank of LoRA, gradient accumulation."""

import random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlab.checks import Exercise, agree

_Logits = Float[Tensor, "batch label"]
_Labels = Int[Tensor, "batch"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


# ---- 07.1 the gradient of the loss by the logits -------------------------------------------------


def _guesses(rng: random.Random) -> tuple[Tensor, Tensor]:
    """Logits of three to five texts and their labels; never as many texts as labels."""
    labels, generator = rng.randrange(3, 6), _generator(rng)
    batch = rng.choice([n for n in (2, 4, 6, 7) if n != labels])
    logits = 2 * torch.randn(batch, labels, generator=generator)
    return logits, torch.randint(labels, (batch,), generator=generator)


def _wanted(logits: _Logits, labels: _Labels) -> _Logits:
    """1 at each text's label, 0 elsewhere."""
    return torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)


def _slopes(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits.softmax(-1) - _wanted(logits, labels)) / len(labels)


def _slopes_summed(logits: _Logits, labels: _Labels) -> _Logits:
    return logits.softmax(-1) - _wanted(logits, labels)


def _slopes_by_labels(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_summed(logits, labels) / logits.shape[1]


def _slopes_by_all(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_summed(logits, labels) / logits.numel()


def _slopes_reversed(logits: _Logits, labels: _Labels) -> _Logits:
    return -_slopes(logits, labels)


def _slopes_distance(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes(logits, labels).abs()


def _slopes_distance_summed(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_summed(logits, labels).abs()


def _slopes_reversed_summed(logits: _Logits, labels: _Labels) -> _Logits:
    return -_slopes_summed(logits, labels)


def _slopes_by_sixteen(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_summed(logits, labels) / 16


def _slopes_no_softmax(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits - _wanted(logits, labels)) / len(labels)


def _slopes_log(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits.log_softmax(-1) - _wanted(logits, labels)) / len(labels)


def _slopes_axis(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits.softmax(0) - _wanted(logits, labels)) / len(labels)


def _slopes_right_only(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes(logits, labels) * _wanted(logits, labels)


def _slopes_no_target(logits: _Logits, labels: _Labels) -> _Logits:
    return logits.softmax(-1) / len(labels)


def _slopes_first(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes(logits, torch.full_like(labels, int(labels[0])))


def _look_at_slopes(got: Any, expected: Any, given: tuple[Tensor, Tensor]) -> str:
    """The numbers of a small batch that come out, and those that are wanted."""
    shape = tuple(expected.shape)
    if not isinstance(got, Tensor):
        return ""
    if tuple(got.shape) != shape:
        return f"expected the shape {shape}, one slope a logit, and got {tuple(got.shape)}."
    shown = [[[round(v, 3) for v in row] for row in slopes.tolist()] for slopes in (expected, got)]
    return f"for the labels {given[1].tolist()} the slopes are {shown[0]}; yours are {shown[1]}."


def _slopes_all_rows(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_all_rows_summed(logits, labels) / len(labels)


def _slopes_all_rows_summed(logits: _Logits, labels: _Labels) -> _Logits:
    slopes = logits.softmax(-1)
    slopes[:, labels] -= 1
    return slopes


def _slopes_too_early(logits: _Logits, labels: _Labels) -> _Logits:
    return _slopes_too_early_summed(logits, labels) / len(labels)


def _slopes_too_early_summed(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits - _wanted(logits, labels)).softmax(-1)


def _slopes_label_number(logits: _Logits, labels: _Labels) -> _Logits:
    return (logits.softmax(-1) - labels[:, None]) / len(labels)


def _slopes_label_number_summed(logits: _Logits, labels: _Labels) -> _Logits:
    return logits.softmax(-1) - labels[:, None]


# ---- 07.2 momentum -------------------------------------------------------------------------------


class _Given(Tensor):
    """A tensor that is known again after a change in place; what is computed from it is plain."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict) -> "_Given":
        return self.detach().clone().as_subclass(_Given)


_Given.__name__ = "Tensor"  # what a message calls it


def _not_in_place(got: Any, expected: Any) -> bool:
    """The same numbers, and both or none of them in the memory that the caller gave."""
    return isinstance(got, _Given) == isinstance(expected, _Given) and agree(got, expected)


def _journey(rng: random.Random) -> tuple[Tensor, Tensor, float, float]:
    """A weight, the gradients of some steps, a learning rate and a momentum."""
    generator = _generator(rng)
    steps, size = rng.randrange(3, 6), rng.randrange(2, 5)
    weight = torch.randn(size, generator=generator).as_subclass(_Given)
    gradients = torch.randn(steps, size, generator=generator)
    return weight, gradients, rng.choice([0.1, 0.2, 0.5]), rng.choice([0.6, 0.8, 0.9])


def _walk(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight = weight - lr * velocity
    return weight


def _walk_in_place(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros(len(weight))
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight -= lr * velocity
    return weight


def _walk_once(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        velocity = momentum * velocity + gradient
    return weight - lr * velocity


def _walk_first_step(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients[:1], lr, momentum)


def _walk_uphill(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients, -lr, momentum)


def _walk_without(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients, lr, 0)


def _walk_no_lr(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients, 1, momentum)


def _walk_average(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, (1 - momentum) * gradients, lr, momentum)


def _walk_never_fades(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients, lr, 1)


def _walk_last_only(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return _walk(weight, gradients[-1:], lr, momentum)


def _walk_one_back(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    before = torch.zeros_like(weight)
    for gradient in gradients:
        weight = weight - lr * (momentum * before + gradient)
        before = gradient
    return weight


def _walk_velocity(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    return (weight - _walk(weight, gradients, lr, momentum)) / lr


def _walk_late(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        weight = weight - lr * velocity
        velocity = momentum * velocity + gradient
    return weight


def _walk_lr_kept(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        velocity = momentum * velocity + lr * gradient
        weight = weight - lr * velocity
    return weight


def _walk_last_velocity(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    velocity = torch.zeros_like(weight)
    for gradient in gradients:
        velocity = momentum * velocity + gradient
    return velocity


def _walk_started(weight: Tensor, gradients: Tensor, lr: float, momentum: float) -> Tensor:
    # The first velocity is the first gradient, and then this gradient comes again.
    velocity = gradients[0]
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight = weight - lr * velocity
    return weight


# ---- 07.3 the largest rank that fits -------------------------------------------------------------


def _budget(rng: random.Random) -> tuple[list[tuple[int, int]], int]:
    """Shapes of matrices and a budget of parameters, sometimes used up exactly; rank 4 fits."""
    shapes = [(rng.randrange(40, 400), rng.randrange(40, 400)) for _ in range(rng.randrange(2, 6))]
    one = sum(out + inside for out, inside in shapes)
    left = rng.choice([0, rng.randrange(one // 3, one // 2), rng.randrange(one // 2, 2 * one // 3)])
    return shapes, one * rng.randrange(4, 20) + left


def _rank(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(out + inside for out, inside in shapes)


def _rank_up(shapes: list[tuple[int, int]], budget: int) -> int:
    return _rank(shapes, budget) + 1


def _rank_ceiling(shapes: list[tuple[int, int]], budget: int) -> int:
    return _rank(shapes, budget - 1) + 1


def _rank_below(shapes: list[tuple[int, int]], budget: int) -> int:
    return _rank(shapes, budget - 1)


def _rank_inputs(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(inside for _, inside in shapes)


def _rank_outputs(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(out for out, _ in shapes)


def _rank_product(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(out * inside for out, inside in shapes)


def _rank_each(shapes: list[tuple[int, int]], budget: int) -> int:
    return min(budget // (out + inside) for out, inside in shapes)


def _rank_first(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(shapes[0])


def _rank_twice(shapes: list[tuple[int, int]], budget: int) -> int:
    return budget // sum(2 * (out + inside) for out, inside in shapes)


def _rank_fraction(shapes: list[tuple[int, int]], budget: int) -> float:
    return budget / sum(out + inside for out, inside in shapes)


def _rank_nearest(shapes: list[tuple[int, int]], budget: int) -> int:
    return round(_rank_fraction(shapes, budget))


# ---- 07.4 gradient accumulation ------------------------------------------------------------------


def _parts(rng: random.Random) -> tuple[list[Tensor], list[int]]:
    """The mean gradients of some batches of different sizes; the last is not the largest."""
    generator, count, size = _generator(rng), rng.randrange(3, 6), rng.randrange(2, 5)
    sizes = sorted(rng.sample(range(2, 17), count))[::-1]
    return [torch.randn(size, generator=generator) for _ in range(count)], sizes


def _together(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    parts = [n * gradient for gradient, n in zip(gradients, sizes, strict=True)]
    return torch.stack(parts).sum(0) / sum(sizes)


def _together_summed(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return torch.stack(gradients).sum(0)


def _together_mean(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return torch.stack(gradients).mean(0)


def _together_last(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return gradients[-1]


def _together_not_divided(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return _together(gradients, sizes) * sum(sizes)


def _together_by_count(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return _together_not_divided(gradients, sizes) / len(sizes)


def _together_divided_twice(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return _together(gradients, sizes) / len(sizes)


def _together_inverse(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    parts = [gradient / n for gradient, n in zip(gradients, sizes, strict=True)]
    return torch.stack(parts).sum(0)


def _together_sum_by_texts(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    return _together_summed(gradients, sizes) / sum(sizes)


def _together_divided_each_turn(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    total = torch.zeros_like(gradients[0])
    for gradient, n in zip(gradients, sizes, strict=True):
        total = (total + n * gradient) / sum(sizes)
    return total


def _number(got: Any, expected: Any) -> bool:
    """The same whole number, however it is typed: 7, 7.0 or a tensor of it."""
    return float(got) == float(expected)


EXERCISES = {
    "07.1": Exercise(
        title="which way, and how far, each logit pulls the loss",
        inputs=_guesses,
        reference=_slopes,
        look=_look_at_slopes,
        mistakes={
            "this is the gradient of the sum over the texts. The loss is a mean: how much less "
            "does each text count in it?": _slopes_summed,
            "you divide by the number of labels. The loss is a mean over the texts.": (
                _slopes_by_labels
            ),
            "you divide by how many logits there are. The loss is a mean over the texts, not over "
            "all entries.": _slopes_by_all,
            "every sign is reversed: a higher logit at the right label makes the loss smaller, so "
            "its slope is negative.": _slopes_reversed,
            "a slope has a sign, and yours are all distances. Which way must the right label's "
            "logit go, which way the others'?": _slopes_distance,
            "two things: a slope has a sign, and yours are all distances; and the loss is a "
            "mean.": _slopes_distance_summed,
            "two things: every sign is reversed; and the loss is a mean over the texts.": (
                _slopes_reversed_summed
            ),
            "you divide by 16, the size of the notebook's batch. These batches have other sizes.": (
                _slopes_by_sixteen
            ),
            "you subtract the label's number, the same from every probability of a text. What was "
            "wanted of each label is 1 or 0.": _slopes_label_number,
            "two things: the label's number is subtracted, where 1 or 0 was wanted of each label; "
            "and the loss is a mean.": _slopes_label_number_summed,
            "you start from the logits themselves. The slopes need probabilities.": (
                _slopes_no_softmax
            ),
            "you start from log-probabilities. The slopes need the probabilities themselves.": (
                _slopes_log
            ),
            "your softmax runs over the texts: each column adds up to 1. Each text needs "
            "probabilities of its own.": _slopes_axis,
            "only the right label has a slope in yours. A higher logit at a wrong label makes the "
            "loss larger: these have one too.": _slopes_right_only,
            "all your slopes are positive, so the label plays no part. What does a higher logit "
            "at the right label do?": _slopes_no_target,
            "every text gets the first one's label.": _slopes_first,
            "you subtract in every row at the labels of all texts: a colon takes all rows. Each "
            "text has one right label, its own.": _slopes_all_rows,
            "two things: a colon takes all rows, though each text has one right label; and "
            "the loss is a mean.": _slopes_all_rows_summed,
            "you subtract from the logits, before the softmax, so no slope is negative. "
            "Probabilities first, then subtract.": _slopes_too_early,
            "two things: you subtract from the logits, before the softmax; and the loss is a "
            "mean.": _slopes_too_early_summed,
        },
    ),
    "07.2": Exercise(
        title="the weight after all steps of SGD with momentum",
        inputs=_journey,
        reference=_walk,
        same=_not_in_place,
        mistakes={
            "the numbers are right, and your function has changed the tensor of whoever called "
            "it: -= works in place. Make a new tensor in each step.": _walk_in_place,
            "you take one step, in the end, with the last velocity. Each row of gradients is a "
            "step of its own.": _walk_once,
            "you walk uphill: a step goes against the gradient.": _walk_uphill,
            "only the first gradient has moved your weight: does the `return` stand inside the "
            "loop?": _walk_first_step,
            "this is plain SGD: nothing of the earlier gradients is left in the velocity.": (
                _walk_without
            ),
            "the learning rate plays no part in yours.": _walk_no_lr,
            "you add only a part of the new gradient, as Adam's running mean does. Here it counts "
            "in full.": _walk_average,
            "the velocity never fades: the momentum plays no part.": _walk_never_fades,
            "only the last gradient moves your weight. Take a step for each.": _walk_last_only,
            "yours remembers only the gradient just before. The velocity carries all earlier "
            "ones.": _walk_one_back,
            "this is the way travelled or a velocity. Return the weight where it ends.": (
                _walk_velocity
            ),
            "this is the last velocity. Asked is the weight.": _walk_last_velocity,
            "your velocity starts with the first gradient, which is then added once more. It "
            "starts from 0.": _walk_started,
            "you step first and update the velocity afterwards: the first step goes nowhere.": (
                _walk_late
            ),
            "the learning rate is multiplied in twice, once in the velocity and once in the "
            "step.": _walk_lr_kept,
        },
    ),
    "07.3": Exercise(
        title="the largest rank of LoRA that a budget allows",
        inputs=_budget,
        reference=_rank,
        same=_number,
        mistakes={
            "one rank too many: yours no longer fits into the budget.": _rank_up,
            "you round up: where a rest of the budget is left, that rank needs more than there "
            "is.": _rank_ceiling,
            "where a rank uses up the budget to the last number, yours is one too few: at most "
            "means that it still fits.": _rank_below,
            "you count A alone. B belongs to it.": _rank_inputs,
            "you count B alone. A belongs to it.": _rank_outputs,
            "you count the large matrices themselves. LoRA doesn't train these.": _rank_product,
            "you let each matrix have the whole budget. It is for all of them together.": (
                _rank_each
            ),
            "you look at the first matrix only.": _rank_first,
            "you count everything twice. For each unit of rank, A gets one row and B one "
            "column.": _rank_twice,
            "you round to the nearest whole number. Where that is up, the rank no longer fits into "
            "the budget; expected is the largest that fits.": _rank_nearest,
            "a rank is a whole number: how many rows would 7.4 be?": _rank_fraction,
        },
    ),
    "07.4": Exercise(
        title="the gradient of one large batch, from those of its parts",
        inputs=_parts,
        reference=_together,
        mistakes={
            "this is the sum, so it is several times too long, like a learning rate that is too "
            "high. A mean of all texts is needed.": _together_summed,
            "each part counts the same in yours. A text of a small part then weighs more than one "
            "of a large part.": _together_mean,
            "only the last part is left: did something set the gradient to zero between them?": (
                _together_last
            ),
            "this is much too long: try parts that all have the same gradient. The whole batch "
            "must have it, too.": _together_not_divided,
            "you divide by the number of parts. How many texts were there in all?": (
                _together_by_count
            ),
            "divided once too often: by the texts and by the parts.": _together_divided_twice,
            "the larger a part, the less it counts in yours. Each gradient is a mean already: "
            "what sum was it made of?": _together_inverse,
            "you add means and divide by texts. First make sums of the means again.": (
                _together_sum_by_texts
            ),
            "you divide in every turn of the loop, so the first parts shrink again and again. Add "
            "up everything first.": _together_divided_each_turn,
        },
    ),
}
