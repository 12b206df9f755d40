"""More rows than memory should hold: read piece by piece, written so that nothing done is lost.

A piece is a DataFrame of at most `PIECE` rows. What is written goes into one small file a piece, in
a folder beside the output; each appears there only when it is complete. When all are there, they
are joined into the output. Whatever interrupts this, the next call goes on after the last piece.
"""

import codecs
import csv
import difflib
import hashlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas
from filelock import FileLock, Timeout

from llmlab.errors import LabError

PIECE = 1024  # rows
# A piece's file: its number, then what the last sentence counts, then the digest of what was read.
_NAME = re.compile(r"(\d{6})-(\d+)-(\d+)-(\d+)-([0-9a-f]{32})\.(csv|parquet)")


@dataclass
class Source:
    """Rows to read."""

    pieces: Iterator[pandas.DataFrame]  # at least one, with the columns, even of no rows
    column: str  # where the texts stand
    columns: list[str]
    total: int | None  # rows, where that can be known beforehand


# ---- reading ------------------------------------------------------------------------------------


def read(texts: Any, column: str | None, encoding: str) -> Source:
    """What a student hands over, as pieces: an iterable, a DataFrame, or the path of a file.

    A file is looked through once before the first piece: a mistake on its last line shows now
    and not after hours.

    Raises:
        LabError: it can't be read so.
    """
    if isinstance(texts, (str, os.PathLike)):
        path = Path(texts)
        kind = path.suffix.lower()
        if kind not in (".csv", ".tsv", ".parquet"):
            if isinstance(texts, str):
                raise LabError(
                    f"{_short(texts)} is one text, or a file that is not .csv, .tsv or .parquet. "
                    "Of one text make a list: [text]. Of a file with a text a line: open(path)."
                )
            raise LabError(f"{path} is not .csv, .tsv or .parquet. Or hand over a list of texts.")
        if not path.is_file():
            raise LabError(f"There is no file {path} (looked in {Path.cwd()}).")
        return _parquet(path, column) if kind == ".parquet" else _csv(path, column, encoding)
    if isinstance(texts, pandas.DataFrame):
        column = _column([str(name) for name in texts.columns], column, "this DataFrame")
        columns = list(texts.columns)
        starts = range(0, max(len(texts), 1), PIECE)
        pieces = (texts.iloc[i : i + PIECE].reset_index(drop=True) for i in starts)
        return Source(pieces, column, columns, len(texts))
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise LabError(f"Several texts were expected, not {type(texts).__name__}: [text, …].")
    if column is not None:
        raise LabError("column= names a column of a file or a DataFrame; these are texts already.")
    total = len(texts) if isinstance(texts, Sized) else None
    return Source(_of_iterable(texts), "text", ["text"], total)


def _of_iterable(texts: Iterable[Any]) -> Iterator[pandas.DataFrame]:
    stream = iter(texts)
    some = list(islice(stream, PIECE))
    while True:
        yield pandas.DataFrame({"text": pandas.Series(some, dtype=object)})
        some = list(islice(stream, PIECE))
        if not some:
            return


def _csv(path: Path, column: str | None, encoding: str) -> Source:
    """A CSV file, every cell as the string that stands there."""
    header = next(_csv_rows(path, encoding))
    column = _column(header, column, str(path))
    total = sum(1 for _ in _csv_rows(path, encoding)) - 1

    def pieces() -> Iterator[pandas.DataFrame]:
        rows = _csv_rows(path, encoding)
        next(rows)
        some = list(islice(rows, PIECE))
        while True:
            yield pandas.DataFrame(some, columns=header, dtype=object)
            some = list(islice(rows, PIECE))
            if not some:
                return

    return Source(pieces(), column, header, total)


def _csv_rows(path: Path, encoding: str) -> Iterator[list[str]]:
    """The header, then the rows; lines without anything are no rows."""
    try:
        # utf-8-sig: Excel's mark at the start of the file is no part of the first name
        utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError:
        raise LabError(f"Python knows no encoding {encoding!r}. Known: utf-8, cp1252, …") from None
    csv.field_size_limit(2**31 - 1)  # 131,072 characters otherwise, and texts can be longer
    with path.open(encoding="utf-8-sig" if utf8 else encoding, newline="") as file:
        try:
            first = file.readline()
            file.seek(0)
            # as spreadsheets of other countries write it
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            header = next(reader, [])
            if not header:
                raise LabError(f"{path} is empty: there is no line with the columns' names.")
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise LabError(f"{path} has two columns called {twice[0]!r}: rename one.")
            yield header
            for row in reader:
                if row and len(row) != len(header):
                    raise LabError(
                        f"The row that ends on line {reader.line_num} of {path} has {len(row)} "
                        f"fields, the header {len(header)}. Is a text with a comma or a line break "
                        'in it not in quotes ("…")?'
                    )
                if row:
                    yield row
        except csv.Error as error:
            raise LabError(
                f"{path} can't be read past line {reader.line_num}: {error}. Is a quote (\") "
                "opened there and not closed?"
            ) from None
        except UnicodeError:
            raise LabError(_undecodable(path, encoding)) from None


