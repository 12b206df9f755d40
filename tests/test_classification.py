"""Classification: tables that equal transformers' own numbers, and many texts without loss."""

import copy
import csv
import errno
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    pipeline,
)

import llmlab
from llmlab import LabError, classification, streams
from llmlab.classification import calibration, calibration_error, classify_many, occlusion

NAMES = {0: "NEGATIVE", 1: "POSITIVE", 2: "OTHER"}
WORDS = re.findall(r"\S+", "the film was not a good bad great awful thing I don't like at all !")
ADDED = ["predicted", "probability", "truncated", "problem"]


def small_classifier(seed=0):
    """A classifier with random weights: 2 layers, 3 labels, 40 tokens."""
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40, num_labels=3, id2label=NAMES, initializer_range=0.5,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():  # no label is far ahead of the others for all texts
        ids = torch.randint(1000, 20_000, (200, 12))
        ids[:, 0], ids[:, -1] = 101, 102  # [CLS], [SEP]
        model.classifier.bias -= model(input_ids=ids).logits.mean(0)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("minilm"))


@pytest.fixture(scope="module")
def model():
    return small_classifier()


def some_texts(count, longest=30, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


def one_by_one(model, tokenizer, texts):
    """Probabilities (text, label), each text alone."""
    with torch.no_grad():
        return torch.cat([
            model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=40))
            .logits.softmax(-1)
            for text in texts
        ])  # fmt: skip


# ---- tables -------------------------------------------------------------------------------------


def test_the_probabilities_are_those_of_each_text_alone_and_of_the_pipeline(model, tokenizer):
    texts = some_texts(70, longest=20)
    table = classification.probabilities(model, tokenizer, texts)
    assert list(table.columns) == ["text", "predicted", *NAMES.values()]
    assert table["text"].tolist() == texts
    alone = one_by_one(model, tokenizer, texts)
    np.testing.assert_allclose(table[list(NAMES.values())], alone, atol=1e-5)
    answers = pipeline("text-classification", model=model, tokenizer=tokenizer)(texts)
    assert table["predicted"].tolist() == [answer["label"] for answer in answers]
    assert len(set(table["predicted"])) > 1  # or the comparison would prove little


def test_labels_that_do_not_exclude_each_other_get_a_sigmoid_as_in_the_pipeline(model, tokenizer):
    several = copy.deepcopy(model)
    several.config.problem_type = "multi_label_classification"
    table = classification.probabilities(several, tokenizer, ["a good film"])
    pipe = pipeline("text-classification", model=several, tokenizer=tokenizer, top_k=None)
    (scores,) = pipe(["a good film"])
    for answer in scores:
        assert table[answer["label"]].item() == pytest.approx(answer["score"], abs=1e-5)


def test_the_model_is_left_in_the_mode_it_was_in(tokenizer):
    model = small_classifier()
    model.train()
    model.bert.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    first = classification.probabilities(model, tokenizer, ["a good film"])
    second = classification.probabilities(model, tokenizer, ["a good film"])
    assert first.equals(second)  # no dropout
    with pytest.raises(LabError):
        occlusion(model, tokenizer, "a film", target="NONE")
    assert [module.training for module in model.modules()] == modes


def test_labels_become_ids_and_wrong_ones_are_named_with_their_rows(model):
    assert classification.label_ids(model, ["POSITIVE", 0, np.int64(2), 1.0]) == [1, 0, 2, 1]
    assert classification.label_ids(model, torch.tensor([2, 1])) == [2, 1]
    with pytest.raises(LabError) as error:
        classification.label_ids(model, ["POSITIVE", "positive", "positive", 7, None])
    assert str(error.value) == (
        "The model has no label 'positive' (rows 1, 2), 7 (row 3), None (row 4). Did you mean "
        "'POSITIVE'? Its labels: NEGATIVE (0), POSITIVE (1), OTHER (2)."
    )
    with pytest.raises(LabError, match="This is one label, 'POSITIVE'"):
        classification.label_ids(model, "POSITIVE")


