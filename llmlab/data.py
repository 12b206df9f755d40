"""Texts to train and to measure with: people's judgements of sentences, and plain prose.

Sentiment comes from Hutto and Gilbert (2014), "VADER: a parsimonious rule-based model for sentiment
analysis of social media text": short texts, each with the mean score, from -4 (very negative) to
+4 (very positive), of at least 15 people.
"""

import hashlib
import html
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab.errors import LabError
from llmlab.models import catalogue, store

if TYPE_CHECKING:
    import pandas

__all__ = ["prose", "sentiment", "sentiment_sample"]

SPLITS = ("train", "validation", "test")
SOURCES = {  # source -> file
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
NEUTRAL = 0.5  # texts with a mean score nearer to zero than this have no label and are left out
_FILES = resources.files(__package__) / "data_files"


def sentiment(split: str) -> "pandas.DataFrame":
    """Short texts with their sentiment: columns text, label, score, source.

    label is 1 (positive) or 0 (negative): the sign of score, the mean of people's judgements from
    -4 to +4. Texts with a score between -0.5 and +0.5 are neutral and left out, and so is what
    differs from another text only in case or punctuation. source is "movie" (snippets of film
    reviews), "amazon" (sentences of product reviews) or "tweets" (texts like tweets).

    The splits ("train", "validation", "test": about 68, 11 and 21 %) keep together what belongs
    together, see `document`. The texts are fetched once (2 MB), then read from this machine.

    Raises:
        LabError: there is no such split, or the texts could not be fetched. Says what to do.

    >>> sentiment("test").source.value_counts().to_dict()
    {'movie': 2053, 'tweets': 811, 'amazon': 564}
    """
    import pandas

    if split not in SPLITS:
        raise LabError(f"No split {split!r}. There are: {', '.join(SPLITS)}.")
    rows, seen = [], set()
    for source, lines in _read().items():
        for identifier, score, text in lines:
            key = re.sub(r"\W+", " ", text.lower()).strip() or text
            if abs(score) < NEUTRAL or key in seen:
                continue
            seen.add(key)
            if split_of(document(source, identifier)) == split:
                rows.append((text, int(score > 0), score, source))
    return pandas.DataFrame(rows, columns=["text", "label", "score", "source"])


def sentiment_sample() -> "pandas.DataFrame":
    """Held-out texts like tweets that ship with llmlab: columns text, label, score.

    100 positive and 60 negative ones, all from `sentiment("test")`: no shipped classifier has been
    trained on them. They are chosen by hash, and by rules that leave out user names, tags, links,
    full names and what may hurt (`llmlab.recipes.sentiment.sample`), so they are tamer than the
    whole. Licence and source stand in llmlab/data_files/README.md.

    >>> sentiment_sample().label.value_counts().to_dict()
    {1: 100, 0: 60}
    """
    import pandas

    with _FILES.joinpath("sentiment_sample.csv").open(encoding="utf-8") as file:
        return pandas.read_csv(file)


def document(source: str, identifier: str) -> str:
    """What a text is a part of: texts of one document never lie on both sides of a split.

    A sentence of a product review belongs to its review (sentence "12_3" to review 12). Texts like
    tweets stand in the order in which they were collected, often many of one writer in a row: a
    block of 20 counts as a document. Each film snippet comes from a review of its own.

    >>> document("amazon", "12_3"), document("tweets", "41"), document("movie", "7")
    ('amazon 12', 'tweets 2', 'movie 7')
    """
    if source == "amazon":
        return f"amazon {identifier.split('_')[0]}"
    return f"tweets {(int(identifier) - 1) // 20}" if source == "tweets" else f"movie {identifier}"


def split_of(document: str) -> str:
    """The split that a document falls into, by its hash: the same on every machine, for ever."""
    number = int(hashlib.sha256(document.encode()).hexdigest(), 16) % 10
    return "train" if number < 7 else "validation" if number == 7 else "test"


def _read() -> dict[str, list[tuple[str, float, str]]]:
    """The texts of each source: (identifier, score, text), fetched the first time."""
    folder = store.install(catalogue.everything()["sentiment-texts"])
    return {source: _lines(folder / file) for source, file in SOURCES.items()}


def _lines(file: Path) -> list[tuple[str, float, str]]:
    lines = []
    for line in file.read_text("utf-8").splitlines():
        identifier, score, text = line.split("\t")
        lines.append((identifier, float(score), " ".join(html.unescape(text).split())))
    return lines


def prose() -> str:
    """Alice's Adventures in Wonderland, by Lewis Carroll (1865): English prose, public domain.

    A paragraph a line, chapter headings included; plain ASCII. None of it was used to train
    `gpt2-mini`.

    >>> len(prose().split()) > 20_000
    True
    """
    return _FILES.joinpath("alice_in_wonderland.txt").read_text("utf-8")