def _undecodable(path: Path, encoding: str) -> str:
    """Which line is not in that encoding, and what to do about it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    bad: list[tuple[int, UnicodeDecodeError]] = []
    good = 0  # lines in that encoding that are not plain ASCII
    with path.open("rb") as file:
        mark = file.read(2)
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                good += not decoder.decode(line).isascii()
            except UnicodeDecodeError as error:
                bad.append((number, error))
                decoder.reset()
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return f"{path} is not {encoding} but UTF-16: add encoding='utf-16'."
    if not bad:
        return f"{path} is not {encoding}: it ends in the middle of a character."
    number, first = bad[0]
    byte = first.object[first.start]
    more = f" (and {len(bad) - 1:,} more lines)" if len(bad) > 1 else ""
    told = f"Line {number} of {path} is not {encoding}: byte 0x{byte:02X}{more}."
    if codecs.lookup(encoding).name.startswith("utf-8") and good:
        return (
            f"{told} {good:,} other lines with such characters are {encoding}, so the file mixes "
            "encodings: mend those lines in an editor and save it as UTF-8."
        )
    return f"{told} Files from Windows are often cp1252: add encoding='cp1252'."


def _parquet(path: Path, column: str | None) -> Source:
    """A Parquet file, its types kept."""
    parquet = _pyarrow("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except (_pyarrow("pyarrow").ArrowException, OSError) as error:
        raise LabError(f"{path} is no whole Parquet file: {error}") from None
    columns = file.schema_arrow.names
    column = _column(columns, column, str(path))

    def pieces() -> Iterator[pandas.DataFrame]:
        schema = file.schema_arrow
        empty = schema.empty_table().to_pandas(types_mapper=pandas.ArrowDtype)
        if not file.metadata.num_rows:
            yield empty
        for batch in file.iter_batches(PIECE):
            yield batch.to_pandas(types_mapper=pandas.ArrowDtype)

    return Source(pieces(), column, columns, file.metadata.num_rows)


def _column(columns: list[str], column: str | None, where: str) -> str:
    """The column with the texts: the one named, the only one, or "text"."""
    listed = ", ".join(columns)
    if column is None:
        if len(columns) == 1:
            return columns[0]
        if "text" in columns:
            return "text"
        raise LabError(f"Which column of {where} holds the texts? column='…'. It has: {listed}.")
    if column in columns:
        return column
    names = {name.casefold().strip(): name for name in columns}
    near = difflib.get_close_matches(str(column).casefold().strip(), names, n=1)
    meant = f" Did you mean {names[near[0]]!r}?" if near else ""
    raise LabError(f"There is no column {column!r} in {where}.{meant} It has: {listed}.")


def _pyarrow(module: str) -> Any:
    """A module of pyarrow, which only Parquet needs: half as large as torch, so not required."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise LabError(
            "Parquet needs the library pyarrow: pip install pyarrow. Or use a .csv file."
        ) from None


# ---- writing ------------------------------------------------------------------------------------


@dataclass
class Output:
    """A CSV or Parquet file in the making, or one that was made before. Made by `output`."""

    path: Path
    folder: Path  # of the pieces
    settings: dict[str, Any]
    done: dict[int, str]  # number of a piece -> name of its file
    complete: bool  # everything is in place: there is only to compare

    def has(self, number: int, digest: str) -> bool:
        """Whether this piece is done.

        Raises:
            LabError: it is, but was made from other rows.
        """
        name = self.done.get(number)
        if (name and _facts(name)[3] != digest) or (not name and self.complete):
            place = self.path if self.complete else self.folder
            raise LabError(
                f"{place} holds results for other texts than these (from row {number * PIECE:,} "
                "on). Give the same texts as before, or choose another out=, or delete it."
            )
        return name is not None

    def add(self, number: int, digest: str, piece: pandas.DataFrame, counts: list[int]) -> None:
        """Write a piece, whole or not at all. `counts` are two numbers to add up over all."""
        kind = self.path.suffix.lower()
        name = "-".join([f"{number:06d}", str(len(piece)), *map(str, counts), digest]) + kind

        def write(to: Path) -> None:
            if kind == ".csv":
                # \r\n: with it a \r within a text is put in quotes, and read back as it was
                text = piece.to_csv(index=False, header=number == 0, lineterminator="\r\n")
                to.write_bytes(text.encode("utf-8", "replace"))
                return
            pyarrow = _pyarrow("pyarrow")
            try:
                table = pyarrow.Table.from_pandas(piece, preserve_index=False)
                _pyarrow("pyarrow.parquet").write_table(table, to)
            except (pyarrow.ArrowException, UnicodeError) as error:
                raise LabError(
                    f"These columns can't be stored as Parquet ({error}). As .csv they can."
                ) from None

        with _in_words(self.path, self.folder):
            _atomically(self.folder / name, write)
        self.done[number] = name

    def counts(self) -> list[int]:
        """Rows, and the two that were counted, over all pieces."""
        return [sum(row) for row in zip(*(_facts(n)[:3] for n in self.done.values()), strict=True)]

    def finish(self, pieces: int) -> None:
        """Join so many pieces into the output; all there are."""
        if len(self.done) != pieces:
            raise LabError(
                f"{self.path if self.complete else self.folder} holds results for more texts than "
                "these. Give all the texts as before, or choose another out=, or delete it."
            )
        if self.complete:
            return
        names = [self.done[number] for number in range(pieces)]
        join = _join_csv if self.path.suffix.lower() == ".csv" else _join_parquet
        with _in_words(self.path, self.folder):
            _atomically(self.path, lambda to: join([self.folder / name for name in names], to))
            facts = {"pieces": names, "bytes": self.path.stat().st_size}
            _write_json(_about(self.path), self.settings | facts)
            (self.folder / "about.json").unlink()  # from here on the folder is only litter
        self.complete = True


