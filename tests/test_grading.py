"""Grading: hostile and broken submissions are contained, and points are only had by right answers.

Most tests grade a toy homework of two parts: its functions need no torch, so a run takes half a
second. Where no sandbox works they are skipped with the sentence that says what to change.
"""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import pytest

import llmlab
from llmlab import cli
from llmlab.checks import Exercise, rubric
from llmlab.errors import LabError
from llmlab.grading import Assignment, Limits, Part, classroom, grade, grade_one, sandbox, seccomp
from llmlab.grading.child import decode, encode
from llmlab.grading.cluster import executor
from llmlab.grading.submissions import find
from tests.tools import homework

pytestmark = pytest.mark.sandbox
REPOSITORY = homework.HOMEWORK.parents[1]
LIMITS = Limits(
    seconds=20, cell_seconds=2, call_seconds=1, memory=400_000_000, disk=20_000_000,
    output=3_000_000, threads=40, file=1_000_000,
)  # fmt: skip


def double(x):
    return 2 * x


def backwards(words):
    return words[::-1]


def _words(rng):
    return ([f"w{rng.randrange(10**6)}" for _ in range(4)],)


TOY = Assignment(
    "toy",
    "toy.ipynb",
    (
        Part("toy.1", "double", 3, Exercise(
            "double a number", lambda rng: (rng.randrange(3, 10**6),), double,
            {"you add 2; asked is twice the number.": lambda x: x + 2})),
        Part("toy.2", "backwards", 2, Exercise(
            "turn a list round", _words, backwards, {"you sort it.": sorted})),
    ),
)  # fmt: skip
RIGHT = ["def double(x):\n    return 2 * x", "def backwards(words):\n    return words[::-1]"]


def notebook(*sources):
    """A notebook file of these code cells."""
    cells = [
        {"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None}
        for s in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def graded(*sources, limits=LIMITS, **options):
    return grade_one(notebook(*sources), TOY, limits, **options)


def statuses(result):
    return [part["status"] for part in result["parts"]]


# ---- points --------------------------------------------------------------------------------------


def test_right_answers_have_all_points():
    result = graded("print('hello')", *RIGHT)
    assert (result["points"], result["of"], result["message"]) == (5, 5, "")
    assert statuses(result) == ["passed", "passed"]
    assert (result["cells"], result["errors"], result["output"]) == (3, [], "hello\n")
    assert 0 < result["seconds"] < 20 and 20 < result["peak"] < 400


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("def double(x):\n    return x + 2", "wrong", "you add 2; asked is twice the number."),
        ("def double(x):\n    raise NotImplementedError", "open", "the stub still stands"),
        ("double = 7", "wrong", "TypeError: 'int' object is not callable"),
        ("def double(x):\n    print(2 * x)", "wrong", "is there a `return`"),
        ("def double(x):\n    return str(2 * x)", "wrong", "expected a value of type int"),
        ("def double(x):\n    return x / 0", "wrong", "ZeroDivisionError"),
        ("def double(x):\n    return double", "wrong", "it returns a function"),
        ("def double(x):\n    while True: pass", "wrong", "a loop that never ends"),
        ("def double(y, x):\n    return 2 * x", "wrong", "TypeError"),
        ("1", "missing", "no function 'double'"),
        ("def double(x)\n    return 2 * x", "missing", "no function 'double'"),
    ],
)
def test_a_wrong_answer_has_none_and_hears_why(source, status, message):
    result = graded(source, RIGHT[1])
    part = result["parts"][0]
    assert (part["status"], part["points"]) == (status, 0)
    assert message in part["message"]
    assert result["points"] == 2, "the other part is not touched"


def test_inputs_are_drawn_anew_each_time():
    """What one run has printed is of no use in the next."""
    spy = "def double(x):\n    print(x)\n    return 2 * x"
    first, second = (graded(spy)["output"].split() for _ in range(2))
    assert len(first) == 24 and not set(first) <= set(second)


WORDS = "Burmese <b>costs</b> most."
SAID = [f"def double(x):\n    return ({WORDS!r}, x)", RIGHT[1]]
READ_TOY = dataclasses.replace(
    TOY, parts=(dataclasses.replace(TOY.parts[0], read=4), TOY.parts[1])
)  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Ada's answer in words, graded once; start it again by calling, which grades nothing anew."""
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ada.ipynb").write_bytes(notebook(*SAID))

    def start(**options):
        return grade(tmp_path / "class", READ_TOY, out=tmp_path / "out", limits=LIMITS, **options)

    start()
    return start


def _page_of(tmp_path, student):
    return next((tmp_path / "out" / "feedback").glob(f"{student}*")).read_text("utf-8")


