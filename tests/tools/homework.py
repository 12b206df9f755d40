"""The homework's students' versions, made from the solved ones with nbgrader's own preprocessors.

    python -m tests.tools.homework [--check]

`notebooks/homework/source/hw4/….ipynb` is the solved notebook, with nbgrader's cell metadata and
`### BEGIN SOLUTION` … `### END SOLUTION` in it. From it comes `release/hw4/….ipynb`, without
solutions, hidden tests and outputs; `python -m tests.tools.notebooks execute FILES` stores those.
nbgrader needs no torch: `make homework` keeps it in an environment of its own.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HOMEWORK = Path(__file__).resolve().parents[2] / "notebooks" / "homework"
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


def main(arguments: list[str] | None = None) -> int:
    """Make all releases; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    given = parser.parse_args(arguments)
    changed = 0
    for path in sorted(HOMEWORK.glob("source/*/*.ipynb")):
        target = HOMEWORK / "release" / path.relative_to(HOMEWORK / "source")
        new = released(nbformat.read(path, as_version=4))
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