@contextmanager
def output(path: Path, settings: dict[str, Any]) -> Iterator[Output]:
    """Begin an output, or go on with one: `done` names the pieces that are there.

    Raises:
        LabError: what lies there was made in another way, or is being made now; it can't be
            written.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise LabError(f"out= is a file that ends in .csv or .parquet, and {path} is not.")
    if path.suffix.lower() == ".parquet":
        _pyarrow("pyarrow.parquet")
    if path.is_dir() or not path.parent.is_dir():
        raise LabError(f"{path} can't be a file: {path.parent} must be a folder that exists.")
    folder = path.with_name(f"{path.name}.part")
    begun = folder / "about.json"
    if path.exists() and not begun.exists():
        about = _read_json(_about(path))
        if not about or about.get("bytes") != path.stat().st_size:
            raise LabError(f"There is a {path} already. Choose another out=, or delete it.")
        _same(about, settings, path)
        yield Output(path, folder, settings, dict(enumerate(about["pieces"])), complete=True)
        return
    with _in_words(path, folder):
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LabError(f"Another process is writing {path} now. Wait for it.") from None
    try:
        with _in_words(path, folder):
            pieces = [file for file in folder.iterdir() if _NAME.fullmatch(file.name)]
            if begun.exists():
                _same(_read_json(begun), settings, folder)
            else:
                for piece in pieces:  # left from cleaning up: nobody knows what made them
                    piece.unlink()
                pieces = []
                _write_json(begun, settings)
        done = {int(piece.name.split("-")[0]): piece.name for piece in pieces}
        target = Output(path, folder, settings, done, complete=False)
        yield target
    finally:
        lock.release()
    if target.complete:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_words(path: Path, folder: Path) -> Iterator[None]:
    """Turn what the disk says into a sentence."""
    try:
        yield
    except OSError as error:
        raise LabError(
            f"{path} can't be written: {error.strerror or error}. What was done is kept in "
            f"{folder}: when this is mended, the same call goes on from there."
        ) from None


def digest(piece: pandas.DataFrame) -> str:
    """A fingerprint of a piece's cells."""
    total = hashlib.blake2b(digest_size=16)
    for row in piece.itertuples(index=False, name=None):
        total.update(f"{row!r}\n".encode("utf-8", "backslashreplace"))
    return total.hexdigest()


def _same(found: dict[str, Any] | None, settings: dict[str, Any], where: Path) -> None:
    """That what lies there was made in the same way."""
    if not found:
        raise LabError(f"There is a {where} already. Choose another out=, or delete it.")
    differing = [name for name, value in settings.items() if found.get(name) != value]
    if differing:
        raise LabError(
            f"{where} was made with another {' and another '.join(differing)}, so its results "
            "would mix with these. Choose another out=, or delete it."
        )


def _facts(name: str) -> tuple[int, int, int, str]:
    """Rows, the two counts, digest: from the name of a piece's file."""
    _, rows, first, second, rest = name.split("-")
    return int(rows), int(first), int(second), rest.split(".")[0]


def _atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that under its name it is always whole."""
    rough = path.with_name(f"{path.name}.tmp")
    write(rough)
    with rough.open("rb+") as file:
        os.fsync(file.fileno())
    rough.replace(path)


def _join_csv(parts: list[Path], to: Path) -> None:
    with to.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


def _join_parquet(parts: list[Path], to: Path) -> None:
    """A row group a piece. A column that is empty in one piece and text in the next is text."""
    pyarrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    schemas = [parquet.read_schema(part).remove_metadata() for part in parts]
    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    for place, field in enumerate(schema):
        if pyarrow.types.is_null(field.type):
            schema = schema.set(place, field.with_type(pyarrow.string()))
    with parquet.ParquetWriter(to, schema) as writer:
        for part in parts:
            writer.write_table(parquet.read_table(part).cast(schema))


def _about(path: Path) -> Path:
    return path.with_name(f"{path.name}.about.json")


def _read_json(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text("utf-8"))
    return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2).encode()
    _atomically(path, lambda to: to.write_bytes(text))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}…")