def _lines(tmp_path):
    with (tmp_path / "out" / "read.csv").open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _write(tmp_path, **values):
    """Fill in the first line, as a spreadsheet would."""
    lines = _lines(tmp_path)
    lines[0] |= values
    with (tmp_path / "out" / "read.csv").open("w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def test_an_answer_in_words_is_shown_to_who_reads_it(read, tmp_path):
    """Its facts are looked for by the machine; the points for reading it stay open."""
    table = read()
    assert table["toy.1 read (of 4)"].tolist() == [""] and table["to read"].tolist() == [1]
    assert (table["points"].tolist(), table["of"].tolist()) == ([2], [9])
    page = _page_of(tmp_path, "ada")
    assert "Burmese &lt;b&gt;costs&lt;/b&gt; most." in page and "up to 4 more points" in page
    assert "ada: 2 + ? of 9 points" in page and "0 + ? of 7" in page
    page = (tmp_path / "out" / "table.html").read_text("utf-8")
    assert "up to 4 more points" in page and "<b>2 + ?</b> of 9" in page
    line = _lines(tmp_path)[0]
    assert [line[n] for n in ("student", "part", "of", "points", "machine", "comment")] == [
        "ada", "toy.1", "4", "", "", ""]  # fmt: skip
    assert (tmp_path / "out" / line["page"]).exists()


def test_points_that_a_person_gives_stand_and_are_counted(read, tmp_path):
    """In the sum, the pages and the exports; grading again, also anew, leaves them alone."""
    _write(tmp_path, points="3.5", comment="Who <pays>?")
    before, ran = (tmp_path / "out" / "read.csv").read_bytes(), []
    table = read(done=ran.append)
    assert not ran, "nothing is graded anew"
    read(again=True)
    assert (tmp_path / "out" / "read.csv").read_bytes() == before
    row = table.iloc[0]
    assert (row["points"], row["toy.1"], row["toy.1 read (of 4)"]) == (5.5, 3.5, 3.5)
    assert row["to read"] == 0
    page = _page_of(tmp_path, "ada")
    assert "ada: 5.5 of 9 points" in page and "read by a person: 3.5 of 4 points" in page
    assert "Who &lt;pays&gt;?" in page
    assert "<b>5.5</b> of 9" in (tmp_path / "out" / "table.html").read_text("utf-8")
    exports = tmp_path / "out" / "exports"
    assert "ada,5.5" in (exports / "grades_lms.csv").read_text("utf-8")
    assert "toy,ada,5.5,0,5.5,9" in (exports / "grades_nbgrader.csv").read_text("utf-8")
    scope = json.loads(next(exports.glob("gradescope/*/*.json")).read_text("utf-8"))
    assert scope["score"] == 5.5
    assert [(t["score"], t["max_score"]) for t in scope["tests"]] == [(3.5, 7), (2, 2)]


def test_a_person_may_overrule_the_machine(read, tmp_path):
    _write(tmp_path, points="4", machine="3")
    table = read()
    assert (table["points"].tolist(), table["toy.1"].tolist()) == ([9], [7])
    page = _page_of(tmp_path, "ada")
    assert "✓ passed" in page and "a person counts 3 in place of 0" in page


def test_a_new_text_is_a_new_line(read, tmp_path):
    """Also in the form that a spreadsheet has saved; points for another text are not taken over."""
    _write(tmp_path, points="2,5")
    path = tmp_path / "out" / "read.csv"
    lines = path.read_text("utf-8").replace(",", ";").replace('"2;5"', "2,5").rstrip("\n")
    path.write_text(lines.replace("\n", "\r\n"), "utf-8-sig", newline="")
    before = path.read_bytes()
    assert read()["points"].tolist() == [4.5]
    assert path.read_bytes() == before
    (tmp_path / "class" / "ben.ipynb").write_bytes(notebook(*SAID))
    (tmp_path / "class" / "cleo.ipynb").write_bytes(notebook(*RIGHT))
    table = read().set_index("student")
    assert (table["points"].to_dict()) == {"ada": 4.5, "ben": 2, "cleo": 5}
    assert table["to read"].to_dict() == {"ada": 0, "ben": 1, "cleo": 0}
    after = path.read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 4
    assert b"cleo;toy.1;4;0;;no text was found;" in after
    (tmp_path / "class" / "ada.ipynb").write_bytes(notebook(SAID[0].replace("most", "more")))
    assert read()["to read"].tolist() == [1, 1, 0]
    assert path.read_bytes().startswith(after)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"points": "5"}, r"line 2 of '.*read\.csv', points: '5' is no number from 0 to 4"),
        ({"points": "-1"}, "'-1' is no number"),
        ({"points": "good"}, "'good' is no number"),
        ({"points": "nan"}, "'nan' is no number"),
        ({"machine": "4"}, "machine: '4' is no number from 0 to 3"),
    ],
)
def test_points_that_are_none_are_refused_in_a_sentence(read, tmp_path, values, words):
    _write(tmp_path, **values)
    with pytest.raises(LabError, match=words):
        read()


def test_a_table_without_its_first_line_is_refused(read, tmp_path):
    (tmp_path / "out" / "read.csv").write_text("ada,toy.1,4,3\n", "utf-8")
    with pytest.raises(LabError, match="has no column 'student'"):
        read()
    (tmp_path / "out" / "read.csv").write_text("é", "latin-1")
    with pytest.raises(LabError, match="save it as CSV, UTF-8"):
        read()


