"""From logits to labels: what a classifier says, how sure it is, and because of which words.

Everything here takes a sequence classifier as `AutoModelForSequenceClassification` loads it.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmlab import batches, streams
from llmlab.errors import LabError

if TYPE_CHECKING:
    from llmlab.views import View

# A word with what an apostrophe joins to it (don't), or one sign.
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_ADDED = ["predicted", "probability", "truncated", "problem"]


def probabilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> pandas.DataFrame:
    """What the classifier says to each text: the softmax of its logits, in batches.

    (For a model with several labels a text, the sigmoid of each, as transformers' pipeline does.)

    Args:
        model: a sequence classifier. Dropout is off meanwhile; it is left as it was.
        tokenizer: its tokenizer.
        texts: strings. Texts longer than the model's context are cut, and it is said how many.

    Returns:
        A row a text, in the order given: `text`, `predicted` (the label with the highest
        probability), and a column of probabilities for each label, under the label's name.

    Raises:
        LabError: the model is no classifier; a text is none, or empty.
    """
    labels = _labels(model)
    if isinstance(texts, (str, bytes)):
        raise LabError("This is one text; several were expected. Put it into a list: [text].")
    texts = list(texts)
    for place, text in enumerate(texts):
        if problem := _problem(text):
            raise LabError(
                f"Text number {place} can't be classified: {problem}. Leave it out, or use "
                "classify_many, which keeps its row and says so."
            )
    table = torch.empty(len(texts), len(labels))
    cut = 0
    for indices, probs, truncated in _batches(model, tokenizer, texts, 32, None):
        table[indices] = probs
        cut += sum(truncated)
    if cut:
        print(_notice(len(texts), cut, 0, _limit(model, tokenizer, None)))
    predicted = [labels[i] for i in table.argmax(-1).tolist()] if texts else []
    columns = {label: table[:, i].tolist() for i, label in enumerate(labels)}
    return pandas.DataFrame({"text": texts, "predicted": predicted, **columns})


def label_ids(model: PreTrainedModel, labels: Iterable[Any]) -> list[int]:
    """The true labels of a data set as the ids that this model uses.

    Args:
        model: a sequence classifier.
        labels: names as in `model.config.id2label`, or ids.

    Returns:
        An id a label.

    Raises:
        LabError: some labels are not among the model's; says which, and where.
    """
    return _ids(_labels(model), labels)


def worst(table: pandas.DataFrame, labels: Iterable[Any], k: int = 10) -> pandas.DataFrame:
    """The mistakes that the classifier was surest of.

    Args:
        table: from `probabilities`.
        labels: the true label of each row, names or ids.
        k: how many to show.

    Returns:
        At most k rows: `text`, `label` (the true one), `predicted`, and the `probability` it gave
        to that, highest first. The index is the row in `table`.

    Raises:
        LabError: the table is another, or the labels don't fit it.
    """
    names = [str(name) for name in table.columns[2:]]
    if list(table.columns[:2]) != ["text", "predicted"] or not names:
        raise LabError("worst needs the table that classification.probabilities returns.")
    true = [names[i] for i in _ids(names, labels)]
    if len(true) != len(table):
        raise LabError(f"{len(table)} texts but {len(true)} labels: one for each is needed.")
    found = pandas.DataFrame(
        {
            "text": table["text"],
            "label": true,
            "predicted": table["predicted"],
            "probability": table[names].max(axis=1),
        }
    )
    wrong = found[found["label"] != found["predicted"]]
    return wrong.sort_values("probability", ascending=False, kind="stable").head(k)


def calibration(
    probabilities: Iterable[float], correct: Iterable[bool], *, bins: int = 10
) -> pandas.DataFrame:
    """Is it right as often as it is sure? Texts sorted into bins by how sure the model was.

    The reliability diagram of Guo et al. 2017 (On calibration of modern neural networks).

    Args:
        probabilities: of the predicted label, one a text.
        correct: whether that label was the right one.
        bins: equal parts of 0…1. A probability on a border belongs to the lower bin.

    Returns:
        A row for each bin with texts in it: `from`, `to`, `count`, `confidence` (mean
        probability), `accuracy` (share that was right).

    Raises:
        LabError: no texts, not as many of both, or numbers that are no probabilities.

    >>> calibration([0.55, 0.95, 0.97, 0.99], [False, True, True, False]).round(2)
       from   to  count  confidence  accuracy
    0   0.5  0.6      1        0.55      0.00
    1   0.9  1.0      3        0.97      0.67
    """
    sure = torch.as_tensor(list(probabilities), dtype=torch.float64)
    right = torch.as_tensor(list(correct), dtype=torch.float64)
    if len(sure) != len(right) or not len(sure):
        raise LabError(
            f"{len(sure)} probabilities and {len(right)} answers right or wrong: at least one "
            "text, and both for each, are needed."
        )
    if not bool(((sure >= 0) & (sure <= 1)).all()):
        raise LabError("Probabilities lie between 0 and 1. Are these logits? Take the softmax.")
    if not isinstance(bins, int) or bins < 1:
        raise LabError(f"bins must be a whole number of at least 1, not {bins!r}.")
    # 6 digits: 0.6 as float32 is 0.60000002 and stands on the border all the same
    place = (sure * bins).round(decimals=6).ceil().clamp(1, bins).long() - 1
    rows = [
        (i / bins, (i + 1) / bins, len(sure[place == i]), sure[place == i].mean().item(),
         right[place == i].mean().item())
        for i in place.unique().tolist()
    ]  # fmt: skip
    return pandas.DataFrame(rows, columns=["from", "to", "count", "confidence", "accuracy"])


def calibration_error(table: pandas.DataFrame) -> float:
    """The gap between confidence and accuracy, averaged over the texts: 0 is perfect.

    The expected calibration error (ECE) of Guo et al. 2017.

    Args:
        table: from `calibration`.

    >>> round(calibration_error(calibration([0.8, 0.8], [True, False])), 3)
    0.3
    """
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["count"]).sum() / table["count"].sum())


def occlusion(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    target: int | str | None = None,
    unit: str = "token",
    replacement: str | None = None,
) -> pandas.DataFrame:
    """Leave out each token in turn and see what becomes of the answer.

    Zeiler and Fergus 2014 (Visualizing and understanding convolutional networks) covered parts of
    a picture; Li, Monroe and Jurafsky 2016 (Understanding neural networks through representation
    erasure) left out words. By default the token is deleted and the rest moves together: what
    remains is a shorter text, and such the model knows. Most classifiers never saw [MASK] or, in
    the middle of a text, [PAD] with a label, so their answer to these says less; but with them
    all other tokens keep their positions.

    Args:
        model: a sequence classifier. Dropout is off meanwhile; it is left as it was.
        tokenizer: its tokenizer.
        text: one text. Past the model's context it is cut, and that is said.
        target: the label (name or id) to watch; by default the one that the model predicts.
        unit: "token", or "word": all tokens of a word at once.
        replacement: a token, such as "[MASK]", to put in its place instead.

    Returns:
        A row a token (special tokens excepted), index `position` among the inputs: `token` (or
        `word`), `probability` of the target without it, `effect` (how much higher the
        probability is with it: positive speaks for the target) and `logit_effect` (the same for
        the target's logit, which still moves where the probability is close to 0 or 1). The
        table's `attrs` hold the whole text's `label`, `probability` and `logit`.

    Time: one forward pass a row, 32 in a batch.

    Raises:
        LabError: the model is no classifier, the text is empty, or there is no such label or token.
    """
    labels = _labels(model)
    if problem := _problem(text):
        raise LabError(f"There is nothing to leave out: {problem}.")
    if unit not in ("token", "word"):
        raise LabError(f"unit is 'token' or 'word', not {unit!r}.")
    limit = _limit(model, tokenizer, None)
    encoded = tokenizer(
        [text],
        truncation=limit is not None,
        max_length=limit,
        return_special_tokens_mask=True,
        return_offsets_mapping=unit == "word",
        verbose=False,
    )
    special = encoded.pop("special_tokens_mask")[0]
    spans = encoded.pop("offset_mapping")[0] if unit == "word" else None
    rows = {name: encoded[name][0] for name in encoded}
    ids = rows["input_ids"]
    if limit is not None and len(ids) == limit and _is_cut(tokenizer, text, limit):
        print(_notice(1, 1, 0, limit))
    groups = _groups(text, ids, special, spans, tokenizer)
    if not groups:
        raise LabError("There is nothing to leave out: the tokenizer makes no token of this text.")
    filler = _token_id(tokenizer, replacement)
    variants = [rows, *(_without(rows, positions, filler) for _, positions in groups)]
    if not variants[-1]["input_ids"]:
        raise LabError("Without its only token nothing is left. Give a replacement='…' for it.")

    order = sorted(range(len(variants)), key=lambda i: -len(variants[i]["input_ids"]))
    logits = torch.empty(len(variants), len(labels))
    with _evaluating(model):
        for first in range(0, len(order), 32):
            some = order[first : first + 32]
            columns = {name: [variants[i][name] for i in some] for name in rows}
            inputs = batches.padded(columns, range(len(some)), tokenizer)
            logits[some] = _logits(model, inputs)
    probs = _probs(model, logits)
    chosen = int(probs[0].argmax()) if target is None else _ids(labels, [target])[0]
    whole, score = probs[0, chosen].item(), logits[0, chosen].item()
    table = pandas.DataFrame(
        {
            unit: [name for name, _ in groups],
            "probability": probs[1:, chosen].tolist(),
            "effect": (probs[0, chosen] - probs[1:, chosen]).tolist(),
            "logit_effect": (logits[0, chosen] - logits[1:, chosen]).tolist(),
        },
        index=pandas.Index([positions[0] for _, positions in groups], name="position"),
    )
    table.attrs.update(label=labels[chosen], probability=whole, logit=score)
    return table


def explain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> "View":
    """What the classifier says to one text, and which words moved it, as coloured text.

    `probabilities` and `occlusion` (by words) of the text, drawn by `views`. In a panel:

        def explain(text):
            return llmlab.classification.explain(model, tokenizer, text)


        llmlab.views.live(explain, text="I don't like it.")

    Raises:
        LabError: as for these two.
    """
    from llmlab.views import classifier  # only here: the tables above need nothing that draws

    table = probabilities(model, tokenizer, [text])
    effects = occlusion(model, tokenizer, text, unit="word")
    probs = {str(label): float(table[label].iloc[0]) for label in table.columns[2:]}
    return classifier.answer(probs, effects["word"], effects["effect"])


def classify_many(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Any,
    *,
    out: str | os.PathLike | None = None,
    column: str | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    encoding: str = "utf-8",
) -> pandas.DataFrame | Path:
    """Classify more texts than one would like to wait for, or than fit in memory.

    The texts are read 1,024 at a time, sorted by length and run in batches, with a progress bar.
    The results come in the order of the texts. With `out` nothing but those 1,024 is kept in
    memory, and after an interruption (a crash, a full disk, the stop button) the same call goes
    on where it was: finished pieces lie in a folder beside `out`, `….part`, until all are there.
    Called once more when all is done, it compares and does nothing. Texts, model or settings that
    differ from those it was begun with are refused. What was made how stands in `….about.json`.

    Args:
        model: a sequence classifier. Dropout is off meanwhile; it is left as it was.
        tokenizer: its tokenizer.
        texts: any iterable of strings; a DataFrame; or the path of a .csv, .tsv or .parquet file.
        out: a .csv or .parquet file to write; None: return a table.
        column: where the texts stand in a DataFrame or file. By default its only column, or "text".
        batch_size: texts a batch.
        max_length: cut texts to so many tokens; by default to the model's context.
        encoding: of a CSV file.

    Returns:
        The path `out`, or a table. A row a text, in their order: `text` (of a DataFrame or a
        file, all its columns), then `predicted` (the label), its `probability` (6 digits),
        `truncated` (whether the text was cut) and `problem`: why a row has no label (an empty
        text, a missing or other value), else "". Such rows are kept; their `predicted` is "".
        If texts were cut or had problems, a sentence says how many.

    Raises:
        LabError: the model is no classifier, a file can't be read, or `out` is something else.
    """
    labels = _labels(model)
    limit = _limit(model, tokenizer, max_length)
    _pads_alike(model, tokenizer, batch_size)
    source = streams.read(texts, column, encoding)
    if taken := [name for name in _ADDED if name in source.columns]:
        raise LabError(
            f"The column {taken[0]!r} is there already, and a column of the results is called so "
            "too. Rename it first. Or is this a file of results?"
        )
    if _looks_untrained(model):
        print(
            f"The head of this {type(model).__name__} seems new: it was loaded from a model without"
            " one, and its labels have no names. Until it is trained, its answers mean nothing."
        )
    # In a notebook tqdm itself does not heed this variable.
    quiet = bool(os.environ.get("TQDM_DISABLE"))
    bar = tqdm(total=source.total, desc="classifying", unit="texts", delay=0.5, disable=quiet)

    def classify(piece: pandas.DataFrame) -> pandas.DataFrame:
        cells = piece[source.column].tolist()
        added = _classified(model, tokenizer, cells, labels, batch_size, limit, bar)
        return pandas.concat([piece, added], axis=1)

    if out is None:
        with bar:
            pieces = [classify(piece) for piece in source.pieces]
        table = pandas.concat(pieces, ignore_index=True) if len(pieces) > 1 else pieces[0]
        rows, cut, odd = (
            len(table),
            int(table["truncated"].sum()),
            int((table["problem"] != "").sum()),
        )
    else:
        path = Path(out).expanduser()
        if isinstance(texts, (str, os.PathLike)) and path.resolve() == Path(texts).resolve():
            raise LabError(f"out= is the file of the texts, {path}. Choose another.")
        settings = _settings(model, tokenizer, limit, source)
        with bar:
            rows, cut, odd = _into(path, source, classify, settings, bar)
    if cut or odd:
        print(_notice(rows, cut, odd, limit))
    return table if out is None else path


def _into(path: Path, source: streams.Source, classify: Any, settings: dict, bar: Any) -> list[int]:
    """Classify the pieces that are not done yet, and join all; rows, how many cut, how many odd."""
    with streams.output(path, settings) as target:
        number = -1
        for number, piece in enumerate(source.pieces):
            digest = streams.digest(piece)
            if target.has(number, digest):
                bar.update(len(piece))
                continue
            done = classify(piece)
            odd = done["problem"] != ""
            # what is no text can't stand in a column of texts; what it was, `problem` says
            done[source.column] = done[source.column].where(~odd, None)
            target.add(number, digest, done, [int(done["truncated"].sum()), int(odd.sum())])
        target.finish(number + 1)
        return target.counts()


def _classified(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cells: list[Any],
    labels: list[str],
    batch_size: int,
    limit: int | None,
    bar: Any,
) -> pandas.DataFrame:
    """The added columns for some cells, in their order."""
    problems = [_problem(cell) for cell in cells]
    places = [place for place, problem in enumerate(problems) if not problem]
    predicted, probability, truncated = (
        [""] * len(cells),
        [float("nan")] * len(cells),
        [False] * len(cells),
    )
    bar.update(len(cells) - len(places))
    texts = [cells[place] for place in places]
    for indices, probs, cut in _batches(model, tokenizer, texts, batch_size, limit):
        highest, chosen = probs.max(-1)
        for index, p, label, was_cut in zip(
            indices, highest.tolist(), chosen.tolist(), cut, strict=True
        ):
            place = places[index]
            predicted[place], probability[place] = labels[label], round(p, 6)
            truncated[place] = was_cut
        bar.update(len(indices))
    return pandas.DataFrame(
        {"predicted": predicted, "probability": probability, "truncated": truncated,
         "problem": problems}
    )  # fmt: skip


def _batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    batch_size: int,
    max_length: int | None,
) -> Iterator[tuple[list[int], Tensor, list[bool]]]:
    """Places, probabilities (batch, label) and whether each was cut, of one batch after another."""
    limit = _limit(model, tokenizer, max_length)
    _pads_alike(model, tokenizer, batch_size)
    ready = batches.by_length(texts, tokenizer, batch_size=batch_size, max_length=limit)
    for indices, inputs in ready:
        # not around the loop: between two batches the model belongs to the caller
        with _evaluating(model):
            probs = _probs(model, _logits(model, inputs))
        lengths = inputs["attention_mask"].sum(-1).tolist()
        cut = [
            length == limit and _is_cut(tokenizer, texts[index], length)
            for index, length in zip(indices, lengths, strict=True)
        ]
        yield indices, probs, cut


# ---- the model ----------------------------------------------------------------------------------


def _labels(model: PreTrainedModel) -> list[str]:
    """The labels' names in the order of the logits.

    Raises:
        LabError: the model is no sequence classifier.
    """
    name = type(model).__name__
    if isinstance(model, str) or not hasattr(model, "config"):
        raise LabError(
            f"A model was expected, not {model!r:.60}. Load it first: "
            "AutoModelForSequenceClassification.from_pretrained(…)."
        )
    if "CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name:
        what = f"{name} predicts the next token, a score for each word of its vocabulary"
    elif "TokenClassification" in name:
        what = f"{name} gives a label to each token, not one to the text"
    elif name.endswith("Model") or "MaskedLM" in name:
        what = f"{name} has no head that gives labels to a text"
    else:
        return [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    raise LabError(
        f"A classifier is needed here, and {what}. Load one with "
        "AutoModelForSequenceClassification.from_pretrained(…), from a folder or a Hub id that was "
        "trained to classify, such as llmlab.models.path('minilm-sentiment')."
    )


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off and no gradients; afterwards each part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def _logits(model: PreTrainedModel, inputs: Any) -> Tensor:
    """Logits (batch, label), float32 on the CPU.

    Raises:
        LabError: the model makes others.
    """
    logits = model(**inputs.to(model.device), return_dict=True).get("logits")
    if logits is None or logits.ndim != 2 or logits.shape[-1] != model.config.num_labels:
        shape = "none" if logits is None else f"of shape {tuple(logits.shape)}"
        raise LabError(
            f"A classifier makes logits of shape (batch, {model.config.num_labels}), one a label; "
            f"those of {type(model).__name__} are {shape}."
        )
    return logits.float().cpu()


def _probs(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """As transformers' pipeline: softmax, or sigmoid where labels don't exclude each other."""
    several = model.config.problem_type == "multi_label_classification"
    return logits.sigmoid() if several or logits.shape[-1] == 1 else logits.softmax(-1)


def _limit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> int | None:
    """How many tokens a text may have; None: no limit known."""
    known = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    # a tokenizer that knows no limit says 10^30
    limit = min((n for n in known if n and 0 < n < 10**9), default=None)
    if max_length is None:
        return limit
    if not isinstance(max_length, int) or max_length < 1:
        raise LabError(f"max_length must be a whole number of at least 1, not {max_length!r}.")
    if limit is not None and max_length > limit:
        raise LabError(f"max_length is {max_length}, but the model takes {limit} tokens at most.")
    return max_length


def _is_cut(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> bool:
    """Whether a text of so many tokens lost some. Asked only where that is possible."""
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"]) > limit


def _pads_alike(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> None:
    """That the model knows the padding of a batch: a decoder looks for the last token before it."""
    own = model.config.pad_token_id
    if batch_size > 1 and own != tokenizer.pad_token_id and not _is_encoder(model):
        raise LabError(
            f"The model takes token {own} for padding, the tokenizer {tokenizer.pad_token_id}, so "
            "in a batch the model would look at the wrong token. Set both: tokenizer.pad_token = "
            "tokenizer.eos_token (if it has none), model.config.pad_token_id = "
            "tokenizer.pad_token_id. Or batch_size=1."
        )


def _is_encoder(model: PreTrainedModel) -> bool:
    """Whether it reads its label off the first token, or off all, and not off the last."""
    return any(hasattr(model, head) for head in ("classifier", "classification_head"))


def _looks_untrained(model: PreTrainedModel) -> bool:
    """Whether the head was probably made anew when the model was loaded.

    Nothing in a loaded model says so for certain. But its config still names the class that the
    files were saved from, and whoever trains a classifier mostly names its labels.
    """
    saved = model.config.architectures or []
    unnamed = all(name == f"LABEL_{i}" for i, name in enumerate(_labels(model)))
    return unnamed and bool(saved) and not any("SequenceClassification" in n for n in saved)


def _settings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    source: streams.Source,
) -> dict[str, Any]:
    """What results depend on, beside the texts; figures of many bytes as a digest."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        weights.update(raw.numpy().data)
    apart = {"transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in apart}
    weights.update(json.dumps(config, sort_keys=True, default=str).encode())
    words: Any = tokenizer.get_vocab()
    if getattr(tokenizer, "is_fast", False):
        words = json.loads(tokenizer.backend_tokenizer.to_str())
        words.pop("truncation", None), words.pop("padding", None)  # what the last call left there
    text = json.dumps(words, sort_keys=True).encode()
    return {
        "model": f"{type(model).__name__} {weights.hexdigest()}",
        "tokenizer": hashlib.blake2b(text, digest_size=16).hexdigest(),
        "max_length": limit,
        "column": source.column,
        "piece": streams.PIECE,
    }


# ---- texts and labels ---------------------------------------------------------------------------


def _problem(cell: Any) -> str:
    """Why this is no text to classify; "" if it is one."""
    if isinstance(cell, str):
        if not cell.strip():
            return "the text is empty"
        try:
            cell.encode("utf-8")
        except UnicodeEncodeError:
            return "the text holds half a character (a lone surrogate)"
        return ""
    if cell is None or cell is pandas.NA or (isinstance(cell, float) and cell != cell):
        return "there is no text"
    return f"{cell!r:.40} is no text but of type {type(cell).__name__}"


def _notice(rows: int, cut: int, odd: int, limit: int | None) -> str:
    """The sentence about texts that were not classified as they stand."""
    of = f"Of {rows:,} text{'' if rows == 1 else 's'}"
    parts = []
    if cut:
        was = "was" if cut == 1 else "were"
        parts.append(f"{cut:,} {was} longer than {limit} tokens and cut")
    if odd:
        parts.append(f"{odd:,} could not be classified (the column `problem` says why)")
    return f"{of} {' and '.join(parts)}."


def _ids(names: Sequence[str], labels: Iterable[Any]) -> list[int]:
    """Labels, as names or ids, as ids."""
    known = {name: i for i, name in enumerate(names)}
    if isinstance(labels, str):
        raise LabError(f"This is one label, {labels!r}; a list of them was expected.")
    ids: list[int] = []
    wrong: dict[str, list[int]] = {}
    for row, label in enumerate(labels.tolist() if hasattr(labels, "tolist") else labels):
        if isinstance(label, str) and label in known:
            ids.append(known[label])
        elif isinstance(label, Real) and label in range(len(names)):
            ids.append(int(float(label)))
        else:
            wrong.setdefault(repr(label), []).append(row)
    if not wrong:
        return ids
    told = []
    for label, rows in list(wrong.items())[:5]:
        places = ", ".join(map(str, rows[:3])) + (", …" if len(rows) > 3 else "")
        told.append(f"{label} (row{'' if len(rows) == 1 else 's'} {places})")
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(next(iter(wrong)).strip("'\"").casefold(), folded, n=1)
    meant = f" Did you mean {folded[near[0]]!r}?" if near else ""
    has = ", ".join(f"{name} ({i})" for i, name in enumerate(names))
    raise LabError(f"The model has no label {', '.join(told)}.{meant} Its labels: {has}.")


# ---- occlusion ----------------------------------------------------------------------------------


def _groups(
    text: str,
    ids: list[int],
    special: list[int],
    spans: list[tuple[int, int]] | None,
    tokenizer: PreTrainedTokenizerBase,
) -> list[tuple[str, list[int]]]:
    """What is left out together: a name, and positions among the inputs."""
    positions = [i for i, is_special in enumerate(special) if not is_special]
    if spans is None:
        names = tokenizer.convert_ids_to_tokens(ids)
        return [(names[i], [i]) for i in positions]
    # Each character's word, so that each token finds its own (a token's span may open with a space)
    starts = [match.span() for match in _WORD.finditer(text)]
    groups: dict[tuple[int, int], list[int]] = {}
    for i in positions:
        start, end = spans[i]
        word = next((w for w in starts if w[0] < end and start < w[1]), (start, end))
        groups.setdefault(word, []).append(i)
    return [(text[start:end], places) for (start, end), places in groups.items()]


def _without(
    rows: dict[str, list[int]], positions: list[int], filler: int | None
) -> dict[str, list[int]]:
    """The inputs without these positions, or with `filler` there."""
    left_out = set(positions)
    if filler is None:
        return {
            name: [value for i, value in enumerate(values) if i not in left_out]
            for name, values in rows.items()
        }
    ids = [filler if i in left_out else value for i, value in enumerate(rows["input_ids"])]
    return rows | {"input_ids": ids}


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str | None) -> int | None:
    """The id of a token that is in the vocabulary."""
    if token is None:
        return None
    found = tokenizer.get_vocab().get(token)
    if found is None:
        special = ", ".join(dict.fromkeys(tokenizer.all_special_tokens))
        raise LabError(f"The tokenizer has no token {token!r}. Its special tokens: {special}.")
    return found
