"""The homework's notebooks: the solved one, and the students' version that is made from it."""

import re
import subprocess
import sys

import pytest

import llmlab
from llmlab import checks
from llmlab.checks import progress as progress_module
from llmlab.grading.assignment import find
from tests import test_notebooks as rules
from tests.tools import homework, notebooks
from tests.tools.notebooks import code_cells, normal, read

NAMES = sorted(path.name for path in (homework.HOMEWORK / "source").iterdir())
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION$", re.M | re.S)
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n.*?^### END HIDDEN TESTS$\n?", re.M | re.S)
BOTH = [
    next(homework.HOMEWORK.glob(f"{kind}/{name}/*.ipynb"))
    for name in NAMES
    for kind in ("source", "release")
]
both = pytest.mark.parametrize("path", BOTH, ids=lambda p: f"{p.parts[-3]} {p.stem}")
each = pytest.mark.parametrize("name", NAMES)


def pair(name):
    """The solved notebook and the student's."""
    return [
        read(next(homework.HOMEWORK.glob(f"{kind}/{name}/*.ipynb")))
        for kind in ("source", "release")
    ]


def solutions(nb):
    """The lines of all solutions that say something."""
    found = [line.strip() for c in code_cells(nb) for m in SOLUTION.finditer(c.source)
             for line in m[2].splitlines()]  # fmt: skip
    return [line for line in found if len(line) > 8]


# ---- one source, three products ------------------------------------------------------------------


@each
def test_the_release_is_the_source_without_its_solutions(name):
    """Cell for cell, worked out here without nbgrader."""
    source, release = pair(name)
    assert len(source.cells) == len(release.cells)
    for solved, given in zip(source.cells, release.cells, strict=True):
        expected = SOLUTION.sub(rf"\1{homework.STUB}", HIDDEN.sub("", solved.source)).rstrip("\n")
        assert given.source.rstrip("\n") == expected
        assert (solved.cell_type, solved.id) == (given.cell_type, given.id)
        before, after = (dict(c.metadata.get("nbgrader", {})) for c in (solved, given))
        assert before.keys() <= after.keys()
        assert all(after[key] == before[key] for key in before)
        if after.get("grade"):
            assert after["checksum"], "ComputeChecksums"
            # what is graded is locked, but for the text that a person reads
            assert after["locked"] is not after["solution"], "LockCells"


@each
def test_the_release_holds_no_solution(name):
    source, release = pair(name)
    text = notebooks.normal(release)
    found = solutions(source)
    assert len(found) >= len(find(name).parts)
    for line in found:
        assert line not in text and line.replace('"', '\\"') not in text
    assert "SOLUTION" not in text and "HIDDEN" not in text and "answer key" not in text


@each
def test_the_answer_key_is_the_solved_notebook(name):
    """Line for line, with its outputs, without the marks; and git does not take it up."""
    source, _ = pair(name)
    key = homework.key(source)
    assert key.cells[0].source.splitlines()[0].endswith("· answer key")
    for solved, answer in zip(source.cells[1:], key.cells[1:], strict=True):
        lines = [line for line in solved.source.splitlines() if line.strip()[:4] != "### "]
        assert answer.source.splitlines() == [
            line for line in lines if "BEGIN" not in line and "END" not in line
        ]
        assert answer.get("outputs") == solved.get("outputs")
        assert "nbgrader" not in answer.metadata
    assert "/answer_key/" in (homework.KEYS.parent / ".gitignore").read_text("utf-8")


@each
def test_every_part_has_its_stub_its_solution_and_its_points(name):
    source, release = pair(name)
    stubs = [c.source for c in code_cells(release) if homework.STUB in c.source]
    for part in find(name).parts:
        (stub,) = [s for s in stubs if f"def {part.function}(" in s]
        assert f'llmlab.check("{part.number}", {part.function})' in stub
        (solved,) = [c.source for c in code_cells(source) if f"def {part.function}(" in c.source]
        assert SOLUTION.search(solved)
        graded = [
            (c.metadata.nbgrader["solution"], c.metadata.nbgrader["points"])
            for c in code_cells(source)
            if c.metadata.get("nbgrader", {}).get("grade") and part.number in c.source
        ]
        # first the text itself, whose points a person gives
        assert graded == [(True, part.read)] * (part.read > 0) + [(False, part.points)]
        told = "\n".join(c.source for c in release.cells if c.cell_type == "markdown")
        number = part.number.rpartition(".")[2]
        points = rf"{part.points} \+ {part.read}" if part.read else f"{part.points}"
        assert re.search(rf"^\| {number} \|.*\| {points} \|$", told, re.M)
        assert re.search(rf"^## Part {number} ★.*\d+ minutes\)", told, re.M)
        assert bool(part.read) == (part.exercise.rubric is not None)
        if part.exercise.rubric:
            assert part.exercise.rubric.task in told, "what is a copy, the rubric must know"
    assert len(stubs) == len(find(name).parts)
    assert f"{find(name).points + find(name).read} points" in release.cells[0].source