FACTS = tuple(
    rubric.mentions(name, missing=f"what of {name}?") for name in ("ants", "bees", "cats", "dogs")
)
TEXTS = Assignment("texts", "texts.ipynb", (
    Part("texts.1", "told", 3, rubric.exercise("tell it", rubric.Rubric(
        "task", FACTS, lambda measured: "" if measured == 1 else "other figures.", least=20)),
        read=2),
))  # fmt: skip


@pytest.mark.parametrize(
    ("named", "figures", "status", "points"),
    [
        (["ants", "bees", "cats", "dogs"], 1, "passed", 3),
        (["ants", "bees", "cats"], 1, "in part", 2),
        (["bees"], 1, "in part", 1),
        (["ants", "cats"], 1, "in part", 1.5),
        ([], 1, "wrong", 0),
        (["ants", "bees", "cats"], 2, "wrong", 0),
    ],
)
def test_a_text_has_its_share_for_each_fact(named, figures, status, points):
    """Fewer facts, fewer points; none where the figures are not those of the notebook."""
    sentences = [f"Today we have seen many {name} in the garden." for name in named]
    sentences += [f"Number {n} of what {n} people saw is no animal." for n in "efgh"]
    source = f"def told():\n    return ({' '.join(sentences)!r}, {figures})"
    part = grade_one(notebook(source), TEXTS, LIMITS)["parts"][0]
    assert (part["status"], part["points"]) == (status, points), part["message"]


def test_the_table_tells_which_parts_are_wrong(tmp_path):
    (tmp_path / "class").mkdir()
    for name, source in {"ada": "def double(x): return x", "ben": "1", "cleo": RIGHT[0]}.items():
        (tmp_path / "class" / f"{name}.ipynb").write_bytes(notebook(source, RIGHT[1]))
    grade(tmp_path / "class", TOY, out=tmp_path / "out", limits=LIMITS)
    page = (tmp_path / "out" / "table.html").read_text("utf-8")
    assert "<td>wrong: toy.1</td>" in page and "<td>missing: toy.1</td>" in page
    assert page.count("toy.1</td>") == 2
    assert not (tmp_path / "out" / "read.csv").exists(), "no text is asked"


def test_the_command_says_what_is_to_be_read(read, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classroom, "find_assignment", lambda name: READ_TOY)
    arguments = [str(tmp_path / "class"), "--assignment", "toy", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["llmlab", "grade", *arguments])
    for points, words in (("", "1 text is still to be read"), ("2", "1 submissions")):
        _write(tmp_path, points=points)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr().out
        assert stopped.value.code == 0 and words in said
        assert (str(tmp_path / "out" / "read.csv") in said) == (points == "")


def test_cells_after_an_error_still_run():
    result = graded("1 / 0", RIGHT[0], "undefined", RIGHT[1])
    assert result["points"] == 5
    assert [error["cell"] for error in result["errors"]] == [1, 3]
    assert result["errors"][0]["error"] == "ZeroDivisionError: division by zero"
    assert result["errors"][0]["source"] == "1 / 0"


# ---- hostile -------------------------------------------------------------------------------------

SWALLOW = """
def spin():
    while True: pass
while True:
    try: spin()
    except BaseException: pass
"""
FORGE = """
import json, os
for fd in range(3, 30):
    try:
        for part in ("toy.1", "toy.2"):
            for trial in range(24):
                line = {"part": part, "trial": trial, "value": True, "points": 5, "passed": True}
                os.write(fd, (json.dumps(line) + "\\n").encode())
        os.write(fd, b'{"done": true}\\n{"points": 5}\\n[1]\\nnonsense\\n' + b"[" * 5000 + b"\\n")
    except OSError: pass
print("all passed: 5 of 5 points")
os._exit(0)
"""
PATCH = """
import builtins, json, sys, types
class Yes:
    def __eq__(self, other): return True
    def __bool__(self): return True
    def __len__(self): return 4
    def __getitem__(self, i): return self
    def __float__(self): return 0.0
def double(x): return Yes()
def backwards(words): return Yes()
builtins.all = lambda *a: True
json.JSONEncoder.default = lambda self, value: 0
try:
    import llmlab.checks
    llmlab.checks.agree = llmlab.checks._same = lambda *a: True
    llmlab.checks.check = lambda *a: True
except Exception as error: print(error)
"""


