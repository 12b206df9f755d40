"""The mechanism of the self-checks, on made exercises, and what every real exercise must hold.

What the exercises of a notebook teach is tested beside them (test_tokenization, …).
"""

import random
import sys
import types

import numpy as np
import pytest
import torch

from llmlab import LabError, check, checks
from llmlab.checks import Exercise, agree

AXIS = "softmax runs along the wrong axis"
LOGARITHM = "that is the logarithm of the probabilities"
MADE = {
    "99.1": Exercise(
        title="softmax over the last axis",
        inputs=lambda rng: (torch.tensor([[rng.gauss(0, 1) for _ in range(3)] for _ in range(2)]),),
        reference=lambda scores: scores.softmax(-1),
        mistakes={
            AXIS: lambda scores: scores.softmax(0),
            LOGARITHM: lambda scores: scores.log_softmax(-1),
        },
        look=lambda got, expected, arguments: "negative" if (got < 0).any() else "",
    ),
    "99.2": Exercise(
        title="the word after a word",
        inputs=lambda rng: ([rng.choice("abcdefgh") for _ in range(rng.randint(3, 9))], 1),
        reference=lambda words, place: words[place + 1],
        mistakes={"off by one": lambda words, place: words[place]},
    ),
    "99.3": Exercise(
        title="a place past the end is None",
        inputs=lambda rng: (list("abc"), rng.randint(1, 5)),
        reference=lambda words, place: words[place] if place < len(words) else None,
        mistakes={"what if the place is past the end?": lambda words, place: words[place]},
    ),
}


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Exercises 99.1 to 99.3."""
    module = types.ModuleType("made_exercises")
    module.EXERCISES = MADE
    monkeypatch.setitem(sys.modules, "made_exercises", module)
    monkeypatch.setitem(checks._NOTEBOOKS, "99", "made_exercises")


def test_a_right_answer_passes_in_any_form():
    def by_hand(scores):
        powers = scores.numpy()
        powers = np.exp(powers) / np.exp(powers).sum(axis=1, keepdims=True)
        return powers.tolist()

    result = check("99.1", by_hand)
    assert result and result.status == "passed"
    assert repr(result) == "✓ 99.1 passed: agrees with the reference on 24 fresh inputs."


@pytest.mark.parametrize(("message", "mistake"), MADE["99.1"].mistakes.items())
def test_a_known_mistake_is_named(message, mistake):
    result = check("99.1", mistake)
    assert not result
    assert (result.status, result.message) == ("wrong", message)


def test_a_mistake_that_stops_with_an_error_is_named_too():
    assert check("99.3", lambda words, place: words[place]).message == (
        "what if the place is past the end?"
    )


def test_an_unknown_error_is_told_with_its_input():
    result = check("99.2", lambda words, place: words["one"])
    assert result.status == "wrong"
    assert result.message.startswith("your function stopped with TypeError: list indices must be")
    assert "(input: [" in result.message


def test_a_stub_is_open_and_says_what_to_do():
    def stub(scores):
        raise NotImplementedError

    result = check("99.1", stub)
    assert not result
    assert (result.status, result.message) == (
        "open",
        "softmax over the last axis. Replace the line with `raise`.",
    )


def test_a_forgotten_return_is_named():
    assert "returns None" in check("99.1", lambda scores: None).message


def test_a_constant_and_a_copied_number_do_not_pass():
    copied = MADE["99.1"].reference(*MADE["99.1"].inputs(random.Random(0)))
    assert check("99.1", lambda scores: copied).status == "wrong"
    assert check("99.2", lambda words, place: "a").status == "wrong"


def test_every_check_draws_new_inputs_and_leaves_the_lessons_random_numbers_alone():
    seen = []
    random.seed(0)
    before = random.getstate()
    for _ in range(2):
        check("99.2", lambda words, place: seen.append(tuple(words)))
    assert random.getstate() == before
    assert len(seen) == 2 * checks.ROUNDS
    assert len(set(seen)) > checks.ROUNDS


def test_a_function_that_spoils_its_input_is_still_judged_by_what_it_returns():
    def empties(words, place):
        word = words[place + 1]
        words.clear()
        return word

    assert check("99.2", empties)


def test_no_message_says_the_answer():
    def almost(words, place):
        return words[place + 1].upper()

    message = check("99.2", almost).message
    assert message.startswith("24 of 24 fresh inputs come out wrong, such as [")
    wrong_shape = check("99.1", lambda scores: scores.abs().sum(-1)).message
    assert wrong_shape.startswith(
        "expected a Tensor of shape (2, 3), got a Tensor of shape (2,) (input: a Tensor"
    )


def test_the_last_resort_is_asked_and_may_not_suit():
    assert check("99.1", lambda scores: scores.abs() * -1).message == "negative"
    assert "got a value of type str" in check("99.1", lambda scores: "a text").message


def test_the_value_in_place_of_the_function():
    message = check("99.1", torch.zeros(2)).message
    assert message.startswith("give check the function itself, not a Tensor of shape (2,)")


def test_a_comparison_of_ones_own_that_stops_counts_as_wrong(monkeypatch):
    picky = Exercise("x", lambda rng: (1,), lambda n: n, same=lambda got, right: got.nothing)
    monkeypatch.setitem(MADE, "99.4", picky)
    assert check("99.4", lambda n: n).status == "wrong"


@pytest.mark.parametrize(
    ("number", "hint"),
    [("99.11", "Did you mean '99.1'?"), ("9", "numbered like '01.3'"), (1.3, "numbered like")],
)
def test_an_unknown_number_is_an_error_that_helps(number, hint):
    with pytest.raises(LabError, match=f"no exercise '{number}'") as error:
        check(number, lambda: 1)
    assert hint in str(error.value)


def test_markup_in_a_message_stays_text(monkeypatch):
    monkeypatch.setitem(MADE, "99.5", Exercise("t", lambda rng: ("<b>",), lambda text: 1))
    assert "&lt;b&gt;" in check("99.5", lambda text: 2).html


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (0.1 + 0.2, 0.3),
        (torch.tensor([0.1, 0.2], requires_grad=True), [0.1, 0.2]),
        ([torch.tensor(1.0, requires_grad=True), 2], (1, 2.0)),
        (torch.tensor([1.0], dtype=torch.bfloat16), [1.0]),
        (np.float32(2.5), 2.5),
        (torch.tensor(True), True),
        (3.0, 3),
        ({"ids": [1, 2]}, {"ids": torch.tensor([1, 2])}),
        ([["a", 1], ["b", 2]], [("a", 1), ("b", 2)]),
        (float("nan"), float("nan")),
        ({"a"}, {"a"}),
    ],
)
def test_the_same_answer_in_another_form_agrees(got, expected):
    assert agree(got, expected) is True


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (50256, 50257),  # an id: no tolerance, however large
        (torch.tensor([50256]), torch.tensor([50257])),
        ("3", 3),
        (["12", "7"], [12, 7]),
        (["01"], ["1"]),  # tokens that are digits are texts
        ([1, 2], [1, 2, 3]),
        ([[1, 2]], [1, 2]),
        ([1, [2, 3]], torch.tensor([1, 2])),
        (None, 0.0),
        (True, 1),
        (1, True),
        (0.7, 0.7002),
        ("a", ["a"]),
        ({"ids": 1}, {"id": 1}),
        (["a"], {"a"}),
        (torch.zeros(2, 1), torch.zeros(1, 2)),
    ],
)
def test_another_answer_does_not_agree(got, expected):
    assert agree(got, expected) is False


# ---- what every exercise of the course must hold -----------------------------------------------

REAL = checks.exercises()


@pytest.mark.parametrize("number", REAL)
def test_exercise(number):
    task = REAL[number]

    def stub(*arguments):
        raise NotImplementedError

    assert check(number, task.reference).status == "passed"
    assert check(number, stub).status == "open"
    if task.rubric:  # an answer in words: tests/test_rubric.py
        return
    assert len(task.mistakes) >= 3
    for message, mistake in task.mistakes.items():
        result = check(number, mistake)
        assert (result.status, result.message) == ("wrong", message)
    # What is right for one input is wrong for others: no constant passes.
    arguments = task.inputs(random.Random(1))
    copied = task.reference(*arguments)
    assert check(number, lambda *_: copied).status == "wrong"


def test_each_notebook_with_checks_has_three_to_five_exercises():
    for notebook in checks._NOTEBOOKS.keys() - {"99"}:
        numbers = [number for number in REAL if number.startswith(notebook)]
        assert 3 <= sum(REAL[number].rubric is None for number in numbers) <= 5
        assert numbers == [f"{notebook}.{i}" for i in range(1, len(numbers) + 1)]


def test_an_endless_loop_is_stopped_and_named(monkeypatch):
    monkeypatch.setattr(checks, "PATIENCE", 0.3)

    def endless(words, place):
        while place < len(words):
            pass

    result = check("99.2", endless)
    assert result.status == "wrong"
    assert "after 0.3 s" in result.message and "a loop that never ends?" in result.message
    assert check("99.2", lambda words, place: words[place + 1])  # and the next check is well


def test_the_students_own_interrupt_goes_through():
    def pressed_stop(words, place):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("99.2", pressed_stop)


def test_what_the_function_prints_does_not_flood_the_cell(capsys):
    def chatty(words, place):
        print("trying", words)
        return words[place + 1]

    assert check("99.2", chatty)
    assert capsys.readouterr().out == ""


def test_the_shortest_failing_input_is_shown_with_what_came_out():
    seen = []

    def zebra(words, place):
        seen.append(words)
        return "zebra"

    message = check("99.2", zebra).message
    assert f"such as {min(seen, key=len)!r}, 1, where your function gives 'zebra'" in message
