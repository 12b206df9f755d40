"""What the instructor and the students get: a table, a page each, and exports for other systems.

And what comes back from the instructor: read.csv holds a line a text that a person reads. It is
made once; lines of new texts are added, and what stands there is never changed.
"""

import csv
import hashlib
import io
import json
import os
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import pandas

from llmlab.errors import LabError
from llmlab.grading.assignment import Assignment

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #8888;padding:.4rem .6rem;text-align:left;"
    "vertical-align:top}td.n,th.n{text-align:right}td.n,td.s{white-space:nowrap}"
    "pre{overflow:auto;border:1px solid #8888;"
    "padding:.6rem;white-space:pre-wrap}caption{text-align:left;padding-bottom:.6rem}"
)
_MARKS = {"passed": "✓", "in part": "◐", "wrong": "✗", "open": "○", "missing": "?", "not run": "–"}
_READ = ["student", "part", "of", "points", "machine", "comment", "page", "text"]


def write(place: Path, task: Assignment, rows: list[dict[str, Any]]) -> pandas.DataFrame:
    """Write everything below a folder; returns the table.

    Files: table.csv and table.html; feedback/STUDENT.html; and in exports/ grades_lms.csv,
    grades_nbgrader.csv and gradescope/STUDENT/results.json. Points out of read.csv are counted in.

    Raises:
        LabError: points in read.csv that are no points.
    """
    rows = _read(place, task, rows)
    feedback, exports = place / "feedback", place / "exports"
    for folder in (feedback, exports / "gradescope"):
        folder.mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame([_row(task, result) for result in rows])
    _put(place / "table.csv", table.map(_cell).to_csv(index=False, float_format="%g"))
    _put(place / "table.html", _table_page(task, rows))
    for result in rows:
        _put(feedback / f"{result['key']}.html", student_page(task, result))
        folder = exports / "gradescope" / result["key"]
        folder.mkdir(exist_ok=True)
        _put(folder / "results.json", json.dumps(gradescope(result), indent=1))
    single = [r for r in rows if sum(r["student"] == other["student"] for other in rows) == 1]
    _csv(exports / "grades_lms.csv", ["student", task.name],
         [[r["student"], r["points"]] for r in single])  # fmt: skip
    _csv(exports / "grades_nbgrader.csv",
         ["assignment", "student_id", "raw_score", "late_submission_penalty", "score", "max_score"],
         [[task.name, r["student"], r["points"], 0, r["points"], r["of"]] for r in single],
    )  # fmt: skip
    return table


def _row(task: Assignment, result: dict[str, Any]) -> dict[str, Any]:
    points = {part["number"]: part["points"] for part in result["parts"]}
    read: dict[str, Any] = {}
    for part in result["parts"]:
        if part["read"]:  # is in the part's points already; empty: still to be read
            read[f"{part['number']} read (of {part['read']})"] = (
                "" if part["unread"] else part["given"]
            )
    if task.read:
        read["to read"] = result["unread"]
    said = [result["message"], result["note"]]
    said += [
        f"{part['number']} {part['status']}: {part['message']}"
        for part in result["parts"]
        if part["status"] != "passed" and part["message"] != result["message"]
    ]
    return {
        "student": result["student"], "file": result["file"], "points": result["points"],
        "of": result["of"], **points, **read, "seconds": result["seconds"],
        "peak (MB)": result["peak"],
        "messages": " | ".join(filter(None, said)),
    }  # fmt: skip


def gradescope(result: dict[str, Any]) -> dict[str, Any]:
    """A result in the form of Gradescope's results.json."""
    tests = [
        {"number": part["number"], "name": part["title"], "score": part["points"],
         "max_score": part["of"], "status": "passed" if part["status"] == "passed" else "failed",
         "output": " ".join(filter(None, [part["message"], part["comment"]])),
         "visibility": "visible"}
        for part in result["parts"]
    ]  # fmt: skip
    return {
        "score": result["points"], "execution_time": round(result["seconds"]),
        "output": result["message"], "output_format": "text", "visibility": "visible",
        "tests": tests,
    }  # fmt: skip