# Each function is called, should one of them be let through: Python's own, the C library's, and
# the kernel's. What is made ends at once, so that even uncontained there are 300 at most.
FORKS = """
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": (57, 58, 56), "aarch64": (220,)}[os.uname().machine]
calls = {"os": os.fork, "fork": c.fork, "clone3": lambda: c.syscall(435, 0, 0)}
for number in numbers:
    calls[number] = lambda number=number: c.syscall(number, 17, 0, 0, 0, 0)
for name, call in calls.items():
    for _ in range(60):
        try: made = call()
        except OSError: made = -1
        if made == 0: os._exit(0)
        if made > 0: print("made a process with", name)
print("processes", sorted(p for p in os.listdir("/proc") if p.isdigit()))
for pid in ("1", "self"):  # bubblewrap's own, which could be traced, and this one
    print([l.split() for l in open(f"/proc/{pid}/status") if l.startswith("Seccomp:")])
"""
CONTAINED = "processes ['1', '2']\n[['Seccomp:', '2']]\n[['Seccomp:', '2']]\n"
BOMB = """
import ctypes
while True: ctypes.CDLL(None).fork()
"""
THREADS = """
import threading, time
threading.stack_size(32768)
while True:
    try: threading.Thread(target=time.sleep, args=(100,)).start()
    except BaseException: pass
"""
# Memory outside of the limit on data: a stack that grows. What no process holds is refused.
STACK = """
import mmap
m = mmap.mmap(-1, 2 * 10**9, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)
for i in range(0, len(m), 4096): m[i] = 1
"""
NOBODYS = """
import ctypes, mmap, os
tries = [lambda: os.memfd_create("x"), lambda: mmap.mmap(-1, 10**6), lambda: open("/dev/zero")]
tries.append(lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else 1 / 0)
for number, attempt in enumerate(tries):
    try: attempt(); print("had", number)
    except (OSError, ZeroDivisionError): pass
c = ctypes.CDLL(None)
if c.shmget(0, 10**6, 0o1600) >= 0 or c.unshare(0x10000000) == 0: print("had")
"""
PROGRAMS = """
!echo started
import subprocess; subprocess.run(["echo", "started"])
"""
HOSTILE = {  # name: its cell, and words of the message about the whole run
    "swallows": (SWALLOW, "still at work after 10 s"),
    "exits": ("import os\nos._exit(0)", "ended itself in code cell 1"),
    "crashes": ("import os\nos.kill(os.getpid(), 11)", "SIGSEGV"),
    "leaves": ("import sys\nsys.exit(0)", ""),
    "forks": (FORKS, ""),
    "threads": (THREADS, "stopped: it "),  # by their number, or by memory where that is bounded
    "stack": (STACK, "more than 400 MB of memory"),
    "nobodys": (NOBODYS, ""),
    "prints": ("while True: print('x' * 100_000)", "more than 3 MB of output"),
    "forges": (FORGE, ""),  # it says itself that it is done
    "patches": (PATCH, ""),
    "programs": (PROGRAMS, ""),
    "32-bit": ("import ctypes\nctypes.CDLL(None).syscall(39 | 0x40000000)", "SIGSYS"),
}


def hostile_class(folder, sources, limits):
    """Grade hostile submissions, each with an honest one behind it.

    Returns the results by student, and the most processes that there were at a time.
    """
    class_ = folder / "class"
    class_.mkdir()
    for name, source in sources.items():
        (class_ / f"{name}.ipynb").write_bytes(notebook(source))
        (class_ / f"{name}-honest.ipynb").write_bytes(notebook(*RIGHT))
    most, results = 0, {}
    before = set(psutil.Process().children(recursive=True))
    with ThreadPoolExecutor(3) as pool:
        work = pool.submit(
            grade, class_, TOY, pool, out=folder / "out", limits=limits, ahead=2,
            done=lambda result: results.update({result["student"]: result}),
        )  # fmt: skip
        while not work.done():
            most = max(most, len(set(psutil.Process().children(recursive=True)) - before))
            time.sleep(0.02)
    table = work.result()
    assert sorted(table["student"]) == sorted(results) and len(results) == 2 * len(sources)
    assert set(psutil.Process().children(recursive=True)) <= before, "all are gone"
    return results, most


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    limits = dataclasses.replace(LIMITS, seconds=10)
    sources = {name: source for name, (source, _) in HOSTILE.items()}
    return hostile_class(tmp_path_factory.mktemp("hostile"), sources, limits)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_submission_ends_without_points(hostile, name):
    """That one is marked and explained, and the one behind it has its points."""
    results, _ = hostile
    result, honest = results[name], results[f"{name}-honest"]
    assert result["points"] == 0 and HOSTILE[name][1] in result["message"]
    assert bool(HOSTILE[name][1]) == bool(result["message"])
    assert (honest["points"], honest["message"]) == (5, "")


def test_no_process_is_made(hostile):
    """A submission is one process, beside bubblewrap's two, whatever it calls."""
    results, most = hostile
    assert results["forks"]["output"] == CONTAINED
    assert 1 <= most <= 2 * 3, "two submissions at a time"
    assert results["nobodys"]["output"] == ""
    refused = results["programs"]["errors"][0]["error"]
    assert "a submission can not start other programs" in refused
    assert "started" not in results["programs"]["output"]