def test_the_worst_mistakes_are_the_surest():
    table = pandas.DataFrame(
        {"text": list("abcd"), "predicted": ["N", "P", "P", "P"],
         "N": [0.8, 0.4, 0.1, 0.01], "P": [0.2, 0.6, 0.9, 0.99]}
    )  # fmt: skip
    worst = classification.worst(table, ["P", "N", 0, "P"], k=2)
    assert worst.to_dict("index") == {
        2: {"text": "c", "label": "N", "predicted": "P", "probability": 0.9},
        0: {"text": "a", "label": "P", "predicted": "N", "probability": 0.8},
    }
    with pytest.raises(LabError, match="4 texts but 3 labels"):
        classification.worst(table, ["P", "N", 0])
    with pytest.raises(LabError, match=r"no label 'X' \(row 1\)"):
        classification.worst(table, ["P", "X", 0, 0])
    with pytest.raises(LabError, match=r"the table that classification\.probabilities returns"):
        classification.worst(table[["N", "P"]], [0] * 4)


def test_calibration_by_hand():
    table = calibration([0.6, 0.6000001, 0.62, 1.0, 0.0], [1, 0, True, 1, 0], bins=5)
    assert table["from"].tolist() == [0.0, 0.4, 0.6, 0.8]
    assert table["count"].tolist() == [1, 2, 1, 1]
    assert table["accuracy"].tolist() == [0, 0.5, 1, 1]
    by_hand = (1 * 0 + 2 * 0.1 + 1 * 0.38 + 1 * 0) / 5
    assert calibration_error(table) == pytest.approx(by_hand, abs=1e-6)


