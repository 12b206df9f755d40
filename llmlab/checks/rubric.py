"""Rubrics: which facts a written answer states, so far as a machine can tell. A person reads it.

A written answer is a text and the figures that it speaks of: `return text, measured`. What is
looked at: that it is long enough, in words of its own, and that each fact stands in it, a number
beside what it is a number of and equal to what was measured. What can't be looked at: whether it
is true beyond that, well argued, and written by the one who hands it in.

>>> numbers("about 1,024 tokens, 22.7 times or 9 %; twice")
[(1024.0, 0.5), (22.7, 0.05), (9.0, 0.5), (2.0, 0.5)]
>>> fact = cites(r"burmese", value=lambda measured: [measured["Burmese"]], missing="how much?")
>>> fact("Burmese has the most tokens: 23 times those of English.", {"Burmese": 22.69})
''
>>> fact("Burmese has the most tokens.", {"Burmese": 22.69})
'how much?'
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from llmlab.checks import Exercise

# What a fact says of a text and the figures: a sentence for the student, "" if it stands there.
Fact = Callable[[str, Any], str]

# Compared with everything, it has every fact: what the reference "answers".
FULL = object()

_NUMBER = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.,])\d+(?:[.,]\d+)?")
_SPELT = {"half": 0.5, "twice": 2, "two": 2, "double": 2, "three": 3, "four": 4, "five": 5,
          "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twenty": 20, "thirty": 30,
          "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
          "ninety": 90}  # fmt: skip


@dataclass(frozen=True)
class Rubric:
    """What is looked for in a written answer.

    Attributes:
        task: the task's own words, as they stand in the notebook: to repeat them is no answer.
        facts: each is looked for by itself.
        figures: what is wrong with the measured figures, or "".
        least: words; a text of fewer is not looked at.
        most: words.
    """

    task: str
    facts: tuple[Fact, ...]
    figures: Callable[[Any], str]
    least: int = 80
    most: int = 600

    def faults(self, answer: Any) -> tuple[str, ...]:
        """What is missing or wrong, a sentence each; none if all facts stand there."""
        if answer is FULL:
            return ()
        if not (isinstance(answer, tuple | list) and len(answer) == 2):
            return ("hand in two things, the text and the figures: `return text, measured`.",)
        text, measured = answer
        if not isinstance(text, str):
            return (f"the first thing is your text in quotes, not a {type(text).__name__}.",)
        try:
            fault = self.figures(measured)
        except Exception:  # not of the form that was asked for
            fault = "the figures are not those of the notebook: leave `measured` as it is made."
        if fault:
            return (fault,)
        fault = self._form(text)
        if fault:
            return (fault,)
        return tuple(filter(None, (fact(text, measured) for fact in self.facts)))

    def found(self, answer: Any) -> int:
        """How many of the facts stand there: none where form or figures are not as asked."""
        if answer is FULL:
            return len(self.facts)
        faults = self.faults(answer)
        try:
            text, measured = answer
            form = bool(self.figures(measured) or self._form(text))
        except Exception:  # not of the form that was asked for
            form = True
        return 0 if form else len(self.facts) - len(faults)

    def _form(self, text: str) -> str:
        """What is wrong with the text as a text, or ""."""
        said = words(text)
        whole = [sentence for sentence in sentences(text) if len(words(sentence)) >= 5]
        if len(said) < self.least or len(whole) < 4:
            return f"too short: at least {self.least} words are asked, in four sentences or more."
        if len(said) > self.most:
            return f"too long: {self.most} words are enough. What matters most?"
        if sum(word.isdigit() for word in said) > len(said) / 3:
            return "this is a list of numbers: say in sentences what they mean."
        if len(set(windows(said))) < 0.8 * len(windows(said)) or len(set(whole)) < len(whole):
            return "the text repeats itself."
        given = set(windows(words(self.task)))
        if sum(window in given for window in windows(said)) > 0.2 * len(windows(said)):
            return "much of it are the task's own words: answer in yours."
        return ""


def exercise(title: str, rubric: Rubric) -> Exercise:
    """The rubric as an exercise: its function takes nothing and returns text and figures."""

    def look(answer: Any, expected: Any, arguments: tuple) -> str:
        if isinstance(answer, Exception):
            return f"your function stopped with {type(answer).__name__}: {answer}"
        faults = rubric.faults(answer)
        if len(faults) == 1:
            return faults[0]
        return f"{len(faults)} of {len(rubric.facts)} facts are not found: " + " · ".join(faults)

    return Exercise(
        title=title,
        inputs=lambda rng: (),
        reference=lambda: FULL,
        same=lambda got, expected: rubric.faults(got) == rubric.faults(expected),
        look=look,
        rubric=rubric,
        passed=f"all {len(rubric.facts)} facts are found. How true and how well argued the text "
        "is, a person reads.",
    )


# ---- facts ---------------------------------------------------------------------------------------


def mentions(*patterns: str, missing: str, least: int = 0) -> Fact:
    """One passage has all these patterns; with `least`, the text has so many of them."""

    def fact(text: str, measured: Any) -> str:
        if least:
            plain = " ".join(text.split())  # a line may end anywhere
            there = sum(found(pattern, plain) for pattern in patterns) >= least
        else:
            there = any(all(found(p, passage) for p in patterns) for passage in passages(text))
        return "" if there else missing

    return fact


def cites(
    *patterns: str,
    value: Callable[[Any], Iterable[float]],
    missing: str,
    confused: Callable[[Any], Iterable[float]] | None = None,
    wrong: str = "",
) -> Fact:
    """One passage has all these patterns and a number that agrees with one of the values.

    If none does, and one has a number out of `confused`, `wrong` is said in place of `missing`.
    """

    def fact(text: str, measured: Any) -> str:
        about = [p for p in passages(text) if all(found(pattern, p) for pattern in patterns)]
        if any(agrees(p, v) for p in about for v in value(measured)):
            return ""
        others = confused(measured) if confused else ()
        return wrong if any(agrees(p, v) for p in about for v in others) else missing

    return fact


def points(*patterns: str, up: str, down: str, rises: Callable[[Any], bool],
           missing: str, wrong: str) -> Fact:  # fmt: skip
    """A sentence with these patterns says in which direction it goes: the measured one."""

    def fact(text: str, measured: Any) -> str:
        about = [s for s in sentences(text) if all(found(pattern, s) for pattern in patterns)]
        right, other = (up, down) if rises(measured) else (down, up)
        if any(found(right, s) for s in about):
            return ""
        return wrong if any(found(other, s) for s in about) else missing

    return fact


# ---- reading -------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words, in small letters; the parts of a number count each.

    >>> words("SmolLM2's 4.1 times")
    ['smollm2', 's', '4', '1', 'times']
    """
    return re.findall(r"\w+", text.casefold())


