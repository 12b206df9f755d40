"""What the instructor and the students get: a table, a page each, and exports for other systems."""

import csv
import json
import os
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import pandas

from llmlab.grading.assignment import Assignment

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #8888;padding:.4rem .6rem;text-align:left;"
    "vertical-align:top}td.n,th.n{text-align:right}td.n,td.s{white-space:nowrap}"
    "pre{overflow:auto;border:1px solid #8888;"
    "padding:.6rem;white-space:pre-wrap}caption{text-align:left;padding-bottom:.6rem}"
)
_MARKS = {"passed": "✓", "wrong": "✗", "open": "○", "missing": "?", "not run": "–"}


def write(place: Path, task: Assignment, rows: list[dict[str, Any]]) -> pandas.DataFrame:
    """Write everything below a folder; returns the table.

    Files: table.csv and table.html; feedback/STUDENT.html; and in exports/ grades_lms.csv,
    grades_nbgrader.csv and gradescope/STUDENT/results.json.
    """
    feedback, exports = place / "feedback", place / "exports"
    for folder in (feedback, exports / "gradescope"):
        folder.mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame([_row(task, result) for result in rows])
    _put(place / "table.csv", table.map(_cell).to_csv(index=False))
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
    # left empty, for whoever reads the answers
    read = {f"{p.number} read (of {p.read})": "" for p in task.parts if p.read}
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
         "output": part["message"], "visibility": "visible"}
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
        f"<td class=n>{part['points']} of {part['of']}</td><td>{escape(part['message'])}</td></tr>"
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
    more = f", and up to {task.read} for what a person reads" if task.read else ""
    texts = "".join(
        f"<h2>{escape(p['number'])}, to be read by a person, who gives up to {p['read']} more "
        f"points</h2><pre>{escape(p['text'])}</pre>"
        for p in result["parts"]
        if p["text"]
    )
    head = "<tr><th>status</th><th>part</th><th class=n>points</th><th>message</th></tr>"
    body = (
        f"<h1>{escape(task.name)} · {escape(result['student'])}: {result['points']} of "
        f"{result['of']} points{more}</h1>{said}<table>{head}{rows}</table>"
        f"<p>Each part was tried on random inputs that were drawn for this run; it has its points "
        f"if all answers are right. {result['cells']} code cells ran in "
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
        cells = [f"<b>{result['points']}</b> of {result['of']}"]
        cells += [f"{_MARKS[p['status']]} {p['points']}" for p in result["parts"]]
        cells += [f"{result['seconds']:.1f}", f"{result['peak']:,.0f}"]
        said = " ".join(filter(None, [result["message"], result["note"]]))
        link = f"feedback/{result['key']}.html"
        lines.append(
            f'<tr><td><a href="{link}">{escape(result["student"])}</a>'
            f"{'<br>' + escape(result['file']) if result['note'] else ''}</td>"
            + "".join(f"<td class=n>{cell}</td>" for cell in cells)
            + f"<td>{escape(said)}</td></tr>"
        )
    marks = ", ".join(f"{mark} {name}" for name, mark in _MARKS.items())
    if task.read:
        marks += f"; up to {task.read} more points are given by a person who reads the answers"
    body = (
        f"<h1>{escape(task.name)}: {len(rows)} submissions</h1><table><caption>{marks}</caption>"
        f"<tr><th>student</th>{head}<th>message</th></tr>{''.join(lines)}</table>"
    )
    return _page(task.name, body)


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