def student_page(task: Assignment, result: dict[str, Any]) -> str:
    """The feedback page of one student."""
    rows = "".join(
        f"<tr><td class=s>{_MARKS[part['status']]} {escape(part['status'])}</td>"
        f"<td>{escape(part['number'])} {escape(part['title'])}</td>"
        f"<td class=n>{_so_far(part)} of {part['of']}</td><td>{escape(part['message'])}</td></tr>"
        for part in result["parts"]
    )
    said = "".join(f"<p>{escape(t)}</p>" for t in (result["message"], result["note"]) if t)
    errors = "".join(
        f"<li>code cell {e['cell']}, <code>{escape(e['source'])}</code>: {escape(e['error'])}</li>"
        for e in result["errors"]
    )
    errors = f"<h2>Cells that stopped with an error</h2><ul>{errors}</ul>" if errors else ""
    output = result["output"].strip()
    output = (
        f"<h2>What it printed (the beginning)</h2><pre>{escape(output)}</pre>" if output else ""
    )
    texts = "".join(
        f"<h2>{escape(p['number'])}, {_reader(p)}</h2>"
        + (f"<p>{escape(p['comment'])}</p>" if p["comment"] else "")
        + f"<pre>{escape(p['text'])}</pre>"
        for p in result["parts"]
        if p["text"] or p["comment"]
    )
    shares = (
        "; a text has its share for each fact that the machine finds, which a person may overrule"
        if task.read
        else ""
    )
    head = "<tr><th>status</th><th>part</th><th class=n>points</th><th>message</th></tr>"
    body = (
        f"<h1>{escape(task.name)} · {escape(result['student'])}: {_so_far(result)} of "
        f"{result['of']} points</h1>{said}<table>{head}{rows}</table>"
        f"<p>Each part was tried on random inputs that were drawn for this run; it has its points "
        f"if all answers are right{shares}. {result['cells']} code cells ran in "
        f"{result['seconds']:.0f}\xa0s "
        f"with at most {result['peak']:,.0f}\xa0MB.</p>{texts}{errors}{output}"
    )
    return _page(f"{task.name}: {result['student']}", body)


def _table_page(task: Assignment, rows: list[dict[str, Any]]) -> str:
    """The whole class as a page that links to each student's."""
    numbers = [part.number for part in task.parts]
    right = ["points", *numbers, "seconds", "MB"]
    head = "".join(f"<th class=n>{escape(name)}</th>" for name in right)
    lines = []
    for result in rows:
        cells = [f"<b>{_so_far(result)}</b> of {result['of']}"]
        cells += [f"{_MARKS[p['status']]} {_so_far(p)}" for p in result["parts"]]
        cells += [f"{result['seconds']:.1f}", f"{result['peak']:,.0f}"]
        said = " ".join(filter(None, [result["message"] or _lacking(result), result["note"]]))
        link = f"feedback/{result['key']}.html"
        lines.append(
            f'<tr><td><a href="{link}">{escape(result["student"])}</a>'
            f"{'<br>' + escape(result['file']) if result['note'] else ''}</td>"
            + "".join(f"<td class=n>{cell}</td>" for cell in cells)
            + f"<td>{escape(said)}</td></tr>"
        )
    marks = ", ".join(f"{mark} {name}" for name, mark in _MARKS.items())
    if task.read:
        marks += (
            f'; "+ ?": a person who reads the answers gives up to {task.read} more points, which '
            "are written into read.csv"
        )
    body = (
        f"<h1>{escape(task.name)}: {len(rows)} submissions</h1><table><caption>{marks}</caption>"
        f"<tr><th>student</th>{head}<th>message</th></tr>{''.join(lines)}</table>"
    )
    return _page(task.name, body)


def _so_far(counted: dict[str, Any]) -> str:
    """The points of a result or part, such as "14 + ?" while a text is still to be read."""
    return f"{counted['points']}{' + ?' if counted['unread'] else ''}"


def _reader(part: dict[str, Any]) -> str:
    """What the heading over a text says of the points that a person gives."""
    if part["unread"]:
        return f"to be read by a person, who gives up to {part['read']} more points"
    return f"read by a person: {part['given']} of {part['read']} points"


def _lacking(result: dict[str, Any]) -> str:
    """Which parts are not all right, such as "wrong: hw4.1, hw4.3; open: hw4.4"."""
    groups = {
        status: [part["number"] for part in result["parts"] if part["status"] == status]
        for status in _MARKS
        if status != "passed"
    }
    return "; ".join(f"{status}: {', '.join(group)}" for status, group in groups.items() if group)


# ---- what a person reads -------------------------------------------------------------------------


def given(place: Path, task: Assignment) -> dict[str, dict[str, Any]]:
    """What stands in read.csv: the mark of a text, or else "student part", -> its line.

    In each line `points` and `machine` are numbers, or None where nothing is written yet.

    Raises:
        LabError: it can't be read, or a value is none that can be given.
    """
    path = place / "read.csv"
    if not task.read or not path.exists():
        return {}
    _, text = _text(path)
    most = {part.number: {"points": part.read, "machine": part.points} for part in task.parts}
    found = {}
    for number, line in enumerate(csv.DictReader(io.StringIO(text), delimiter=_comma(text)), 2):
        kept: dict[str, Any] = {name: (line.get(name) or "").strip() for name in _READ}
        for name, limit in most.get(kept["part"], {}).items():
            kept[name] = _points(kept[name], limit, f"line {number} of {str(path)!r}, {name}")
        found[kept["text"] or f"{kept['student']} {kept['part']}"] = kept
    return found


