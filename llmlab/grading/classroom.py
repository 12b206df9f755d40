"""A whole class: every submission once, in any order, on any executor, and again where missing."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pandas

from llmlab.errors import LabError
from llmlab.grading import pages
from llmlab.grading.assignment import Assignment
from llmlab.grading.assignment import find as find_assignment
from llmlab.grading.sandbox import Limits, probe
from llmlab.grading.score import grade_one
from llmlab.grading.submissions import Submission
from llmlab.grading.submissions import find as find_submissions


def grade(
    folder: str | Path,
    assignment: str | Assignment,
    executor: Executor | None = None,
    *,
    out: str | Path | None = None,
    limits: Limits = Limits(),  # noqa: B008
    again: bool = False,
    sandbox: bool = True,
    ahead: int = 4,
    done: Callable[[dict[str, Any]], None] | None = None,
) -> pandas.DataFrame:
    """Grade all submissions in a folder.

    Each is executed in a sandbox of its own (`llmlab.grading.sandbox`), and its points are counted
    outside of it. A finished submission's result is a file in `out/results`; whoever is stopped and
    starts again grades only what is missing or was changed. At the end `out` holds the table
    (table.csv, table.html), a page a student (feedback/) and the exports. Where a person gives
    points for texts, it also holds read.csv, with a line a text: points that were written into it
    are counted at the next call and never overwritten.

    Args:
        folder: a file or a folder a student; see `llmlab.grading.submissions.find`.
        assignment: such as "hw4".
        executor: where it runs: any of `concurrent.futures`, or a Dask cluster's
            `Client.get_executor()`. Left out, one after the other on this machine.
        out: where the results go; left out, beside `folder`.
        limits: what one submission may use.
        again: grade everything anew.
        sandbox: False lets submissions run with your own rights.
        ahead: how many submissions are handed to the executor at a time.
        done: called with each new result, as it comes.

    Returns:
        The table, a row a submission.

    Raises:
        LabError: no such homework, no submissions, no sandbox can be made here, or points in
            read.csv that are no points.
    """
    folder = Path(folder)
    task = find_assignment(assignment) if isinstance(assignment, str) else assignment
    found = find_submissions(folder, task, limits.file)
    if executor is None:
        with ThreadPoolExecutor(1) as one:
            return grade(
                folder, task, one, out=out, limits=limits, again=again, sandbox=sandbox,
                ahead=1, done=done,
            )  # fmt: skip
    if sandbox:
        probe()
    place = (
        Path(out)
        if out is not None
        else folder.absolute().with_name(f"{folder.absolute().name}-grades")
    )
    if place.resolve().is_relative_to(folder.resolve()):
        raise LabError(f"Put the results outside of the submissions: {str(place)!r} lies in them.")
    try:
        (place / "results").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"The results can't be written to {str(place)!r}: {error}.") from None
    pages.given(place, task)  # what is wrong there is said before an hour is spent
    hidden = (folder.absolute(), place.absolute())
    results: dict[str, dict] = {}
    running: dict[Future, Submission] = {}

    def collect(finished: set[Future]) -> None:
        for future in finished:
            submission = running.pop(future)
            try:
                graded = future.result()
            except Exception as error:  # ours, or a worker's: the next run tries it again
                fault = f"not graded yet, start again ({type(error).__name__}: {error})"
                results[submission.key] = _who(submission) | unopened(task, fault)
            else:
                results[submission.key] = _keep(place, submission, graded, task)
            if done:
                done(results[submission.key])

    try:
        for submission in found:
            if submission.fault:
                graded = unopened(task, submission.fault)
                results[submission.key] = _keep(place, submission, graded, task)
                continue
            try:
                content = submission.path.read_bytes()
            except OSError as error:
                graded = unopened(task, f"the file can't be opened: {error.strerror}")
                results[submission.key] = _who(submission) | graded
                continue
            before = None if again else kept(place, submission, content, task)
            if before is not None:
                results[submission.key] = before | _who(submission)
                continue
            while len(running) >= ahead:
                collect(wait(running, return_when=FIRST_COMPLETED).done)
            future = executor.submit(
                grade_one, content, task, limits, hidden=hidden, sandbox=sandbox
            )
            running[future] = submission
        while running:
            collect(wait(running, return_when=FIRST_COMPLETED).done)
    finally:
        for future in running:
            future.cancel()
    rows = [results[submission.key] for submission in found]
    return pages.write(place, task, rows)


def unopened(task: Assignment, fault: str) -> dict[str, Any]:
    """The result of a submission that was not run."""
    parts = [
        {"number": p.number, "title": p.exercise.title, "status": "not run", "points": 0,
         "of": p.points, "message": fault, "read": p.read, "text": ""}
        for p in task.parts
    ]  # fmt: skip
    return {
        "sha256": "", "points": 0, "of": task.points, "message": fault, "parts": parts,
        "cells": 0, "errors": [], "seconds": 0.0, "peak": 0.0, "output": "",
    }  # fmt: skip


def kept(place: Path, submission: Submission, content: bytes, task: Assignment) -> dict | None:
    """The result of an earlier run for exactly this file and these parts, or None."""
    try:
        result = json.loads(_file(place, submission).read_text("utf-8"))
        same = result["sha256"] == hashlib.sha256(content).hexdigest()
        parts = [(part["number"], part["of"]) for part in result["parts"]]
        asked = [(part.number, part.points) for part in task.parts]
        return result if same and parts == asked and result["assignment"] == task.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(place: Path, submission: Submission, graded: dict, task: Assignment) -> dict[str, Any]:
    """Write a result, whole or not at all."""
    result = {"assignment": task.name} | _who(submission) | graded
    target = _file(place, submission)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(target)
    return result


def _file(place: Path, submission: Submission) -> Path:
    return place / "results" / f"{submission.key}.json"


def _who(submission: Submission) -> dict[str, str]:
    names = ("student", "file", "key", "note")
    return {name: getattr(submission, name) for name in names}
