"""The command `llmlab`: models, fetch, doctor, lab, grade."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import llmlab
from llmlab.errors import LabError

app = typer.Typer(
    help="llmlab: a laboratory course on language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command. A `LabError` is printed as its sentence; the exit code is then 1."""
    try:
        app()
    except LabError as error:
        print(f"llmlab: {error}", file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"llmlab {llmlab.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """A laboratory course on language models."""


@app.command()
def models() -> None:
    """List the models that work offline, and which are here."""
    from llmlab.models import rows, store

    columns = ["name", "kind", "here", "download (MB)", "disk (MB)", "licence", "caveat"]
    table = [columns, *([str(row[column]) for column in columns] for row in rows())]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print(f"They lie in {store.home()} (LLMLAB_HOME chooses another folder).")


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="All models, and the texts.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if it is here already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only say what goes wrong.")] = False,
) -> None:
    """Get models now, so that the notebooks need no network later."""
    from llmlab import models
    from llmlab.models.catalogue import everything

    wanted = list(everything()) if every else names or []
    if not wanted:
        raise LabError(
            f"Which models? Name them ({', '.join(everything())}), or get all: "
            "`llmlab fetch --all`."
        )
    failures = []
    for name in wanted:
        try:
            folder = models.fetch(name, again=again)
        except LabError as error:  # the others may still be had
            failures.append(str(error))
            continue
        if not quiet:
            print(f"{name} is here: {folder}")
    if failures:
        raise LabError("\nllmlab: ".join(failures))


@app.command()
def doctor() -> None:
    """Look at this machine: what is here, what is missing, what to do."""
    from llmlab import doctor as doctor_module

    report = doctor_module.report()
    width = max(report["check"].str.len())
    for check, found, status, advice in report.itertuples(index=False):
        print(f"{status:7}  {check:{width}}  {found}")
        if advice:
            print(" " * (width + 11) + advice)
    print(doctor_module.verdict(report))
    if (report["status"] == "problem").any():
        raise typer.Exit(1)


@app.command()
def lab(
    notebook: Annotated[str | None, typer.Argument(help="The notebook to open.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
) -> None:
    """Start JupyterLab with the course's notebooks. It calls nobody outside."""
    from llmlab.lab import serve

    raise typer.Exit(serve(notebook, port))


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="A folder: a file or a folder a student.")],
    assignment: Annotated[str, typer.Option(help="Which homework, such as hw4.")],
    out: Annotated[Path | None, typer.Option(help="Where the results go.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = 1,
    scheduler: Annotated[str, typer.Option(help="A Dask cluster, tcp://…, in their place.")] = "",
    seconds: Annotated[float, typer.Option(min=1, help="Time limit of a submission.")] = 300,
    memory: Annotated[int, typer.Option(min=100, help="Memory limit of a submission, MB.")] = 3000,
    again: Annotated[bool, typer.Option("--again", help="Grade all anew.")] = False,
    no_sandbox: Annotated[
        bool,
        typer.Option("--no-sandbox", help="Run them with your rights: they can delete your files."),
    ] = False,
) -> None:
    """Grade a class: each submission in a sandbox, its points counted outside. Linux."""
    from llmlab.grading.classroom import grade as grade_all
    from llmlab.grading.cluster import executor
    from llmlab.grading.sandbox import Limits

    place = out or submissions.absolute().with_name(f"{submissions.absolute().name}-grades")
    limits = Limits(seconds=seconds, memory=memory * 1_000_000)

    def say(result: dict) -> None:
        mark = result["message"] or f"{result['points']} of {result['of']}"
        print(f"{result['student']}: {mark} ({result['seconds']:.1f} s)", flush=True)

    with executor(workers, scheduler) as pool:
        table = grade_all(
            submissions, assignment, pool, out=place, limits=limits, again=again,
            sandbox=not no_sandbox, ahead=2 * workers if not scheduler else 64, done=say,
        )  # fmt: skip
    print(f"{len(table)} submissions: {place / 'table.html'}, table.csv, feedback/, exports/")
    if "to read" in table and (left := table["to read"].sum()):
        texts = "1 text is" if left == 1 else f"{left} texts are"
        print(
            f"{texts} still to be read: write the points into {place / 'read.csv'} and start this "
            "again. Until then the exports hold the points without them."
        )
