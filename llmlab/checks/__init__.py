"""Self-checks: `check("01.3", my_function)` says at once whether an answer holds.

How it works, in three sentences. Each exercise has a reference solution, a recipe for fresh
random inputs, and a list of typical mistakes, each written as the function that a student with
that misconception would write. The student's function runs on the inputs; if it disagrees with
the reference, the mistake that gives the same wrong outputs names what went wrong. So a constant
or a copied number does not pass, and no message says the answer. An answer in words has a rubric
instead (`llmlab.checks.rubric`).
"""

import _thread
import contextlib
import copy
import importlib
import io
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from html import escape
from typing import TYPE_CHECKING, Any

from llmlab.checks.progress import note
from llmlab.errors import LabError
from llmlab.views.view import View

if TYPE_CHECKING:
    from llmlab.checks.rubric import Rubric

# Notebook number -> the module of its exercises.
_NOTEBOOKS = {
    "01": "llmlab.checks.tokenization",
    "02": "llmlab.checks.forward_pass",
    "03": "llmlab.checks.attention",
    "04": "llmlab.checks.classification",
    "05": "llmlab.checks.generation",
    "06": "llmlab.checks.encoder_decoder",
    "07": "llmlab.checks.fine_tuning",
    "08": "llmlab.checks.running",
    "hw1": "llmlab.grading.hw1",
    "hw2": "llmlab.grading.hw2",
    "hw3": "llmlab.grading.hw3",
    "hw4": "llmlab.grading.hw4",
    "hw5": "llmlab.grading.hw5",
}

PATIENCE = 10  # seconds for all of them: an honest answer takes well under one
ROUNDS = 24  # fresh inputs a check: a guess between two answers survives one time in 2**24

# Our own generator: every check draws new inputs, a fresh kernel repeats them, and the random
# numbers of the lesson do not depend on how often somebody has checked an exercise.
_random = random.Random(0)


@dataclass(frozen=True)
class Exercise:
    """One exercise: what is right, on which inputs, and which mistakes are known.

    Attributes:
        title: what the exercise asks for, in a few words.
        inputs: makes the arguments of one trial from a random number generator.
        reference: the right function.
        mistakes: message for the student -> the function that this misconception leads to.
            The first one that agrees with the student's outputs (or stops with the same error)
            wins.
        same: whether two outputs agree; `agree` suits numbers, tensors, strings and lists.
        look: optional last resort: (answer or error, expected, arguments) -> message, or "".
        rubric: for an answer in words: the facts that are looked for (`llmlab.checks.rubric`).
        passed: what a right answer hears.
    """

    title: str
    inputs: Callable[[random.Random], tuple]
    reference: Callable[..., Any]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    same: Callable[[Any, Any], bool] | None = None
    look: Callable[[Any, Any, tuple], str] | None = None
    rubric: "Rubric | None" = None
    passed: str = f"agrees with the reference on {ROUNDS} fresh inputs."


# status -> mark and colour of its badge
_MARKS = {"passed": ("✓", "#1B7837"), "open": ("○", "#57606A"), "wrong": ("✗", "#B2182B")}


class Result(View):
    """What `check` returns: it shows itself, and is true only for a passed exercise.

    Attributes:
        exercise: the number, such as "01.3".
        status: "passed", "open" (not answered yet) or "wrong".
        message: the sentence for the student.
    """

    def __init__(self, exercise: str, status: str, message: str) -> None:
        self.exercise, self.status, self.message = exercise, status, message
        mark, colour = _MARKS[status]
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
    result = _tried(exercise, task, answer)
    note(exercise, bool(result))
    return result


def _tried(exercise: str, task: Exercise, answer: Callable[..., Any]) -> Result:
    """What `check` returns."""
    if not callable(answer):
        message = (
            f"give check the function itself, not {_kind(answer)}. "
            f'Write check("{exercise}", name_of_your_function), without calling it.'
        )
        return Result(exercise, "wrong", message)
    trials = []
    try:
        with _at_most(PATIENCE), contextlib.redirect_stdout(io.StringIO()):  # one print is enough
            for _ in range(ROUNDS):
                arguments = task.inputs(random.Random(_random.randrange(2**32)))
                got = _outcome(answer, arguments)
                if isinstance(got, NotImplementedError):
                    return Result(exercise, "open", f"{task.title}. Replace the line with `raise`.")
                trials.append((arguments, _outcome(task.reference, arguments), got))
    except TimeoutError:
        message = (
            f"your function was still at work after {PATIENCE} s and was stopped: is there a loop "
            f"that never ends? (input: {_brief(arguments)})"
        )
        return Result(exercise, "wrong", message)
    if all(_same(task, got, expected) for _, expected, got in trials):
        return Result(exercise, "passed", task.passed)
    return Result(exercise, "wrong", _diagnose(task, trials))


def exercises() -> dict[str, Exercise]:
    """All exercises of the course: number -> exercise, in the order of the notebooks."""
    found: dict[str, Exercise] = {}
    for module in _NOTEBOOKS.values():
        found |= importlib.import_module(module).EXERCISES
    return found