def sentences(text: str) -> list[str]:
    """The sentences, each on one line.

    >>> sentences("It costs 4.1 times.  Why? Bytes")
    ['It costs 4.1 times.', 'Why?', 'Bytes']
    """
    parts = re.split(r"(?<=[.!?;])\s+|\n\s*\n", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def passages(text: str) -> list[str]:
    """Each two sentences that stand beside each other: "it" is what the one before spoke of."""
    parts = sentences(text)
    return [f"{a} {b}" for a, b in zip(parts, [*parts[1:], ""], strict=True)]


def windows(said: list[str]) -> list[tuple[str, ...]]:
    """All runs of five words."""
    return [tuple(said[i : i + 5]) for i in range(len(said) - 4)]


def found(pattern: str, text: str) -> bool:
    """Whether the pattern stands there, in small or large letters."""
    return re.search(pattern, text, re.IGNORECASE) is not None


def numbers(text: str) -> list[tuple[float, float]]:
    """The numbers of a text, each with half a unit of its last digit; some may be spelt."""
    there = []
    for match in re.finditer(rf"{_NUMBER.pattern}|\b(?:{'|'.join(_SPELT)})\b", text.casefold()):
        said = match[0]
        if said in _SPELT:
            there.append((float(_SPELT[said]), 0.5 if _SPELT[said] >= 1 else 0.05))
            continue
        plain = re.sub(r",(?=\d{3}(?!\d))", "", said).replace(",", ".")
        there.append((float(plain), 0.5 * 10.0 ** -len(plain.partition(".")[2])))
    return there


def agrees(passage: str, value: float) -> bool:
    """Whether one of the passage's numbers is this value, as far as it is written out."""
    return any(
        abs(number - value) <= max(half * 1.001, 0.02 * abs(value))
        for number, half in numbers(passage)
    )