@pytest.mark.slow
def test_nbgrader_makes_the_same(tmp_path):
    """With nbgrader itself, in an environment of its own."""
    python = tmp_path / "nbgrader" / "bin" / "python"
    root = homework.HOMEWORK.parents[1]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "nbgrader"], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", "constraints.txt", "nbgrader"],
        check=True, cwd=root,
    )  # fmt: skip
    made = subprocess.run(
        [python, "-m", "tests.tools.homework", "--check"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr


# ---- as notebooks --------------------------------------------------------------------------------


@both
def test_the_notebook_holds_the_rules(path):
    """Those of the course's notebooks; title, set-up and parts are homework's own."""
    nb = read(path)
    other = {rules.it_begins_as_all_do, rules.exercises_are_complete}
    other |= {rules.prose_stands_between_code}  # a part's points stand below its function
    found = [f"{r.__name__}: {f}" for r in rules.RULES if r not in other for f in r(nb, path)]
    assert not found, "\n" + "\n".join(found)
    assert nb.cells[0].source.startswith(f"# {path.stem.partition('_')[0]} · ")
    assert notebooks.links(path) in nb.cells[0].source.splitlines()
    assert nb.cells[1].source == notebooks.setup_cell()
    text = "\n".join(cell.source for cell in nb.cells)
    for words in ("minutes", "How it is graded", "Honesty", "points", "Warm-up", "Hint</summary>"):
        assert words in text
    assert notebooks.share(nb) >= 0.9


@both
def test_the_notebook_is_in_normal_form(path):
    assert path.read_text("utf-8") == normal(read(path)), "run `make notebooks`"
    assert path.read_text("utf-8") == notebooks.badges(path), "run `make badges`"


@both
def test_the_stored_outputs_say_open_or_passed(path):
    """Run as given from top to bottom, the student's version is open in every part."""
    status = "passed" if "source" in path.parts else "open"
    name = path.parent.name
    shown = "\n".join(str(c.outputs) for c in code_cells(read(path)))
    numbers = [part.number for part in find(name).parts]
    assert re.findall(rf"({name}\.\d) (passed|open|wrong):", shown)[::1]
    for number in numbers:
        assert f"{number} {status}" in shown


def test_homework_checks_itself_where_nothing_can_be_graded():
    """On Windows there is no `resource`, on which the limits of a submission rest."""
    code = (
        "import sys, psutil; sys.modules['resource'] = None; import llmlab; "
        "print(llmlab.check('hw4.1', lambda q, k: q @ k.T).status)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "wrong\n"


# ---- progress ------------------------------------------------------------------------------------


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """As in a notebook of an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.delenv("LLMLAB_PROGRESS", raising=False)
    return tmp_path


def right(number):
    return checks.find(number).reference


def stub(*arguments):
    raise NotImplementedError


def test_progress_is_a_small_table_beside_the_notebook(noted):
    assert llmlab.progress().empty
    llmlab.check("01.1", stub)
    llmlab.check("01.2", right("01.2"))
    llmlab.check("01.2", stub)  # what was passed once stays so
    table = llmlab.progress()
    assert set(table.index.str[:2]) == {"01"}, "of the notebook that was begun"
    assert table["status"].to_dict() == {n: "open" for n in table.index} | {"01.2": "passed"}
    assert [p.name for p in noted.iterdir()] == [progress_module.NAME]
    llmlab.check("01.1", right("01.1"))
    assert llmlab.progress(noted)["status"].value_counts()["passed"] == 2


def test_progress_is_no_obstacle(noted, monkeypatch):
    """A spoilt file, a folder that can't be written, and outside of notebooks: nothing happens."""
    (noted / progress_module.NAME).write_text("{", "utf-8")
    assert llmlab.progress().empty
    assert llmlab.check("01.1", right("01.1"))
    assert llmlab.progress()["status"]["01.1"] == "passed"
    (noted / progress_module.NAME).unlink()

    def full(**options):
        raise OSError("No space left on device")

    with monkeypatch.context() as m:
        m.setattr(progress_module.tempfile, "mkstemp", full)
        assert llmlab.check("01.1", right("01.1"))
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert llmlab.check("01.1", right("01.1"))
    assert not list(noted.iterdir())