def find(exercise: str) -> Exercise:
    """The exercise of that number.

    Raises:
        LabError: there is none; the message lists the nearest.
    """
    exercise = str(exercise)
    module = _NOTEBOOKS.get(exercise.partition(".")[0])
    known: dict[str, Exercise] = importlib.import_module(module).EXERCISES if module else {}
    if exercise in known:
        return known[exercise]
    if not known:
        raise LabError(
            f"There is no exercise {exercise!r}. Exercises are numbered like '01.3': the notebook, "
            f"a point, the exercise. Notebooks with exercises: {', '.join(_NOTEBOOKS)}."
        )
    near = get_close_matches(exercise, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise LabError(f"There is no exercise {exercise!r}. {hint}There are: {', '.join(known)}.")


def agree(got: Any, expected: Any) -> bool:
    """Whether two answers are the same: decimal numbers up to rounding, all else exactly.

    A tensor and a nested list of the same numbers agree; a shape that differs does not. Whole
    numbers (ids, counts) have no tolerance, and a text is never a number.

    >>> agree([1.0, 2.0], [1.0, 2.0000001])
    True
    >>> agree([[1.0, 2.0]], [1.0, 2.0])
    False
    >>> agree(50256, 50257), agree(["12"], [12])
    (False, False)
    """
    import numpy  # the checks of 01 need no torch; NumPy reads its tensors

    got, expected = _plain(got), _plain(expected)
    if expected is None or isinstance(expected, str | bytes | bool | set | frozenset):
        return type(got) is type(expected) and got == expected
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return False
        return all(agree(got[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        pairs = zip(got, expected, strict=False)
        return len(got) == len(expected) and all(agree(a, b) for a, b in pairs)
    try:
        left, right = numpy.asarray(got), numpy.asarray(expected)
    except ValueError:  # a ragged list: it has no shape
        return False
    # b, i, u, f: the kinds of numbers; a bare True is no number
    if isinstance(got, bool) or left.dtype.kind not in "biuf" or right.dtype.kind not in "biuf":
        return False
    if left.shape != right.shape:
        return False
    if right.dtype.kind != "f":
        return bool(numpy.array_equal(left, right))
    return bool(numpy.allclose(left, right, rtol=1e-4, atol=1e-5, equal_nan=True))


def _plain(value: Any) -> Any:
    """A tensor as an array, a single number as Python's own, the same inside lists."""
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16
        value = (value.double() if value.is_floating_point() else value).numpy()
    return value.item() if getattr(value, "shape", None) == () else value


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Stop what runs in this block after a while, as Ctrl+C would, with TimeoutError.

    It reaches Python code, on every system: an endless loop, not a single long call into C.
    """
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        _thread.interrupt_main()

    if threading.current_thread() is not threading.main_thread():  # only there it can interrupt
        yield
        return
    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if late.is_set():
            raise TimeoutError from None
        raise  # the student pressed stop
    finally:
        timer.cancel()


def _outcome(function: Callable[..., Any], arguments: tuple) -> Any:
    """What the function returns, or the error it stops with.

    It gets a copy: a function that changes its input must not spoil the comparison.
    """
    try:
        with warnings.catch_warnings():
            # for the authors of libraries (NumPy has one where it reads a tensor), not for students
            warnings.simplefilter("ignore", DeprecationWarning)
            return function(*copy.deepcopy(arguments))
    except Exception as error:
        return error


def _same(task: Exercise, got: Any, expected: Any) -> bool:
    """Whether two outcomes are the same, for this exercise; two errors are if they read alike."""
    if isinstance(got, Exception) or isinstance(expected, Exception):
        return type(got) is type(expected) and str(got) == str(expected)
    try:
        return bool((task.same or agree)(got, expected))
    except Exception:  # made for answers of the right kind, and this one is not
        return False


def _diagnose(task: Exercise, trials: list) -> str:
    """The sentence for a wrong answer: nothing returned, a known mistake, else where it differs."""
    failed = [t for t in trials if not _same(task, t[2], t[1])]
    arguments, expected, got = min(failed, key=lambda t: len(repr(t[0])))  # the easiest to follow
    if any(answer is None for _, _, answer in failed):
        return "your function returns None: is there a `return` in every branch?"
    for message, mistake in task.mistakes.items():
        if all(_same(task, answer, _outcome(mistake, given)) for given, _, answer in trials):
            return message
    given = f"(input: {_brief(arguments)})"
    if task.look is not None:
        message = _outcome(task.look, (got, expected, arguments))
        if message and isinstance(message, str):
            return message
    if isinstance(got, Exception):
        return f"your function stopped with {type(got).__name__}: {got} {given}"
    whole = type(_bare(got)) is int and type(_bare(expected)) is float  # 0 is a number, as 0.0 is
    if _kind(got) != _kind(expected) and not whole:
        return f"expected {_kind(expected)}, got {_kind(got)} {given}"
    wrong = sum(not _same(task, answer, right) for _, right, answer in trials)
    shown = f"{_brief(arguments)}, where your function gives {_brief((got,))}"
    return f"{wrong} of {len(trials)} fresh inputs come out wrong, such as {shown}"


def _bare(value: Any) -> Any:
    """A single number of NumPy or torch as Python's own; all else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _kind(value: Any) -> str:
    """A value's type and, if it has one, its shape or length, in words."""
    value = _bare(value)
    name = type(value).__name__
    if hasattr(value, "shape"):
        return f"a {name} of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | dict | set):
        return f"a {name} of length {len(value)}"
    return f"a value of type {name}"


def _brief(arguments: tuple) -> str:
    """The arguments of a trial, short enough for one line."""
    words = [_kind(a) if hasattr(a, "shape") else repr(a) for a in map(_bare, arguments)]
    return ", ".join(w if len(w) <= 60 else w[:57] + "…" for w in words)