def test_an_endless_fork_bomb_makes_no_process(hostile, tmp_path):
    """Only after the one that ends by itself was refused."""
    assert hostile[0]["forks"]["output"] == CONTAINED
    limits = dataclasses.replace(LIMITS, seconds=4)
    results, most = hostile_class(tmp_path, {"bomb": BOMB}, limits)
    assert results["bomb"]["points"] == 0 and results["bomb-honest"]["points"] == 5
    assert "OutOfTime" in results["bomb"]["errors"][0]["error"]
    assert most <= 2 * 3


def test_the_filter_knows_its_processors():
    """The same program in the kernel's form; none for a processor whose calls are not known."""
    for machine in ("x86_64", "aarch64"):
        steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
        assert steps[0] == (0x20, 0, 0, 4), "first it looks at the processor"
        assert steps[-1][0] == 0x06 and 30 < len(steps) < 60
        for at, (code, yes, no, _) in enumerate(steps):
            jumps = code in (0x15, 0x35, 0x45)
            assert at + 1 + max(yes, no) * jumps < len(steps) or not jumps
    assert seccomp.program("riscv64") == b""


def test_an_honest_part_survives_an_endless_loop_and_a_memory_bomb():
    """They end in an error of their own cell."""
    loop = graded("while True: pass", *RIGHT)
    assert loop["points"] == 5 and "OutOfTime" in loop["errors"][0]["error"]
    bomb = graded("bombs = [bytearray(10**8) for _ in range(10**4)]", *RIGHT)
    assert bomb["points"] == 5 and "MemoryError" in bomb["errors"][0]["error"]


def test_parts_before_the_one_that_ends_the_process_keep_their_points():
    result = graded(RIGHT[0], "import os\ndef backwards(words):\n    os._exit(0)")
    assert statuses(result) == ["passed", "not run"]
    assert result["points"] == 3


def test_files_can_be_neither_changed_nor_read(tmp_path):
    """Not the lab, not the references, not the answer key, not the others' work, not the home."""
    other = tmp_path / "ada.ipynb"
    other.write_text("Ada's work", "utf-8")
    lab = Path(llmlab.__file__).parent
    key = next(homework.HOMEWORK.glob("source/*/*.ipynb"))
    wanted = [
        other, key, lab / "grading" / "score.py", lab / "checks" / "attention.py",
        lab / "grading" / "hw4.py", REPOSITORY / ".git" / "HEAD", Path("/etc/passwd"),
        Path(__file__), Path.home() / ".bashrc", Path("/home"), Path("/var"), Path("/etc/shadow"),
    ]  # fmt: skip
    attack = f"""
import os, shutil, socket
for path in {[str(p) for p in wanted]!r}:
    if os.path.exists(path): print("seen", path)
for path in {[str(lab / "weights"), str(lab / "checks"), str(tmp_path), "/usr/share/doc"]!r}:
    shutil.rmtree(path, ignore_errors=True)
for path in {[str(lab), str(tmp_path), sys.prefix, "/usr", "/", "/dev", "/grading"]!r}:
    try: open(path + "/new", "w"); print("written", path)
    except OSError: pass
for place in ("/scratch", "/tmp", "/dev/shm"):
    try:
        with open(place + "/big", "wb") as file:
            for _ in range(300): file.write(b"x" * 10**6)
        print("filled", place)
    except OSError: pass
for address in (("127.0.0.1", 22), ("1.1.1.1", 53)):
    try: socket.create_connection(address, 1); print("reached", address)
    except OSError: pass
try:
    from llmlab.checks.attention import EXERCISES; print("references")
except ImportError: pass
try:
    from llmlab.grading.hw4 import EXERCISES; print("references")
except ImportError: pass
import llmlab
assert llmlab.progress().empty and llmlab.check("hw4.1", 1).message == ""
print("environment", sorted(os.environ))
print("processes", len([p for p in os.listdir("/proc") if p.isdigit()]))
"""
    os.environ["LLMLAB_TEST_SECRET"] = "1"
    try:
        roomy = dataclasses.replace(LIMITS, cell_seconds=15)
        result = graded(attack, *RIGHT, limits=roomy, hidden=(tmp_path,))
    finally:
        del os.environ["LLMLAB_TEST_SECRET"]
    lines = result["output"].splitlines()
    assert [line.split()[0] for line in lines] == ["environment", "processes"], lines
    assert "SECRET" not in lines[0] and int(lines[1].split()[1]) <= 4
    assert other.read_text("utf-8") == "Ada's work" and key.exists()
    assert (lab / "grading" / "score.py").exists()
    assert result["points"] == 5


def test_hidden_folders_are_hidden_where_python_itself_lies(tmp_path):
    """A class whose folder lies inside the environment that the sandbox shows."""
    place = Path(sys.prefix) / "llmlab-test-submissions"
    place.mkdir()
    try:
        (place / "ada.ipynb").write_text("Ada's work", "utf-8")
        look = f"import os\nprint(os.listdir({str(place)!r}))"
        assert graded(look, hidden=(place,))["output"] == "[]\n"
    finally:
        (place / "ada.ipynb").unlink()
        place.rmdir()