def test_the_calibration_error_finds_a_model_that_is_too_sure():
    """Right in 0.7 p of the cases: the gap is 0.3 p, about 0.225 on average over 0.5…1."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    honest = calibration(sure, rng.random(20_000) < sure)
    too_sure = calibration(sure, rng.random(20_000) < 0.7 * sure)
    assert calibration_error(honest) < 0.01
    assert calibration_error(too_sure) == pytest.approx(0.225, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration([0.5], [True, False]), "1 probabilities and 2 answers"),
        (lambda: calibration([], []), "at least one text"),
        (lambda: calibration([2.5], [True]), "between 0 and 1. Are these logits"),
        (lambda: calibration([float("nan")], [True]), "between 0 and 1"),
        (lambda: calibration([0.5], [True], bins=0), "bins must be a whole number"),
    ],
)
def test_what_has_no_calibration_is_said(call, message):
    with pytest.raises(LabError, match=message):
        call()


# ---- which model --------------------------------------------------------------------------------

SIZE = {"n_layer": 1, "n_head": 2, "n_embd": 32, "vocab_size": 30522}


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: GPT2LMHeadModel(GPT2Config(**SIZE)), "GPT2LMHeadModel predicts the next token"),
        (lambda: BertModel(small_classifier().config), "BertModel has no head that gives labels"),
        (
            lambda: BertForTokenClassification(small_classifier().config),
            "BertForTokenClassification gives a label to each token",
        ),
        (lambda: "minilm-sentiment", "A model was expected, not 'minilm-sentiment'. Load it"),
    ],
)
def test_a_model_that_is_no_classifier_is_told_apart(made, what, tokenizer):
    other = made()
    for call in (classification.probabilities, classify_many):
        with pytest.raises(LabError, match=what):
            call(other, tokenizer, ["a text"])
    with pytest.raises(LabError, match=r"AutoModelForSequenceClassification\.from_pretrained"):
        occlusion(other, tokenizer, "a text")


def test_a_decoder_that_classifies_needs_to_know_the_padding(tokenizer):
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(GPT2Config(**SIZE, num_labels=3, id2label=NAMES)).eval()
    texts = some_texts(20, longest=9)
    with pytest.raises(LabError, match=r"The model takes token None for padding, the tokenizer 0"):
        classify_many(model, tokenizer, texts)
    alone = classify_many(model, tokenizer, texts, batch_size=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    together = classify_many(model, tokenizer, texts)
    assert together["predicted"].equals(alone["predicted"])
    np.testing.assert_allclose(together["probability"], alone["probability"], atol=1e-5)


def test_a_head_that_was_never_trained_is_suspected(tmp_path, tokenizer, capsys):
    plain = small_classifier()
    BertModel(plain.config).save_pretrained(tmp_path / "body")
    plain.save_pretrained(tmp_path / "whole")
    load = BertForSequenceClassification.from_pretrained
    for folder, names, suspected in [
        ("body", None, True), ("body", NAMES, False), ("whole", None, False),
    ]:  # fmt: skip
        names = names or {i: f"LABEL_{i}" for i in range(3)}
        model = load(tmp_path / folder, id2label=names)
        capsys.readouterr()
        classify_many(model, tokenizer, ["a text"])
        assert ("Until it is trained" in capsys.readouterr().out) is suspected, folder


# ---- occlusion ----------------------------------------------------------------------------------

TEXT = "I don't like unbelievable films!"


def by_hand(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_leaving_out_a_token_is_what_it_is_by_hand(model, tokenizer):
    table = occlusion(model, tokenizer, TEXT, target="POSITIVE")
    ids = tokenizer(TEXT)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert table.index.tolist() == list(range(1, len(ids) - 1))  # without [CLS] and [SEP]
    assert table["token"].tolist() == tokens[1:-1]
    whole = by_hand(model, ids)
    assert table.attrs["probability"] == pytest.approx(whole.softmax(-1)[1].item(), abs=1e-5)
    for position, row in table.iterrows():
        without = by_hand(model, ids[:position] + ids[position + 1 :])
        probability = without.softmax(-1)[1].item()
        assert row["probability"] == pytest.approx(probability, abs=1e-5)
        assert row["effect"] == pytest.approx(table.attrs["probability"] - probability, abs=1e-5)
        assert row["logit_effect"] == pytest.approx((whole - without)[1].item(), abs=1e-4)


def test_a_replacement_keeps_the_positions(model, tokenizer):
    table = occlusion(model, tokenizer, TEXT, replacement="[MASK]")
    ids = tokenizer(TEXT)["input_ids"]
    target = int(by_hand(model, ids).argmax())
    assert table.attrs["label"] == NAMES[target]
    for position, row in table.iterrows():
        masked = [*ids[:position], tokenizer.mask_token_id, *ids[position + 1 :]]
        probability = by_hand(model, masked).softmax(-1)[target].item()
        assert row["probability"] == pytest.approx(probability, abs=1e-5)


def test_a_word_is_left_out_with_all_its_tokens(model, tokenizer):
    table = occlusion(model, tokenizer, "I don't like unbelievability!", unit="word", target=0)
    assert table["word"].tolist() == ["I", "don't", "like", "unbelievability", "!"]
    ids = tokenizer("I don't like unbelievability!")["input_ids"]
    dont = slice(2, 5)  # don ' t
    assert tokenizer.convert_ids_to_tokens(ids)[dont] == ["don", "'", "t"]
    assert table.index.tolist()[:3] == [1, 2, 5]
    without = by_hand(model, ids[:2] + ids[5:]).softmax(-1)[0].item()
    assert table.loc[2, "probability"] == pytest.approx(without, abs=1e-5)


def test_words_and_deletion_work_with_byte_level_tokens_too():
    gpt2 = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    config = GPT2Config(**(SIZE | {"vocab_size": len(gpt2)}), num_labels=3, id2label=NAMES)
    model = GPT2ForSequenceClassification(config).eval()
    model.config.pad_token_id = gpt2.eos_token_id
    gpt2.pad_token = gpt2.eos_token
    table = occlusion(model, gpt2, "I don't like it", unit="word")
    assert table["word"].tolist() == ["I", "don't", "like", "it"]
    with pytest.raises(LabError, match="Without its only token nothing is left"):
        occlusion(model, gpt2, "I")
    assert len(occlusion(model, gpt2, "I", replacement="<|endoftext|>")) == 1


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("  ", {}, "nothing to leave out: the text is empty"),
        (None, {}, "nothing to leave out: there is no text"),
        ("a", {"unit": "letter"}, "unit is 'token' or 'word', not 'letter'"),
        ("a", {"target": "GOOD"}, r"no label 'GOOD'.*Its labels: NEGATIVE \(0\)"),
        ("a", {"target": 3}, r"no label 3"),
        ("a", {"replacement": "[MUSK]"}, r"no token '\[MUSK\]'.* special tokens: .*\[MASK\]"),
    ],
)
def test_what_can_not_be_left_out_is_said(model, tokenizer, text, options, message):
    with pytest.raises(LabError, match=message):
        occlusion(model, tokenizer, text, **options)


def test_a_text_past_the_context_is_cut_and_that_is_said(model, tokenizer, capsys):
    table = occlusion(model, tokenizer, "good " * 100)
    assert len(table) == 38
    assert "Of 1 text 1 was longer than 40 tokens and cut." in capsys.readouterr().out
    occlusion(model, tokenizer, "good " * 38)  # just fits
    assert capsys.readouterr().out == ""


# ---- explain ------------------------------------------------------------------------------------


def test_an_explanation_says_label_probabilities_and_word_effects(model, tokenizer):
    view = classification.explain(model, tokenizer, TEXT)
    table = classification.probabilities(model, tokenizer, [TEXT])
    effects = occlusion(model, tokenizer, TEXT, unit="word")
    label = table["predicted"].item()
    assert view.text.startswith(f"{label} {table[label].item():.3f} (")
    best = effects.loc[effects["effect"].abs().idxmax()]
    assert f"{best['word']} {best['effect']:+.3f}".replace("-", "−") in view.text
    assert view.text.replace("'", "&#x27;") in view.html  # the same sentence below the picture
    for word in effects["word"]:
        assert f">{word}</code>".replace("'", "&#x27;") in view.html


def test_the_colours_of_words_read_in_light_and_dark_and_signs_say_the_same():
    from llmlab.views.classifier import answer

    view = answer({"<b>": 0.9, "NO": 0.1}, ["<i>", "so", "la"], [0.5, -0.5, 0.0001])
    assert view.text == "<b> 0.900 (NO 0.100). For <b>: <i> +0.500. Against: so −0.500."
    assert "<i>" not in view.html and "&lt;i&gt;" in view.html

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    pairs = re.findall(r"background:(#\w{6});color:(#\w{6})", view.html)
    assert len({background for background, _ in pairs}) == 3
    for background, ink in pairs:
        assert (luminance(background) + 0.05) / (luminance(ink) + 0.05) > 7
    assert re.findall(r'font-size:.75em">([^<]+)<', view.html) == ["+0.500", "−0.500", "0.000"]


def test_the_panel_explains_as_the_function_does(model, tokenizer):
    def explain(text):
        return classification.explain(model, tokenizer, text)

    panel = llmlab.views.live(explain, text="a good film")
    field, result = panel.panel.children
    assert result.value == explain("a good film").html
    field.value = "an awful film"
    assert result.value == explain("an awful film").html
    field.value = " "
    assert "the text is empty" in result.value


# ---- many ---------------------------------------------------------------------------------------


def test_many_are_classified_in_order_as_each_alone(model, tokenizer, monkeypatch):
    monkeypatch.setattr(streams, "PIECE", 32)
    texts = some_texts(100)
    table = classify_many(model, tokenizer, iter(texts), batch_size=8)
    assert list(table.columns) == ["text", *ADDED]
    assert table["text"].tolist() == texts
    highest, ids = one_by_one(model, tokenizer, texts).max(-1)
    assert table["predicted"].tolist() == [NAMES[i] for i in ids.tolist()]
    np.testing.assert_allclose(table["probability"], highest, atol=1e-5)


def test_texts_past_the_context_are_cut_and_counted(model, tokenizer, capsys):
    fits, long = "good " * 38, "good " * 39
    table = classify_many(model, tokenizer, [long, fits, "good", long])
    assert table["truncated"].tolist() == [True, False, False, True]
    assert capsys.readouterr().out == "Of 4 texts 2 were longer than 40 tokens and cut.\n"
    table = classify_many(model, tokenizer, [fits], max_length=12)
    assert table["truncated"].tolist() == [True]
    with pytest.raises(LabError, match="max_length is 41, but the model takes 40 tokens"):
        classify_many(model, tokenizer, [fits], max_length=41)


ODD = ["a film", "", " \n", None, float("nan"), pandas.NA, 7, b"x", "half \ud83d", "good"]


@pytest.mark.parametrize("kind", [None, "csv", "parquet"])
def test_rows_without_a_text_are_kept_and_say_why(model, tokenizer, tmp_path, capsys, kind):
    out = kind and tmp_path / f"out.{kind}"
    table = classify_many(model, tokenizer, ODD, out=out)
    assert "Of 10 texts 8 could not be classified (the column `problem`" in capsys.readouterr().out
    if kind == "csv":
        table = pandas.read_csv(out, keep_default_na=False)
    elif kind == "parquet":
        table = pandas.read_parquet(out)
    problems = table["problem"].tolist()
    assert problems[0] == problems[-1] == ""
    assert problems[1:6] == ["the text is empty"] * 2 + ["there is no text"] * 3
    assert problems[6] == "7 is no text but of type int"
    assert "half a character" in problems[8]
    assert table["predicted"].tolist()[1:-1] == [""] * 8
    assert all(label in NAMES.values() for label in table["predicted"].iloc[[0, -1]])
    if kind is None:
        assert table["text"].iloc[6] == 7  # as it was given
        assert table["probability"].isna().sum() == 8


def test_no_texts_make_an_empty_table(model, tokenizer, tmp_path):
    assert list(classify_many(model, tokenizer, []).columns) == ["text", *ADDED]
    for kind, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        path = classify_many(model, tokenizer, iter([]), out=tmp_path / f"o.{kind}")
        assert list(read(path).columns) == ["text", *ADDED]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("a good film", {}, "'a good film' is one text, or a file that is not .csv"),
        (Path("a.txt"), {}, r"a\.txt is not \.csv, \.tsv or \.parquet"),
        ("none.csv", {}, r"There is no file none\.csv"),
        (7, {}, "Several texts were expected, not int"),
        (["a"], {"column": "text"}, "these are texts already"),
        (["a"], {"batch_size": 0}, "batch_size must be"),
        (["a"], {"max_length": "long"}, "max_length must be a whole number"),
        (["a"], {"out": "x.txt"}, "ends in .csv or .parquet, and x.txt is not"),
        (["a"], {"out": "nowhere/x.csv"}, "nowhere must be a folder that exists"),
    ],
)
def test_what_can_not_be_classified_is_said(model, tokenizer, texts, options, message):
    with pytest.raises(LabError, match=message):
        classify_many(model, tokenizer, texts, **options)


# ---- files --------------------------------------------------------------------------------------

HARD = ['a "quoted" film', "two\nlines", "one\rreturn", "a\r\nb", "comma, here", " NA ", "naïve 😀"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_texts_survive_the_way_into_a_file_and_back(model, tokenizer, tmp_path, kind):
    first = classify_many(model, tokenizer, HARD, out=tmp_path / f"first.{kind}")
    if kind == "csv":
        with first.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["text"] for row in rows] == HARD
    else:
        assert pandas.read_parquet(first)["text"].tolist() == HARD
    renamed = tmp_path / f"second.{kind}"  # the results' texts as an input: read as they were
    if kind == "csv":
        pandas.DataFrame({"review": HARD}).to_csv(renamed, index=False, lineterminator="\r\n")
    else:
        pandas.DataFrame({"review": HARD}).to_parquet(renamed)
    again = classify_many(model, tokenizer, renamed)
    assert again["review"].tolist() == HARD
    assert (
        again["predicted"].tolist() == classify_many(model, tokenizer, HARD)["predicted"].tolist()
    )


def test_all_columns_of_a_csv_are_kept_as_they_stand(model, tokenizer, tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b'\xef\xbb\xbfid;review;note\r\n007;"a; film";NA\r\n\r\n8;;1.50\r\n')
    out = classify_many(model, tokenizer, path, column="review", out=tmp_path / "out.csv")
    with out.open(encoding="utf-8", newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["id", "review", "note", *ADDED]
    assert first[:3] == ["007", "a; film", "NA"]
    assert second == ["8", "", "1.50", "", "", "False", "the text is empty"]


def test_all_columns_of_a_parquet_file_keep_their_types(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "PIECE", 4)
    texts = [*some_texts(9), None]
    frame = pandas.DataFrame({"id": range(10), "text": texts, "n": [1, None] * 5})
    frame["n"] = frame["n"].astype("Int64")
    frame.to_parquet(tmp_path / "in.parquet")
    out = classify_many(model, tokenizer, tmp_path / "in.parquet", out=tmp_path / "out.parquet")
    table = pandas.read_parquet(out)
    assert table["id"].tolist() == list(range(10)) and table["id"].dtype == "int64"
    assert table["n"].isna().tolist() == [False, True] * 5
    expected = classify_many(model, tokenizer, texts)
    assert table["predicted"].tolist() == expected["predicted"].tolist()
    assert classify_many(model, tokenizer, frame)["predicted"].equals(expected["predicted"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"id,review\n1,a\n", {"column": "Reviews"}, r"no column 'Reviews' in .*in\.csv\. Did you "
         r"mean 'review'\? It has: id, review\."),
        (b"id,review\n1,a\n", {}, r"Which column of .* holds the texts\? .* It has: id, review"),
        (b"", {}, r"is empty: there is no line with the columns' names"),
        (b"id,text,id\n1,a,2\n", {}, r"two columns called 'id'"),
        (b"id,text\n1,a\n2,b, c\n", {}, r"ends on line 3 of .* has 3 fields, the header 2"),
        (b'id,text\n1,a\n2,"b\n', {}, r"can't be read past line 3.*opened there and not closed"),
        (b"text\nok\ncaf\xe9\n", {}, r"Line 3 of .* is not utf-8: byte 0xE9\. .*encoding='cp1252'"),
        (b"text\ncaf\xc3\xa9\ncaf\xe9\nbr\xfbl\xe9\n", {}, r"Line 3 .* byte 0xE9 \(and 1 more "
         r"lines\)\. 1 other lines .* are utf-8, so the file mixes encodings: mend"),
        ("text\ncafé\n".encode("utf-16"), {}, r"is not utf-8 but UTF-16: add encoding='utf-16'"),
        (b"text\na\n", {"encoding": "utf8000"}, r"Python knows no encoding 'utf8000'"),
        (b"text,predicted\na,b\n", {}, r"The column 'predicted' is there already"),
    ],
)  # fmt: skip
def test_a_csv_that_can_not_be_read_is_told_why_before_anything_is_written(
    model, tokenizer, tmp_path, content, options, message
):
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    with pytest.raises(LabError, match=message):
        classify_many(model, tokenizer, path, out=tmp_path / "out.csv", **options)
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8", "utf-8-sig"])
def test_a_csv_in_another_encoding_is_read_when_it_is_named(model, tokenizer, tmp_path, encoding):
    (tmp_path / "in.csv").write_bytes("text\na café\n".encode(encoding))
    table = classify_many(model, tokenizer, tmp_path / "in.csv", encoding=encoding)
    assert table["text"].tolist() == ["a café"]


def test_a_parquet_file_that_is_none_or_lacks_the_library(model, tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(LabError, match="no whole Parquet file"):
        classify_many(model, tokenizer, path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(LabError, match="Parquet needs the library pyarrow: pip install pyarrow"):
        classify_many(model, tokenizer, path)
    with pytest.raises(LabError, match="pip install pyarrow"):
        classify_many(model, tokenizer, ["a"], out=tmp_path / "out.parquet")


# ---- interruptions ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words_only():
    """A tokenizer of few words: quick to make a digest of."""
    words = ["[PAD]", "[UNK]", *dict.fromkeys(WORDS)]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_max_length=40
    )


class Killed(BaseException):
    """What no code catches: the process is gone."""


@pytest.fixture
def passes(model, monkeypatch):
    """How many texts went through the model."""
    seen = []
    forward = model.forward

    def counted(input_ids=None, **others):
        seen.extend(range(len(input_ids)))
        return forward(input_ids=input_ids, **others)

    monkeypatch.setattr(model, "forward", counted)
    return seen


def dying(monkeypatch, after):
    """Let the process die after so many bytes were written, in the middle of a write.

    Renaming and removing cost a byte each, so that it also dies right before each of them.
    """
    left = [after]
    write, rename, unlink = Path.write_bytes, Path.replace, Path.unlink

    def spend(count):
        left[0] -= count
        return left[0] < 0

    def write_bytes(self, data):
        if spend(len(data)):
            write(self, data[: left[0] + len(data)])
            raise Killed
        return write(self, data)

    def copyfileobj(source, target, length=0):
        data = source.read()
        if spend(len(data)):
            target.write(data[: left[0] + len(data)])
            raise Killed
        target.write(data)

    def step(do):
        def doing(self, *args, **options):
            if spend(1):
                raise Killed
            return do(self, *args, **options)

        return doing

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    monkeypatch.setattr(shutil, "copyfileobj", copyfileobj)
    monkeypatch.setattr(Path, "replace", step(rename))
    monkeypatch.setattr(Path, "unlink", step(unlink))
    return left


def test_after_a_death_at_any_byte_only_the_rest_is_done_and_nothing_is_lost(
    model, words_only, tmp_path, monkeypatch, passes
):
    monkeypatch.setattr(streams, "PIECE", 5)
    texts = some_texts(18)
    whole = classify_many(model, words_only, texts, out=tmp_path / "whole.csv").read_bytes()
    with monkeypatch.context() as patch:
        left = dying(patch, 10**9)
        classify_many(model, words_only, texts, out=tmp_path / "again.csv")
        size = 10**9 - left[0]
    assert size > 2 * len(whole)  # pieces, output, notes: all of it is counted
    positions = sorted({0, 1, size - 1, *random.Random(0).sample(range(size), 30)})
    for place in positions:
        out = tmp_path / f"{place}.csv"
        with monkeypatch.context() as patch, pytest.raises(Killed):
            dying(patch, place)
            classify_many(model, words_only, texts, out=out)
        assert not out.exists() or out.read_bytes() == whole  # never a torn output
        done = len(list(tmp_path.glob(f"{place}.csv.part/*-*.csv")))
        kept = sum(5 if number < 3 else 3 for number in range(done))
        passes.clear()
        classify_many(model, words_only, texts, out=out)
        assert out.read_bytes() == whole, place
        assert len(passes) == 18 - kept, place
        left_over = sorted(file.name for file in tmp_path.glob(f"{place}.csv*"))
        assert left_over == [f"{place}.csv", f"{place}.csv.about.json"], place


def test_a_real_kill_in_the_middle_and_going_on(tokenizer, tmp_path, monkeypatch):
    """Another process, killed with no chance to tidy up after its third piece."""
    model = small_classifier()
    model.save_pretrained(tmp_path / "model")
    code = f"""
        import os, signal
        from transformers import AutoTokenizer, BertForSequenceClassification
        import llmlab
        from llmlab import classification, streams
        streams.PIECE = 5
        def texts():
            for number in range(40):
                if number == 17:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield f"text number {{number}}"
        classification.classify_many(
            BertForSequenceClassification.from_pretrained({str(tmp_path / "model")!r}),
            AutoTokenizer.from_pretrained(llmlab.models.path("minilm")),
            texts(), out={str(tmp_path / "out.parquet")!r},
        )
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert len(list(tmp_path.glob("out.parquet.part/*-*.parquet"))) == 3
    monkeypatch.setattr(streams, "PIECE", 5)
    texts = [f"text number {number}" for number in range(40)]
    out = classify_many(model, tokenizer, iter(texts), out=tmp_path / "out.parquet")
    table = pandas.read_parquet(out)
    expected = classify_many(model, tokenizer, texts)
    assert table["text"].tolist() == texts
    assert table["predicted"].tolist() == expected["predicted"].tolist()
    np.testing.assert_allclose(table["probability"], expected["probability"], atol=1e-5)


