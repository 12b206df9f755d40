"""What must hold for the exercises of every notebook: one class, which a test file completes."""

import pytest

import llmlab
from llmlab.checks import exercises, find


class Exercises:
    """The tests of one notebook's exercises.

    A subclass gives the answers, written as a student would write them, without a look at those in
    `llmlab.checks`.

    Attributes:
        notebook: the beginning of the exercises' numbers: "04".
        right: (number, a right way of its own).
        wrong: (number, the function of a student with a misconception, words of its message).
    """

    notebook: str
    right: list[tuple]
    wrong: list[tuple]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each answer, or for each exercise."""
        names = [name for name in metafunc.fixturenames if name != "self"]
        if names == ["number"]:
            metafunc.parametrize("number", [n for n in exercises() if n.startswith(self.notebook)])
        elif names:
            rows = self.wrong if "words" in names else self.right
            metafunc.parametrize(names, rows, ids=[f"{row[0]}-{row[1].__name__}" for row in rows])

    def test_each_exercise_is_solved_here(self):
        solved = sorted({number for number, _ in self.right})
        assert solved == [n for n in exercises() if n.startswith(self.notebook)]

    def test_a_right_answer_passes(self, number, answer):
        result = llmlab.check(number, answer)
        assert result.status == "passed", result.message

    def test_the_reference_passes(self, number):
        assert llmlab.check(number, find(number).reference).status == "passed"

    def test_a_stub_is_open_and_a_constant_fails(self, number):
        def stub(*arguments):
            raise NotImplementedError

        assert llmlab.check(number, stub).status == "open"
        for constant in [0, 1.0, 7, None]:
            assert llmlab.check(number, lambda *_, c=constant: c).status == "wrong"

    def test_each_misconception_hears_its_own_sentence(self, number, answer, words):
        result = llmlab.check(number, answer)
        assert result.status == "wrong"
        assert words in result.message
        assert sum(words in message for message in find(number).mistakes) == 1

    def test_every_message_is_proven(self, number):
        messages = list(find(number).mistakes)
        assert len(set(messages)) == len(messages) >= 3
        proven = [words for n, _, words in self.wrong if n == number]
        for message in messages:
            assert any(words in message for words in proven), message