# ---- broken --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"cells": [', "it can't be read as JSON"),
        (b"", "it can't be read as JSON"),
        (b"\xff\xfe\x00", "it can't be read as JSON"),
        (b"[" * 100_000, "it can't be read as JSON"),
        (b"[]", "it holds no list of cells"),
        (b'{"worksheets": []}', "it holds no list of cells"),
    ],
)
def test_what_is_no_notebook_is_explained(content, message):
    result = grade_one(content, TOY, LIMITS)
    assert message in result["message"] and result["points"] == 0
    assert all(message in part["message"] for part in result["parts"])


def test_odd_notebooks_are_graded():
    """A wrong kernel's name, cells in another order, without ids or of a strange kind."""
    book = json.loads(notebook(RIGHT[1], RIGHT[0]))
    book["metadata"] = {"kernelspec": {"name": "julia-1.10", "language": "julia"}}
    book["cells"] += [None, 3, {"cell_type": "code"}, {"cell_type": "raw", "source": 1}]
    assert grade_one(json.dumps(book).encode(), TOY, LIMITS)["points"] == 5


# ---- a class -------------------------------------------------------------------------------------


@pytest.fixture
def class_(tmp_path):
    """A folder of submissions, some of them broken as files."""
    folder = tmp_path / "class"
    (folder / "dora" / "toy").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "ada.ipynb").write_bytes(notebook(*RIGHT))
    (folder / "ben_toy.ipynb").write_bytes(notebook(RIGHT[0]))
    (folder / "dora" / "toy" / "toy.ipynb").write_bytes(notebook(*RIGHT))
    (folder / "dora" / "scratch.ipynb").write_bytes(b"{")
    (folder / "eve" / "x").mkdir(parents=True)
    (folder / "eve" / "x" / "Untitled.ipynb").write_bytes(notebook(RIGHT[1]))
    (folder / "finn.ipynb").write_bytes(notebook("1"))
    (folder / "finn (1).ipynb").write_bytes(notebook(*RIGHT))
    with (folder / "greta.ipynb").open("wb") as file:
        file.truncate(200_000_000)
    (folder / "hal.ipynb").symlink_to(folder / "ada.ipynb")
    os.mkfifo(folder / "ines.ipynb")
    Path(os.fsdecode(os.fsencode(folder) + b"/jos\xe9.ipynb")).write_bytes(notebook(*RIGHT))
    (folder / "=cmd.ipynb").write_bytes(notebook("print('<script>alert(1)</script>')\n1 / 0"))
    (folder / "notes.txt").write_text("not a submission", "utf-8")
    return folder


def test_each_submission_is_marked_and_explained(class_, tmp_path):
    out = tmp_path / "grades"
    with ThreadPoolExecutor(2) as pool:
        table = grade(class_, TOY, pool, out=out, limits=LIMITS).set_index("student")
    points = {name: table.loc[[name], "points"].tolist() for name in table.index}
    assert points == {
        "=cmd": [0], "ada": [5], "ben": [3], "dora": [5], "empty": [0], "eve": [2],
        "finn": [5, 0], "greta": [0], "hal": [0], "ines": [0], "jos\\xe9": [5],
    }  # fmt: skip
    for name, words in {
        "empty": "no notebook", "eve": "should be called toy.ipynb", "greta": "200 MB",
        "hal": "a link", "ines": "no ordinary file", "ben": "no function 'backwards'",
    }.items():  # fmt: skip
        assert words in table.loc[name, "messages"]
    assert all("more than one submission" in text for text in table.loc["finn", "messages"])

    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[0]["student"] == "'=cmd"
    with (out / "exports" / "grades_lms.csv").open(encoding="utf-8") as file:
        grades = dict(csv.reader(file))
    assert grades["student"] == "toy" and grades["ada"] == "5" and "finn" not in grades
    with (out / "exports" / "grades_nbgrader.csv").open(encoding="utf-8") as file:
        assert {"ada": "5", "ben": "3"}.items() <= {
            row["student_id"]: row["score"] for row in csv.DictReader(file)
        }.items()
    found = sorted((out / "exports" / "gradescope").iterdir())
    assert len(found) == 12
    ada = json.loads(next(p for p in found if p.name.startswith("ada")).joinpath(
        "results.json").read_text("utf-8"))  # fmt: skip
    assert ada["score"] == 5
    assert [(t["score"], t["max_score"]) for t in ada["tests"]] == [(3, 3), (2, 2)]
    page = next((out / "feedback").glob("_cmd*")).read_text("utf-8")
    assert "&lt;script&gt;" in page and "<script" not in page
    assert "ZeroDivisionError" in page and "0 of 5 points" in page
    assert (out / "table.html").read_text("utf-8").count("feedback/") == 12
    assert not re.search(r"https?://", (out / "table.html").read_text("utf-8"))
    assert not list(out.rglob(".part-*"))


