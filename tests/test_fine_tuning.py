"""What notebook 07 gets beside the lesson: texts that split cleanly, batches, a count of bytes."""

import re
import sys
import warnings
import weakref

import pandas
import psutil
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

import llmlab
from llmlab import data, fine_tuning

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def small():
    """A BERT classifier of one layer, without dropout."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, num_hidden_layers=1, num_labels=2, **SIZES)
    return BertForSequenceClassification(config).eval()


def inputs():
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    return {"input_ids": ids, "labels": torch.tensor([0, 1])}


@pytest.mark.parametrize(("split", "each"), [("train", 376), ("validation", 100), ("test", 100)])
def test_the_tweets_are_short_balanced_and_always_the_same(split, each):
    table = fine_tuning.tweets(split)
    assert list(table.columns) == ["text", "label"]
    assert table.label.value_counts().to_dict() == {0: each, 1: each}
    assert table.text.str.len().max() <= fine_tuning.LONGEST
    torch.manual_seed(7)  # the order depends on nobody's seed
    assert fine_tuning.tweets(split).equals(table)
    whole = data.sentiment(split).set_index("text")
    assert (whole.loc[table.text, "source"] == "tweets").all()
    assert (whole.loc[table.text, "label"].to_numpy() == table.label.to_numpy()).all()


def test_the_labels_are_mixed():
    """No batch of 16 in the order of the table has one label only, and no text stands twice."""
    table = fine_tuning.tweets("train")
    shares = [table.label[i : i + 16].mean() for i in range(0, 752, 16)]
    assert min(shares) > 0.1 and max(shares) < 0.9
    assert table.text.is_unique
    others = pandas.concat([fine_tuning.tweets("validation"), fine_tuning.tweets("test")])
    assert not set(table.text) & set(others.text)


class Circle:
    """It refers to itself, as a Trainer does."""

    def __init__(self):
        self.itself = self


def test_a_fresh_model_takes_the_place_of_what_was_deleted():
    """Circles are collected, and on Linux what lay in small pieces goes back to the system."""
    circle = weakref.ref(Circle())
    pieces = [bytes(100_000) for _ in range(3000)]  # 300 MB
    full = psutil.Process().memory_info().rss / 1e6
    del pieces[:-1]  # the last one keeps the C library from giving the others back
    fine_tuning.fresh()
    assert circle() is None
    if sys.platform == "linux":
        assert psutil.Process().memory_info().rss / 1e6 < full - 100  # a model of 91 MB came


def test_a_fresh_model_has_always_the_same_head_and_no_other():
    """And the body of MiniLM, in eval mode, whatever was drawn before."""
    one = fine_tuning.fresh()
    torch.rand(3)
    two = fine_tuning.fresh(hidden_dropout_prob=0.25)
    assert torch.equal(one.classifier.weight, two.classifier.weight)
    assert not one.training and one.dtype == torch.float32
    assert (one.config.hidden_dropout_prob, two.config.hidden_dropout_prob) == (0.1, 0.25)
    body = AutoModel.from_pretrained(llmlab.models.path("minilm"), dtype=torch.float32)
    for name, tensor in body.state_dict().items():
        assert torch.equal(tensor, one.bert.state_dict()[name]), name


def test_right_counts_the_answers_of_all_parts():
    """120 texts: three parts. A head that always says 1 is right where the label is 1."""
    model = fine_tuning.fresh()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    rows = fine_tuning.tweets("validation")[:120]
    assert fine_tuning.right(model, rows) == rows.label.sum()


def test_an_unknown_split_is_said():
    with pytest.raises(llmlab.LabError, match="There are: train, validation, test"):
        fine_tuning.tweets("dev")


def test_a_batch_is_padded_and_holds_its_labels():
    tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("minilm"))
    rows = pandas.DataFrame(
        {"text": ["Fine.", "What a day it was."], "label": [1, 0]}, index=[7, 3]
    )
    batch = fine_tuning.encode(rows, tokenizer)
    assert batch.labels.tolist() == [1, 0]
    assert batch.attention_mask.sum(dim=1).tolist() == [4, 8]
    assert batch.input_ids.shape == (2, 8)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pandas.DataFrame({"text": [], "label": []}), "no row"),
        (pandas.DataFrame({"text": ["a"]}), "no column 'label'"),
        (pandas.DataFrame({"review": ["a"], "label": [1]}), "no column 'text'"),
    ],
)
def test_a_table_without_what_a_batch_needs_is_said(rows, words):
    with pytest.raises(llmlab.LabError, match=words):
        fine_tuning.encode(rows, None)


def test_the_bytes_are_those_of_the_tensors():
    """Adam keeps two numbers a weight and a count of steps, SGD none; a frozen body no slope."""
    model, batch = small(), inputs()
    weights = sum(p.numel() for p in model.parameters()) * 4 / 1e6
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3)
    full = fine_tuning.memory(model, adam, lambda: model(**batch).loss)
    assert full["weights"] == pytest.approx(weights)
    assert full["gradients"] == pytest.approx(weights)
    assert full["optimizer"] == pytest.approx(2 * weights, rel=0.01)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3)
    assert fine_tuning.memory(model, sgd, lambda: model(**batch).loss)["optimizer"] == 0
    model.bert.requires_grad_(False)
    model.zero_grad()
    head = torch.optim.AdamW(model.classifier.parameters(), lr=1e-3)
    less = fine_tuning.memory(model, head, lambda: model(**batch).loss)
    assert less["gradients"] == pytest.approx(34 * 4 / 1e6)
    assert less["activations"] < full["activations"] / 10


def test_the_activations_grow_with_the_batch():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0)
    one = fine_tuning.memory(model, optimizer, lambda: model(**inputs()).loss)
    twice = {name: torch.cat([x, x]) for name, x in inputs().items()}
    two = fine_tuning.memory(model, optimizer, lambda: model(**twice).loss)
    assert 1.5 * one["activations"] < two["activations"] <= 2 * one["activations"]
    assert two["gradients"] == one["gradients"]


def test_the_activations_of_a_product_are_counted_exactly():
    """Of x @ w the backward pass needs x (w is a weight and kept anyway)."""
    w = torch.nn.Linear(100, 1, bias=False)
    x = torch.randn(50, 100)
    optimizer = torch.optim.SGD(w.parameters(), lr=0)
    step = fine_tuning.memory(w, optimizer, lambda: w(x).sum())
    assert step["activations"] * 1e6 == 50 * 100 * 4


def test_the_cost_is_a_row_and_leaves_the_model_as_it_was():
    model = small()
    before = [p.clone() for p in model.parameters()]
    row = fine_tuning.cost(model, inputs())
    assert list(row) == [
        "trainable", "weights, MB", "gradients, MB", "optimizer, MB", "activations, MB", "a step",
    ]  # fmt: skip
    assert row["trainable"] == f"{model.num_parameters():,}"
    assert re.fullmatch(r"\d+\.\d\d s", row["a step"])  # the unit lets the sanitizer blank it
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_quiet_is_quiet_and_gives_back_what_was(capsys):
    from transformers.utils import logging

    before = logging.get_verbosity()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with fine_tuning.quiet():
            warnings.warn("not now", stacklevel=1)
            logging.get_logger("transformers").warning("nor this")
        assert not heard
        warnings.warn("now", stacklevel=1)
        assert len(heard) == 1
    assert logging.get_verbosity() == before
    with pytest.raises(ValueError), fine_tuning.quiet():
        raise ValueError
    assert logging.get_verbosity() == before
    assert "nor this" not in capsys.readouterr().err