def broken(texts, after):
    yield from texts[:after]
    raise ConnectionError("the line is dead")


def test_an_error_in_the_stream_of_texts_is_its_own_and_what_was_done_is_kept(
    model, words_only, tmp_path, monkeypatch, passes
):
    monkeypatch.setattr(streams, "PIECE", 5)
    texts, out = some_texts(12), tmp_path / "out.csv"
    with pytest.raises(ConnectionError):
        classify_many(model, words_only, broken(texts, 7), out=out)
    passes.clear()
    classify_many(model, words_only, texts, out=out)
    assert len(passes) == 7


def test_a_full_disk_is_said_and_the_next_call_goes_on(
    model, words_only, tmp_path, monkeypatch, passes
):
    monkeypatch.setattr(streams, "PIECE", 5)
    texts, out = some_texts(12), tmp_path / "out.csv"
    write = Path.write_bytes

    def full(self, data):
        if self.name.startswith("000001"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(LabError, match=r"No space left on device. What was done is kept in .*"):
            classify_many(model, words_only, texts, out=out)
    passes.clear()
    classify_many(model, words_only, texts, out=out)
    assert len(passes) == 7


def test_done_is_done_and_the_sentence_comes_again(model, words_only, tmp_path, passes, capsys):
    texts = ["good", "", "good " * 60]
    out = classify_many(model, words_only, texts, out=tmp_path / "out.csv")
    first, content = capsys.readouterr().out, out.read_bytes()
    passes.clear()
    assert classify_many(model, words_only, texts, out=str(out)) == out
    assert passes == []
    assert capsys.readouterr().out == first != ""
    assert out.read_bytes() == content
    about = json.loads((tmp_path / "out.csv.about.json").read_text())
    assert about["model"].startswith("BertForSequenceClassification ")


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "complete"])
def test_results_of_other_texts_models_or_settings_are_never_mixed(
    words_only, tmp_path, monkeypatch, begun
):
    monkeypatch.setattr(streams, "PIECE", 5)
    model, texts, out = small_classifier(), some_texts(12), tmp_path / "out.csv"
    if begun:
        with pytest.raises(ConnectionError):
            classify_many(model, words_only, broken(texts, 10), out=out)
    else:
        classify_many(model, words_only, texts, out=out)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    other = copy.deepcopy(model)
    other.classifier.bias.data[0] += 1e-3
    renamed = copy.deepcopy(model)
    renamed.config.id2label = {0: "a", 1: "b", 2: "c"}
    changed = ["x", *texts[1:]]
    for call, message in [
        (lambda: classify_many(other, words_only, texts, out=out), "made with another model, so"),
        (lambda: classify_many(renamed, words_only, texts, out=out), "another model"),
        (lambda: classify_many(model, words_only, texts, out=out, max_length=9), "max_length"),
        (
            lambda: classify_many(model, words_only, changed, out=out),
            r"other texts .*from row 0 on",
        ),
        (lambda: classify_many(model, words_only, texts[:4], out=out), "texts than these"),
    ]:
        with pytest.raises(LabError, match=message):
            call()
    if not begun:
        with pytest.raises(LabError, match="texts than these"):
            classify_many(model, words_only, [*texts, "one more"], out=out)
    assert {file: file.read_bytes() for file in before} == before
    classify_many(model, words_only, texts, out=out, batch_size=2)  # that changes no answer
    assert len(pandas.read_csv(out)) == 12