def test_what_is_there_is_not_graded_again(class_, tmp_path):
    out, ran = tmp_path / "grades", []
    for name in ("ben_toy.ipynb", "eve/x/Untitled.ipynb", "=cmd.ipynb", "finn.ipynb"):
        (class_ / name).unlink()
    options = {"out": out, "limits": LIMITS, "done": lambda result: ran.append(result["student"])}
    grade(class_, TOY, **options)
    assert sorted(ran) == ["ada", "dora", "finn", "jos\\xe9"]
    ran.clear()
    (class_ / "ada.ipynb").write_bytes(notebook(RIGHT[0]))  # handed in again
    next((out / "results").glob("dora*")).write_text('{"sha256": ', "utf-8")  # broken off
    table = grade(class_, TOY, **options).set_index("student")
    assert sorted(ran) == ["ada", "dora"]
    assert (table.loc["ada", "points"], table.loc["dora", "points"]) == (3, 5)


def test_killed_and_started_again(tmp_path):
    """SIGKILL in the middle; the second start keeps what was done and does the rest."""
    folder, out = tmp_path / "class", tmp_path / "grades"
    folder.mkdir()
    for number in range(5):
        (folder / f"s{number}.ipynb").write_bytes(notebook(*RIGHT))
    code = (
        "from pathlib import Path; from llmlab.grading import grade; import importlib.util as u; "
        f"s = u.spec_from_file_location('t', {__file__!r}); t = u.module_from_spec(s); "
        "s.loader.exec_module(t); "
        f"grade(Path({str(folder)!r}), t.TOY, out=Path({str(out)!r}), limits=t.LIMITS)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("results/s*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    early = {p: p.stat().st_mtime_ns for p in out.glob("results/s*.json")}
    assert 2 <= len(early) < 5
    table = grade(folder, TOY, out=out, limits=LIMITS)
    assert table["points"].tolist() == [5] * 5
    assert {p: p.stat().st_mtime_ns for p in early} == early


def test_a_failing_worker_loses_nothing(class_, tmp_path, monkeypatch):
    """An error of ours is said in that one row, and the next run tries it again."""
    for path in class_.iterdir():
        if path.name not in ("ada.ipynb", "dora"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    real = classroom.grade_one

    def fails_at_dora(content, *args, **options):
        if len(list((tmp_path / "g" / "results").glob("*.json"))) >= 1:
            raise RuntimeError("the disk is full")
        return real(content, *args, **options)

    monkeypatch.setattr(classroom, "grade_one", fails_at_dora)
    table = grade(class_, TOY, out=tmp_path / "g", limits=LIMITS).set_index("student")
    assert table["points"].tolist() == [5, 0]
    assert "start again (RuntimeError: the disk is full)" in table.loc["dora", "messages"]
    monkeypatch.undo()
    ran = []
    table = grade(class_, TOY, out=tmp_path / "g", limits=LIMITS, done=ran.append)
    assert table["points"].tolist() == [5, 5]
    assert [result["student"] for result in ran] == ["dora"]


def test_the_same_code_runs_on_a_cluster(class_, tmp_path):
    """A real Dask scheduler and a worker process of its own, reached over TCP."""
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster,
        executor(scheduler=cluster.scheduler_address) as pool,
    ):
        there = grade(class_, "hw4", pool, out=tmp_path / "there", limits=LIMITS)
    assert set(there["points"]) == {0} and set(there["of"]) == {20}
    assert "no function 'scores'" in there.set_index("student").loc["ada", "messages"]


def test_without_a_scheduler_it_says_so():
    with (
        pytest.raises(LabError, match="No Dask scheduler answers"),
        executor(scheduler="tcp://127.0.0.1:9", patience=1),
    ):
        pass


def test_folders_that_hold_no_submissions(tmp_path):
    with pytest.raises(LabError, match="is no folder"):
        find(tmp_path / "nowhere", TOY)
    with pytest.raises(LabError, match="No submissions in"):
        find(tmp_path, TOY)
    (tmp_path / "a.ipynb").write_bytes(notebook())
    with pytest.raises(LabError, match=r"There is no homework 'hw44'\. Did you mean 'hw4'"):
        grade(tmp_path, "hw44")
    with pytest.raises(LabError, match="outside of the submissions"):
        grade(tmp_path, TOY, out=tmp_path / "results")


# ---- the sandbox itself --------------------------------------------------------------------------


def test_the_probe_finds_a_sandbox_that_hides():
    """It looks for the references from inside, so that a sandbox that shows them is refused."""
    sandbox.refusal.cache_clear()
    assert sandbox.refusal() == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.setattr(sandbox.platform, "system", lambda: "Darwin"), "runs on Linux alone"),
        (lambda m: m.setattr(sandbox.shutil, "which", lambda name: None), "apt install bubblewrap"),
        (lambda m: m.setattr(sandbox.platform, "machine", lambda: "riscv64"), "this processor"),
        (lambda m: m.setattr(sandbox, "command", lambda fd: []), "The sandbox can't be made here"),
        (lambda m: m.setattr(sandbox, "command", lambda fd: ["false"]), "started with"),
    ],
    ids=["not Linux", "not installed", "processor", "shows everything", "forbidden"],
)
def test_without_a_sandbox_nothing_is_graded(tmp_path, monkeypatch, change, words):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ada.ipynb").write_bytes(notebook(*RIGHT))
    change(monkeypatch)
    sandbox.refusal.cache_clear()
    try:
        with pytest.raises(LabError, match=words) as refused:
            grade(tmp_path / "class", TOY, limits=LIMITS)
        assert "say --no-sandbox" in str(refused.value)
        assert not (tmp_path / "class-grades").exists()
        table = grade(tmp_path / "class", TOY, limits=LIMITS, sandbox=False)
        assert table["points"].tolist() == [5]
    finally:
        sandbox.refusal.cache_clear()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "AppArmor forbids it"),
        ({"kernel.unprivileged_userns_clone": "0"}, "has user namespaces turned off"),
        ({"user.max_user_namespaces": "0"}, "has user namespaces turned off"),
        ({}, "container"),
    ],
)
def test_the_refusal_names_what_to_change(monkeypatch, settings, words):
    monkeypatch.setattr(sandbox, "_setting", lambda name: settings.get(name, ""))
    assert words in sandbox._why("setting up uid map: Permission denied")


