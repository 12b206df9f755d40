"""The homework's students' versions and answer keys, made from the solved notebooks.

    python -m tests.tools.homework [--check]

`notebooks/homework/source/hw4/….ipynb` is the solved notebook, with nbgrader's cell metadata and
`### BEGIN SOLUTION` … `### END SOLUTION` in it. From it come, with nbgrader's own preprocessors,
`release/hw4/….ipynb`, without solutions, hidden tests and outputs
(`python -m tests.tools.notebooks execute FILES` stores those), and `answer_key/hw4/….ipynb` at the
top of the repository, to read and to mark by: it is not committed, so that no student meets it.
nbgrader needs no torch: `make homework` keeps it in an environment of its own.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HOMEWORK = Path(__file__).resolve().parents[2] / "notebooks" / "homework"
KEYS = HOMEWORK.parents[1] / "answer_key"
STUB = "raise NotImplementedError"


def released(source: NotebookNode) -> NotebookNode:
    """The student's version of a solved notebook, as `nbgrader generate_assignment` makes it."""
    from nbgrader import preprocessors
    from traitlets.config import Config

    config = Config()
    config.ClearSolutions.code_stub = {"python": STUB}
    config.ClearSolutions.text_stub = "…"
    # nbgrader's own order, without what writes into its database
    steps = ["DeduplicateIds", "LockCells", "ClearSolutions", "ClearOutput", "CheckCellMetadata",
             "ComputeChecksums", "ClearHiddenTests", "ClearMarkScheme", "ComputeChecksums",
             "CheckCellMetadata"]  # fmt: skip
    notebook, resources = nbformat.from_dict(source), {}
    for step in steps:
        notebook, resources = getattr(preprocessors, step)(config=config).preprocess(
            notebook, resources
        )
    return notebook


def key(source: NotebookNode) -> NotebookNode:
    """The answer key: the solved notebook with its outputs, without nbgrader's marks."""
    notebook = nbformat.from_dict(source)
    for cell in notebook.cells:
        cell.source = re.sub(r"^ *### (BEGIN|END) .*\n?", "", cell.source, flags=re.M).rstrip("\n")
        cell.metadata.pop("nbgrader", None)
    title, line, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title} · answer key{line}{rest}"
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Make all releases and answer keys; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    given = parser.parse_args(arguments)
    changed = 0
    for path in sorted(HOMEWORK.glob("source/*/*.ipynb")):
        target = HOMEWORK / "release" / path.relative_to(HOMEWORK / "source")
        solved = nbformat.read(path, as_version=4)
        if not given.check:
            answers = KEYS / path.relative_to(HOMEWORK / "source")
            answers.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(key(solved), answers)
        new = released(solved)
        if target.exists() and essence(nbformat.read(target, as_version=4)) == essence(new):
            continue
        changed += 1
        print(f"{target.relative_to(HOMEWORK)}: {'is not up to date' if given.check else 'made'}")
        if not given.check:
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(new, target)
    return int(given.check and changed > 0)


def essence(notebook: NotebookNode) -> list[tuple]:
    """What the source decides of a release: all but the outputs."""
    return [
        (cell.cell_type, cell.source, dict(cell.metadata.get("nbgrader", {})))
        for cell in notebook.cells
    ]


if __name__ == "__main__":
    sys.exit(main())
