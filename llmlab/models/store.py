"""Where the models lie on this machine, and how one gets there whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from llmlab.errors import LabError
from llmlab.models.catalogue import DATA, Model

# Only Unix has this one: the user's quota is used up.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

SHIPPED = "shipped"  # the recipe of a model whose folder in the package is used where it lies
_MANIFEST = "llmlab.json"  # in a model's folder: what it was made from, and its files' sizes


def home() -> Path:
    """The folder for everything llmlab keeps: LLMLAB_HOME, else the platform's cache folder."""
    chosen = os.environ.get("LLMLAB_HOME", "").strip()
    place = Path(chosen).expanduser() if chosen else Path(user_cache_dir("llmlab", appauthor=False))
    return place.absolute()


def folder(model: Model) -> Path:
    """Where the model's Hugging Face folder (or the texts) is or will be."""
    if model.recipe == SHIPPED:
        return weights(model)
    return home() / ("data" if model.kind == DATA else "models") / model.name


def weights(model: Model) -> Path:
    """The folder in the package that holds the weights which we trained for this model."""
    return Path(__file__).parents[1] / "weights" / model.name


def is_here(model: Model) -> bool:
    """Whether the model is complete on this machine, made by this version of its recipe."""
    place = folder(model)
    if model.recipe == SHIPPED:
        return (place / "config.json").is_file()
    try:
        manifest = json.loads((place / _MANIFEST).read_text("utf-8"))
        return manifest["fingerprint"] == _fingerprint(model) and all(
            (place / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def install(model: Model, *, again: bool = False) -> Path:
    """The model's folder, fetched and converted first if it is not here (or `again`).

    A folder appears under its name only when it is complete and on the disk: it is made in a
    temporary folder beside it, which is then renamed. One process at a time does so.

    Raises:
        LabError: no source has the files, or they can't be written here. Says what to do.
    """
    place = folder(model)
    if is_here(model) and not (again and model.recipe != SHIPPED):
        return place  # no lock: works in a folder that can only be read
    if model.recipe == SHIPPED or not (model.sources or weights(model).is_dir()):
        raise LabError(
            f"The files of {model.name!r} come with llmlab, but are not in {weights(model)}: "
            "llmlab is not completely installed here. Install it again."
        )
    with _in_words(model):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _lock(model):
            if is_here(model) and not again:  # another process made it while we waited
                return place
            _remove_leftovers(model)
            _ask_for_room(model)
            # Errors in cleaning up don't matter: the next fetch removes what is left.
            with tempfile.TemporaryDirectory(
                prefix=_part(model), dir=place.parent, ignore_cleanup_errors=True
            ) as work:
                _make(model, Path(work))
                _put(Path(work), place)
    return place


def _make(model: Model, work: Path) -> None:
    """Make the model's complete folder as work/new."""
    # Slow imports stand here: a model that is here already does not need them.
    from llmlab.models import convert

    got, title = _get(model, work) if model.sources else (weights(model), "llmlab")
    new = work / "new"
    new.mkdir()
    convert.convert(model.recipe, model.name, got, new)
    sizes = {
        file.relative_to(new).as_posix(): file.stat().st_size
        for file in sorted(new.rglob("*"))
        if file.is_file()
    }
    manifest = {"fingerprint": _fingerprint(model), "source": title, "files": sizes}
    (new / _MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")


def _get(model: Model, work: Path) -> tuple[Path, str]:
    """A folder with the model's files, from the first source that has them, and its title."""
    from llmlab.models import download

    failures: list[str] = []
    for source in model.sources:
        attempt = work / f"source{len(failures)}"
        attempt.mkdir()
        try:
            return download.get(source, model.files, attempt), source.title
        except download.SourceFailed as failure:
            failures.append(str(failure))
            shutil.rmtree(attempt)
            if len(failures) < len(model.sources):
                following = model.sources[len(failures)].title
                said = f"Not from {source.title}: {failure}. Trying {following}."
                print(said, file=sys.stderr)
    raise LabError(_nothing_answered(model, failures))


def _put(work: Path, place: Path) -> None:
    """Move work/new to its place, in one step, after it is safe on the disk."""
    new = work / "new"
    for file in sorted(new.rglob("*")):
        _flush(file)
    _flush(new)
    if place.exists() or place.is_symlink():  # damaged, outdated, or fetched again
        place.rename(work / "old")
    new.rename(place)
    _flush(place.parent)


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows can't open a folder for that
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _lock(model: Model) -> Iterator[None]:
    """Only one process at a time makes a model; the others wait and then find it made."""
    lock = FileLock(folder(model).parent / f".{model.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is fetching {model.name!r}: waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(model: Model) -> None:
    """Remove what a process left that was killed. We hold the lock: nobody is at work there."""
    for leftover in folder(model).parent.glob(_part(model) + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _part(model: Model) -> str:
    """How the names of the model's temporary folders begin."""
    return f".{model.name}.part-"


def _ask_for_room(model: Model) -> None:
    """Refuse before the download when the disk has no room for it and what is made of it."""
    if shutil.disk_usage(folder(model).parent).free < room(model):
        raise OSError(errno.ENOSPC, "not enough free space")


def room(model: Model) -> int:
    """Bytes that are needed while the model is made."""
    return model.download_bytes + sum(file.bytes for file in model.files) + model.disk_bytes


@contextmanager
def _in_words(model: Model) -> Iterator[None]:
    """Turn what the operating system says into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        where = home()
        if error.errno in _FULL:
            raise LabError(
                f"The disk is full: {model.name!r} needs about {room(model) / 1e6:.0f} MB while it "
                f"is made. Free some space, or set LLMLAB_HOME to a folder on a larger disk "
                f"(now {where})."
            ) from error
        raise LabError(
            f"Can't write {model.name!r} to {where} ({error.strerror or error}). Set LLMLAB_HOME "
            "to a folder that you may write to, or let whoever keeps this one run "
            f"`llmlab fetch {model.name}`."
        ) from error
    except NotImplementedError as error:  # filelock's word for a file system without locks
        raise LabError(
            f"{home()} is on a file system that can't lock files. Set LLMLAB_HOME to a folder "
            "on this machine's own disk."
        ) from error


def _nothing_answered(model: Model, failures: list[str]) -> str:
    reasons = "; ".join(dict.fromkeys(failures))  # two sources may fail for the same reason
    return (
        f"Could not fetch {model.name!r}: {reasons}. Check the network (`llmlab doctor` shows "
        "proxies and what answers) and try again, or copy the folder "
        f"{folder(model)} from a machine that has it."
    )


def _fingerprint(model: Model) -> str:
    """Changes when the model's files or its recipe change: then what is here is made anew."""
    recipe: list[Any] = [model.recipe, model.recipe_version]
    recipe += [(file.name, file.sha256) for file in model.files]
    if not model.sources:  # a newer version of the package may bring newer weights
        for file in sorted(weights(model).glob("adapter_*")):
            recipe.append((file.name, hashlib.sha256(file.read_bytes()).hexdigest()))
    text = json.dumps(recipe)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
