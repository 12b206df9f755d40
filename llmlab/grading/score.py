"""From what a sandbox reported to points and sentences. Here, outside, the right answers are.

What is believed of a report are values: each is compared with the reference's on inputs that were
drawn for this run. Whoever forges a report must fill in right values, and so must have computed
them.
"""

import builtins
import hashlib
import random
import re
import textwrap
from pathlib import Path
from typing import Any

from llmlab import checks
from llmlab.grading.assignment import Assignment, Part
from llmlab.grading.child import Other, decode, encode
from llmlab.grading.sandbox import Limits, Run, run


def grade_one(
    notebook: bytes,
    assignment: Assignment,
    limits: Limits = Limits(),  # noqa: B008
    *,
    hidden: tuple[Path, ...] = (),
    sandbox: bool = True,
) -> dict[str, Any]:
    """Grade one submission; the random inputs are fresh.

    Args:
        notebook: the file as it was handed in.
        assignment: what is asked.
        limits: what the submission may use.
        hidden: folders that it must not see.
        sandbox: False runs it with your own rights.

    Returns:
        A dict that JSON can hold: `points`, `of`, `message`, `parts`, `cells`, `errors`,
        `seconds`, `peak` (MB), `output`, `sha256`.
    """
    rng = random.SystemRandom()
    trials = {
        part.number: [
            part.exercise.inputs(random.Random(rng.getrandbits(64))) for _ in range(checks.ROUNDS)
        ]
        for part in assignment.parts
    }
    asked = [
        {"number": p.number, "function": p.function, "trials": list(map(encode, trials[p.number]))}
        for p in assignment.parts
    ]
    ran = run(notebook, asked, limits, hidden=hidden, sandbox=sandbox)
    unreadable = next((str(x["unreadable"]) for x in ran.lines if "unreadable" in x), "")
    stopped = unreadable or ran.stopped
    parts = [_part(part, trials[part.number], ran, stopped) for part in assignment.parts]
    return {
        "sha256": hashlib.sha256(notebook).hexdigest(),
        "points": sum(part["points"] for part in parts),
        "of": assignment.points,
        "message": plain(stopped),
        "parts": parts,
        "cells": next((x["cells"] for x in ran.lines if type(x.get("cells")) is int), 0),
        "errors": _errors(ran),
        "seconds": ran.seconds,
        "peak": ran.peak,
        "output": plain(ran.output[:2000], lines=True),
    }


def _part(part: Part, trials: list[tuple], ran: Run, stopped: str) -> dict[str, Any]:
    """Status, points and message of one part."""
    answers = _answers(part.number, ran)
    missing = any(x.get("part") == part.number and x.get("missing") is True for x in ran.lines)
    status, message = "wrong", ""
    if any(isinstance(answer, NotImplementedError) for answer in answers.values()):
        status, message = "open", "not answered: the stub still stands."
    elif missing:
        status, message = "missing", f"no function {part.function!r} is left after the last cell."
    elif late := [a for a in answers.values() if type(a).__name__ == "OutOfTime"]:
        message = f"a call was {late[0]}: is there a loop that never ends?"
    elif len(answers) < len(trials):
        status, message = "not run", stopped or "its function was not called."
    else:
        status, message = _compare(part, trials, answers)
    points: float = part.points if status == "passed" else 0
    if part.exercise.rubric and status == "wrong" and len(answers) == len(trials):
        points = min(_share(part, answer) for answer in answers.values())
        status = "in part" if points else status
    written = next((a[0] for a in answers.values() if part.read and _is_text(a)), "")
    return {
        "number": part.number, "title": part.exercise.title, "status": status,
        "points": points, "of": part.points,
        "message": plain(message), "read": part.read,
        "text": plain(textwrap.dedent(written), lines=True, most=20_000).strip(),
    }  # fmt: skip


def _share(part: Part, answer: Any) -> float:
    """The points of a text, in halves: its share for each of the facts that are found."""
    rubric = part.exercise.rubric
    assert rubric
    points = round(2 * part.points * rubric.found(answer) / len(rubric.facts)) / 2
    return int(points) if points.is_integer() else points


def _is_text(answer: Any) -> bool:
    """Whether this is an answer in words: a text and the figures that it speaks of."""
    return isinstance(answer, tuple | list) and len(answer) == 2 and isinstance(answer[0], str)


def _compare(part: Part, trials: list[tuple], answers: dict[int, Any]) -> tuple[str, str]:
    """Compare each answer with the reference's, and name the misconception of a wrong one."""
    task = part.exercise
    done = [
        (arguments, checks._outcome(task.reference, arguments), answers[number])
        for number, arguments in enumerate(trials)
    ]
    if all(checks._same(task, got, expected) for _, expected, got in done):
        return "passed", task.passed
    other = next((got for _, _, got in done if isinstance(got, Other)), None)
    if other is not None:
        return "wrong", f"it returns a {other.kind}; numbers, texts, tensors or lists can be read."
    return "wrong", checks._diagnose(task, done)


def _answers(number: str, ran: Run) -> dict[int, Any]:
    """The answers of one part: number of the trial -> value or error. The first report counts."""
    found: dict[int, Any] = {}
    for line in ran.lines:
        trial = line.get("trial")
        if line.get("part") != number or type(trial) is not int or trial in found:
            continue
        try:
            found[trial] = decode(line["value"]) if "value" in line else _error(line.get("error"))
        except Exception:  # forged, or broken off: of no value
            found[trial] = Other("value that can't be read")
    return found


def _error(told: Any) -> BaseException:
    """An error like the one reported: of Python's own types, else of one that is called so."""
    kind, message = map(str, told)
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        known = type(kind[:60], (Exception,), {})
    try:
        return known(message)
    except TypeError:  # UnicodeDecodeError wants five arguments
        return Exception(f"{kind}: {message}")


def _errors(ran: Run) -> list[dict[str, Any]]:
    """Which cells stopped with an error, at most 20."""
    found = []
    for line in ran.lines:
        error = line.get("error")
        if type(line.get("cell")) is int and isinstance(error, list) and len(error) == 2:
            text = plain(f"{error[0]}: {error[1]}")
            source = plain(str(line.get("source", ""))[:60])
            found.append({"cell": line["cell"], "error": text, "source": source})
    return found[:20]


def plain(text: str, *, lines: bool = False, most: int = 2000) -> str:
    """A student's text without control characters, and on one line unless `lines`.

    >>> plain("red \x1b[31m" + "alert")
    'red [31malert'
    """
    text = text if lines else " ".join(text.split())
    return re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", text
    )[:most]