def _read(place: Path, task: Assignment, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with the points that a person gave; lines for new texts go into read.csv."""
    lines, new, counted = given(place, task), [], []
    for result in rows:
        parts = []
        for part in result["parts"]:
            part = part | {"unread": 0, "given": 0, "comment": ""}
            parts.append(part)
            if not part["read"]:
                continue
            mark = f"{result['student']}\0{result['key']}\0{part['number']}\0{part['text']}"
            mark = "t" + hashlib.sha256(mark.encode()).hexdigest()[:9]
            student = _cell(result["student"])
            line = lines.get(mark) or lines.get(f"{student} {part['number']}")
            if line is None and (part["text"] or result["cells"]):
                # a person may find an answer elsewhere in the notebook
                start = ["", "", ""] if part["text"] else [0, "", "no text was found"]
                page = f"feedback/{result['key']}.html"
                new.append([student, part["number"], part["read"], *start, page, mark])
            _count(part, line)
        counted.append(
            result
            | {
                "parts": parts,
                "points": _tidy(sum(part["points"] for part in parts)),
                "of": sum(part["of"] for part in parts),
                "unread": sum(part["unread"] for part in parts),
            }
        )
    if new:
        _append(place / "read.csv", new)
    return counted


def _count(part: dict[str, Any], line: dict[str, Any] | None) -> None:
    """Count what a person wrote about a text into its part."""
    if line and line["machine"] is not None:
        status = "in part" if line["machine"] else "wrong"
        part["status"] = "passed" if line["machine"] == part["of"] else status
        part["message"] = (
            f"a person counts {line['machine']} in place of {part['points']} here; the machine "
            f"said: {part['message']}"
        )
        part["points"] = line["machine"]
    part["unread"] = int(bool(part["text"]) if line is None else line["points"] is None)
    part["given"] = 0 if line is None else line["points"] or 0
    part["comment"] = "" if line is None else line["comment"]
    part["points"] = _tidy(part["points"] + part["given"])
    part["of"] += part["read"]


def _append(path: Path, lines: list[list]) -> None:
    """Add lines to read.csv in the form that a spreadsheet has given it; all else stays."""
    start, text = _text(path) if path.exists() else ("", "")
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=_comma(text), lineterminator="\n")
    if not text:
        writer.writerow(_READ)
    names = next(csv.reader(io.StringIO(text), delimiter=_comma(text)), _READ)
    for line in lines:
        values = dict(zip(_READ, line, strict=True))
        writer.writerow([values.get(name, "") for name in names])
    gap = "" if not text or text.endswith("\n") else "\n"
    _put(path, start + text + gap + buffer.getvalue())


def _text(path: Path) -> tuple[str, str]:
    """The mark at the beginning that some spreadsheets write, and the text behind it.

    Raises:
        LabError: it is none, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{str(path)!r} can't be read ({error}): save it as CSV, UTF-8.") from None
    start = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(start)
    names = next(csv.reader(io.StringIO(text), delimiter=_comma(text)), [])
    lacking = [name for name in ("student", "part", "points") if text and name not in names]
    if lacking:
        raise LabError(f"{str(path)!r} has no column {lacking[0]!r}: its first line names them.")
    return start, text


def _comma(text: str) -> str:
    """What stands between the columns: a spreadsheet may have changed it."""
    head = text.partition("\n")[0]
    return max(",;\t", key=head.count)


def _points(said: str, limit: float, where: str) -> float | None:
    """A value of read.csv; None if there is none yet."""
    if not said:
        return None
    try:
        value = float(said.replace(",", "."))
    except ValueError:
        value = -1
    if not 0 <= value <= limit:
        raise LabError(f"{where}: {said!r} is no number from 0 to {limit}.")
    return _tidy(value)


def _tidy(points: float) -> float:
    """2 in place of 2.0."""
    return int(points) if points == int(points) else points


def _page(title: str, body: str) -> str:
    """A page that loads nothing and runs nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _cell(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _csv(path: Path, head: list[str], rows: list[list]) -> None:
    with tempfile.SpooledTemporaryFile(mode="w+", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *([_cell(value) for value in row] for row in rows)])
        file.seek(0)
        _put(path, file.read())


def _put(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    Path(name).replace(path)
