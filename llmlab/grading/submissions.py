"""Which files were handed in, and by whom. Nothing of them is opened here."""

import hashlib
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from llmlab.errors import LabError
from llmlab.grading.assignment import Assignment


@dataclass(frozen=True)
class Submission:
    """One row of the table.

    Attributes:
        student: who handed it in, from the name of the folder or file; printable.
        path: the notebook, or the folder that holds none.
        file: its path below the submissions folder; printable.
        key: a name for its result file that no other submission has.
        fault: why it can't be graded, or "".
        note: what the instructor should know; it is graded all the same.
    """

    student: str
    path: Path
    file: str
    key: str
    fault: str = ""
    note: str = ""


def find(folder: Path, assignment: Assignment, most: int = 20_000_000) -> list[Submission]:
    """The submissions in a folder, sorted by student.

    Two layouts work, also mixed: a file a student (`ada.ipynb`), or a folder a student with a
    notebook anywhere in it (`ada/hw4/hw4_build_attention.ipynb`, as nbgrader collects them).

    Args:
        folder: where they lie.
        assignment: whose notebook is looked for where a student's folder holds several.
        most: bytes; larger files are not opened.

    Raises:
        LabError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise LabError(f"{str(folder)!r} is no folder. Name the one that holds the submissions.")
    found = []
    for entry in sorted(folder.iterdir(), key=lambda p: os.fsencode(p.name)):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            found += _of_student(folder, entry, assignment, most)
        elif entry.name.lower().endswith(".ipynb"):
            found.append(_one(folder, entry, _student(entry.stem, assignment), most))
    if not found:
        raise LabError(
            f"No submissions in {str(folder)!r}: it should hold a notebook (.ipynb) or a folder "
            "for each student."
        )
    count = Counter(submission.student for submission in found)
    return [_twice(s) if count[s.student] > 1 else s for s in found]


def _of_student(root: Path, folder: Path, assignment: Assignment, most: int) -> list[Submission]:
    """The notebooks in a student's folder: the one of the right name, else all that there are."""
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += [Path(place, n) for n in sorted(names) if n.lower().endswith(".ipynb")]
    right = [f for f in files if f.name == assignment.notebook]
    student = _printable(folder.name)
    if not files:
        return [Submission(student, folder, _name(root, folder), _key(root, folder),
                           fault="there is no notebook (.ipynb) in this folder")]  # fmt: skip
    note = "" if right else f"the file should be called {assignment.notebook}"
    return [_one(root, file, student, most, note) for file in right or files]


def _one(root: Path, path: Path, student: str, most: int, note: str = "") -> Submission:
    """A file as a submission, with the reason why it can't be opened, if there is one."""
    status = path.lstat()
    fault = ""
    if stat.S_ISLNK(status.st_mode):
        fault = "this is a link to another file; hand in the notebook itself"
    elif not stat.S_ISREG(status.st_mode):
        fault = "this is no ordinary file"
    elif status.st_size > most:
        fault = (
            f"the file has {status.st_size / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB are allowed: "
            "clear all outputs, save, and hand it in again"
        )
    return Submission(student, path, _name(root, path), _key(root, path), fault, note)


def _twice(submission: Submission) -> Submission:
    note = "this student id stands at more than one submission: a person has to choose"
    note = "; ".join(filter(None, [submission.note, note]))
    return Submission(**{**vars(submission), "note": note})


def _student(stem: str, assignment: Assignment) -> str:
    """The student's id from a file's name: `ada_hw4_build_attention` and `ada-hw4` are Ada's.

    An exact copy that a browser or an LMS numbers, `ada (1)`, is Ada's too.
    """
    stem = re.sub(r"\s*\(\d+\)$", "", _printable(stem))
    long, short = map(re.escape, (Path(assignment.notebook).stem, assignment.name))
    return re.sub(rf"[\s_.-]+(?:{long}|{short})$", "", stem) or stem


def _printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 are written out, control characters too."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f]", "?", text)


def _name(root: Path, path: Path) -> str:
    return _printable(path.relative_to(root).as_posix())


def _key(root: Path, path: Path) -> str:
    """A file name that is safe everywhere, readable, and another one for every path."""
    name = path.relative_to(root).as_posix()
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    return re.sub(r"[^\w.-]+", "_", _printable(name), flags=re.ASCII)[:60] + "-" + digest
