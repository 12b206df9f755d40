"""Self-checks: `check("01.3", my_function)` says at once whether an answer holds.

How it works, in three sentences. Each exercise has a reference solution, a recipe for fresh
random inputs, and a list of typical mistakes, each written as the function that a student with
that misconception would write. The student's function runs on the inputs; if it disagrees with
the reference, the mistake that gives the same wrong outputs names what went wrong. So a constant
or a copied number does not pass, and no message says the answer.
"""

import copy
import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from html import escape
from typing import Any

from llmlab.errors import LabError
from llmlab.views.view import View

# Notebook number -> the module of its exercises.
_NOTEBOOKS = {"01": "llmlab.checks.tokenization", "02": "llmlab.checks.forward_pass"}

ROUNDS = 8  # fresh inputs a check: enough that a lucky guess does not survive them


@dataclass(frozen=True)
class Exercise:
    """One exercise: what is right, on which inputs, and which mistakes are known.

    Attributes:
        title: what the exercise asks for, in a few words.
        inputs: makes the arguments of one trial from a random number generator.
        reference: the right function.
        mistakes: message for the student -> the function that this misconception leads to.
            The first one that agrees with the student's outputs wins.
        same: whether two outputs agree; `agree` suits numbers, tensors, strings and lists.
        look: optional last resort: (answer, expected, arguments) -> message, or "" for none.
    """

    title: str
    inputs: Callable[[random.Random], tuple]
    reference: Callable[..., Any]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    same: Callable[[Any, Any], bool] | None = None
    look: Callable[[Any, Any, tuple], str] | None = None


class Result(View):
    """What `check` returns: it shows itself, and is true only for a passed exercise.

    Attributes:
        exercise: the number, such as "01.3".
        status: "passed", "open" (not answered yet) or "wrong".
        message: the sentence for the student.
    """

    _MARKS = {"passed": ("✓", "#1B7837"), "open": ("○", "#57606A"), "wrong": ("✗", "#B2182B")}

    def __init__(self, exercise: str, status: str, message: str) -> None:
        self.exercise, self.status, self.message = exercise, status, message
        mark, colour = self._MARKS[status]
        text = f"{mark} {exercise} {status}: {message}"
        # The badge carries its own background, so that it reads in light and dark themes.
        badge = f"background:{colour};color:#FFFFFF;padding:1px 8px;border-radius:8px"
        html = f'<span style="{badge}">{mark} {exercise} {status}</span> {escape(message)}'
        super().__init__(html, text)

    def __bool__(self) -> bool:
        return self.status == "passed"


def check(exercise: str, answer: Callable[..., Any]) -> Result:
    """Try your function on fresh random inputs and say how it does.

    Args:
        exercise: the number that stands at the exercise, such as "01.3".
        answer: your function.

    Returns:
        The result; it shows itself. It never stops the notebook: a stub that raises
        NotImplementedError is "open", any other error of your function is reported as "wrong".

    Raises:
        LabError: there is no exercise of that number.
    """
    task = find(exercise)
    if not callable(answer):
        message = (
            f"give check the function itself, not {_kind(answer)}. "
            f'Write check("{exercise}", name_of_your_function), without calling it.'
        )
        return Result(exercise, "wrong", message)
    seed = random.randrange(2**32)  # the session's generator: repeatable after setup(), yet fresh
    trials = []
    for round_ in range(ROUNDS):
        arguments = task.inputs(random.Random(seed + round_))
        expected = task.reference(*copy.deepcopy(arguments))
        try:
            # A copy: a function that changes its input must not spoil the comparison.
            got = answer(*copy.deepcopy(arguments))
        except NotImplementedError:
            return Result(exercise, "open", f"{task.title}. Replace the line with `raise`.")
        except Exception as error:
            reason = f"your function stopped with {type(error).__name__}: {error}"
            return Result(exercise, "wrong", f"{reason} (input: {_brief(arguments)})")
        trials.append((arguments, expected, got))
    same = task.same or agree
    if all(same(got, expected) for _, expected, got in trials):
        return Result(exercise, "passed", f"agrees with the reference on {ROUNDS} fresh inputs.")
    return Result(exercise, "wrong", _diagnose(task, trials, same))