# ---- values --------------------------------------------------------------------------------------


def test_values_come_through_unchanged():
    import numpy
    import torch

    for value in [
        None, True, 3, -0.1, "é", [1, [2.5]], (1, "a"), {"a": [1], 2: None}, float("inf"), [], (),
    ]:  # fmt: skip
        assert decode(json.loads(json.dumps(encode(value)))) == value
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
        tensor = (torch.randn(2, 0 + 3, 1) * 3).to(dtype)
        back = decode(json.loads(json.dumps(encode(tensor))))
        assert back.dtype == dtype and torch.equal(back, tensor)
    array = numpy.arange(6, dtype="int16").reshape(3, 2)
    assert (decode(json.loads(json.dumps(encode(array)))) == array).all()
    assert encode(object())["other"] == "object"
    loop = []
    loop.append(loop)
    assert "other" in json.dumps(encode(loop))


@pytest.mark.parametrize(
    "value",
    [
        {}, [], {"tensor": [1, 2], "shape": [3], "dtype": "float32"}, {"tensor": 3, "shape": []},
        {"tensor": ["a"], "shape": [1], "dtype": "float32"}, {"tuple": [{}]},
        {"tensor": [1], "shape": [1], "dtype": "__class__"}, {"dict": [[1]]},
        {"tensor": [1], "shape": [-1, -1], "dtype": "float32"},
    ],
)  # fmt: skip
def test_forged_values_are_refused(value):
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(value)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command(class_, tmp_path):
    """As an instructor calls it; with functions that hw4 does not ask for."""
    for name in ("ben_toy.ipynb", "finn.ipynb", "finn (1).ipynb", "=cmd.ipynb"):
        (class_ / name).unlink()
    code = "from llmlab.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "grade", str(class_), "--assignment", "hw4", "--workers", "2"],
        capture_output=True, text=True, errors="replace", check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "ada: 0 of 20" in run.stdout and "submissions: " in run.stdout
    assert (tmp_path / "class-grades" / "table.html").exists()
    page = (tmp_path / "class-grades" / "table.html").read_text("utf-8")
    assert "<b>0</b> of 20" in page and "0</b> of 5" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--assignment", "hw4"], "is no folder"),
        (["class", "--assignment", "hw9"], "There is no homework 'hw9'"),
        (["class", "--assignment", "hw4", "--out", "class/x"], "outside of the submissions"),
        (["class", "--assignment", "hw4", "--out", "class/ada.ipynb/x"], "outside"),
        (["class", "--assignment", "hw4", "--out", "file/x"], "can't be written"),
        (["empty", "--assignment", "hw4"], "No submissions"),
        (["class", "--assignment", "hw4", "--scheduler", "nonsense"], "No Dask scheduler"),
    ],
)
def test_the_command_refuses_in_a_sentence(class_, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["llmlab", "grade", *arguments])
    (tmp_path / "file").write_text("", "utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 1
    assert said.startswith("llmlab: ") and words in said and said.count("\n") == 1


# ---- the real homework ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.name for p in homework.HOMEWORK.glob("source/*")))
def test_the_solved_notebook_has_full_marks_and_the_untouched_one_none(name):
    """Both run whole, with the real model, inside the sandbox."""
    results, task = {}, classroom.find_assignment(name)
    for kind in ("source", "release"):
        path = next(homework.HOMEWORK.glob(f"{kind}/{name}/*.ipynb"))
        results[kind] = grade_one(path.read_bytes(), task)
        assert not results[kind]["message"] and not results[kind]["errors"], kind
        assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"
    assert results["source"]["points"] == task.points == 20 - task.read
    assert all(part["text"] for part in results["source"]["parts"] if part["read"])
    assert results["release"]["points"] == 0
    assert set(statuses(results["release"])) == {"open"}