def test_a_file_that_lies_there_is_not_overwritten(model, words_only, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\na film\n")
    with pytest.raises(LabError, match="out= is the file of the texts"):
        classify_many(model, words_only, texts, out=texts)
    mine = tmp_path / "mine.csv"
    mine.write_text("my own work")
    with pytest.raises(LabError, match=r"There is a .*mine.csv already. Choose another out="):
        classify_many(model, words_only, texts, out=mine)
    assert mine.read_text() == "my own work"
    out = classify_many(model, words_only, texts, out=tmp_path / "out.csv")
    out.write_text(out.read_text() + "a line of my own\n")
    with pytest.raises(LabError, match=r"There is a .*out\.csv already"):
        classify_many(model, words_only, texts, out=out)


def test_two_do_not_write_one_file(model, words_only, tmp_path):
    (tmp_path / "out.csv.part").mkdir()
    with (
        FileLock(tmp_path / "out.csv.part" / "lock"),
        pytest.raises(LabError, match="Another process is writing"),
    ):
        classify_many(model, words_only, ["a"], out=tmp_path / "out.csv")


class Counted(str):
    """A text that knows how many of its kind are alive."""

    alive = most = 0

    def __new__(cls, text):
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)
        return super().__new__(cls, text)

    def __del__(self):
        Counted.alive -= 1