def find(exercise: str) -> Exercise:
    """The exercise of that number.

    Raises:
        LabError: there is none; the message lists the nearest.
    """
    module = _NOTEBOOKS.get(str(exercise)[:2])
    known: dict[str, Exercise] = importlib.import_module(module).EXERCISES if module else {}
    if exercise in known:
        return known[exercise]
    near = get_close_matches(str(exercise), list(known), n=1) or list(known)
    listed = f"Did you mean {near[0]!r}?" if len(near) == 1 else f"There are: {', '.join(near)}."
    if not near:
        listed = f"Exercises are numbered by notebook: {', '.join(_NOTEBOOKS)}."
    raise LabError(f"There is no exercise {exercise!r}. {listed}")


def agree(got: Any, expected: Any) -> bool:
    """Whether two answers are the same: numbers and tensors up to rounding, the rest exactly.

    A tensor and a nested list of the same numbers agree; a shape that differs does not.

    >>> agree([1.0, 2.0], [1.0, 2.0000001])
    True
    >>> agree([[1.0, 2.0]], [1.0, 2.0])
    False
    """
    import numpy  # the checks of 01 need no torch; NumPy reads its tensors

    if got is None or isinstance(expected, str | bool):
        return bool(got is not None and type(got) is type(expected) and got == expected)
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return False
        return all(agree(got[key], expected[key]) for key in expected)
    try:
        left, right = (numpy.asarray(_detached(x), dtype=float) for x in (got, expected))
    except (TypeError, ValueError):  # lists of strings, ragged lists, …
        if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
            pairs = zip(got, expected, strict=False)
            return len(got) == len(expected) and all(agree(a, b) for a, b in pairs)
        return False
    if left.shape != right.shape:
        return False
    return bool(numpy.allclose(left, right, rtol=1e-4, atol=1e-5, equal_nan=True))


def _diagnose(task: Exercise, trials: list, same: Callable[[Any, Any], bool]) -> str:
    """The sentence for a wrong answer: nothing returned, a known mistake, else where it differs."""
    arguments, expected, got = next(t for t in trials if not same(t[2], t[1]))
    if got is None:
        return "your function returns None: is there a `return` in every branch?"
    for message, mistake in task.mistakes.items():
        if all(_agrees_with(mistake, given, answer, same) for given, _, answer in trials):
            return message
    if task.look is not None and (message := task.look(got, expected, arguments)):
        return message
    if _kind(got) != _kind(expected):
        return f"expected {_kind(expected)}, got {_kind(got)} (input: {_brief(arguments)})"
    wrong = sum(not same(answer, right) for _, right, answer in trials)
    return f"{wrong} of {len(trials)} fresh inputs come out wrong, such as {_brief(arguments)}"


def _agrees_with(mistake: Callable, arguments: tuple, got: Any, same: Callable) -> bool:
    """Whether this misconception would have given the student's output."""
    try:
        return same(got, mistake(*copy.deepcopy(arguments)))
    except Exception:  # the mistake itself fails on this input: then it is not the student's
        return False


def _detached(value: Any) -> Any:
    """A tensor as an array, wherever it lives; anything else as it is."""
    if hasattr(value, "detach"):
        return value.detach().cpu().float().numpy()
    return value


def _kind(value: Any) -> str:
    """A value's type and, if it has one, its shape or length, in words."""
    name = type(value).__name__
    if hasattr(value, "shape"):
        return f"a {name} of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict | set):
        return f"a {name} of length {len(value)}"
    return f"a value of type {name}"


def _brief(arguments: tuple) -> str:
    """The arguments of a trial, short enough for one line."""
    words = [_kind(a) if hasattr(a, "shape") else repr(a) for a in arguments]
    return ", ".join(w if len(w) <= 60 else w[:57] + "…" for w in words)