def test_a_long_stream_is_not_kept_in_memory(model, words_only, tmp_path, monkeypatch):
    """Of 1,500 texts never more than a few pieces of 50 are alive, and no result is."""
    monkeypatch.setattr(streams, "PIECE", 50)
    Counted.alive = Counted.most = 0
    texts = (Counted(f"text number {number} of many") for number in range(1500))
    out = classify_many(model, words_only, texts, out=tmp_path / "out.csv")
    assert len(pandas.read_csv(out)) == 1500
    assert 50 <= Counted.most <= 200


def test_the_shipped_classifier_answers_as_the_pipeline_does():
    path = llmlab.models.path("minilm-sentiment")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = BertForSequenceClassification.from_pretrained(path, dtype=torch.float32)
    texts = ["The panoramic view of the ocean was breathtaking.", "This movie is terrible!"]
    answers = pipeline("text-classification", model=model, tokenizer=tokenizer)(texts)
    table = classify_many(model, tokenizer, texts)
    assert table["predicted"].tolist() == ["POSITIVE", "NEGATIVE"]
    np.testing.assert_allclose(table["probability"], [a["score"] for a in answers], atol=1e-4)
    effects = occlusion(model, tokenizer, texts[1], unit="word")
    assert effects.loc[effects["effect"].idxmax(), "word"] == "terrible"
