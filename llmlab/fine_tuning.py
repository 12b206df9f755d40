"""What notebook 07 needs beside the lesson: short texts with labels, batches, a count of bytes."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmlab import data, models
from llmlab.errors import LabError
from llmlab.loading import release

if TYPE_CHECKING:
    import pandas
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 100  # characters: short texts train quickly


def tweets(split: str = "train") -> "pandas.DataFrame":
    """Short texts like tweets, as many positive as negative: columns text, label (1 or 0).

    Those of `llmlab.data.sentiment` up to 100 characters: 752 of its training texts, or 200 of the
    validation or test texts, in an order that is mixed and always the same.

    Raises:
        LabError: there is no such split, or the texts could not be fetched.

    >>> tweets("validation").label.value_counts().to_dict() == {0: 100, 1: 100}
    True
    """
    import pandas

    table = data.sentiment(split)
    table = table[(table["source"] == "tweets") & (table["text"].str.len() <= LONGEST)]
    each = 376 if split == "train" else 100
    table = pandas.concat([table[table["label"] == label][:each] for label in (0, 1)])
    table = table.sample(frac=1, random_state=0)  # mixed; the order depends on nobody's seed
    return table[["text", "label"]].reset_index(drop=True)


def fresh(**settings: Any) -> "PreTrainedModel":
    """MiniLM with a new, untrained head for two labels, the same one at every call.

    `AutoModelForSequenceClassification.from_pretrained` after `torch.manual_seed(0)`, in float32.

    Args:
        **settings: to be changed in the model's configuration, such as hidden_dropout_prob=0.

    >>> fresh().classifier
    Linear(in_features=384, out_features=2, bias=True)
    """
    from transformers import AutoModelForSequenceClassification

    release()  # a Trainer refers to itself: it and its model go only when that is looked for
    torch.manual_seed(0)
    with quiet():  # the warning that the head is new
        return AutoModelForSequenceClassification.from_pretrained(
            models.path("minilm"), dtype=torch.float32, num_labels=2, **settings
        )


def right(model: torch.nn.Module, rows: "pandas.DataFrame") -> int:
    """How many texts of a table the model, one of `fresh`, gives the label that they have."""
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(models.path("minilm")), 0
    for start in range(0, len(rows), 50):  # in parts: it takes less memory
        batch = encode(rows[start : start + 50], tokenizer)
        with torch.no_grad():
            answers = model(**batch).logits.argmax(dim=-1)  # (batch)
        found += int((answers == batch["labels"]).sum())
    return found


def encode(rows: "pandas.DataFrame", tokenizer: "PreTrainedTokenizerBase") -> "BatchEncoding":
    """The texts of a table as one padded batch, with their labels: what `model(**batch)` takes.

    Args:
        rows: with the columns text and label.
        tokenizer: of the model.

    Returns:
        input_ids, attention_mask and what else the tokenizer gives, each (batch, sequence), and
        labels (batch).

    Raises:
        LabError: there is no row, or a column is missing.
    """
    missing = {"text", "label"} - set(rows.columns)
    if missing or not len(rows):
        what = f"no column {sorted(missing)[0]!r}" if missing else "no row"
        raise LabError(f"This table has {what}. A batch needs rows with a text and a label.")
    batch = tokenizer(list(rows["text"]), padding=True, truncation=True, return_tensors="pt")
    batch["labels"] = torch.tensor(list(rows["label"]))
    return batch


def memory(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]
) -> dict[str, float]:
    """The bytes that PyTorch holds for one training step, by purpose, in MB (10⁶ bytes).

    Counted, not sampled: the sizes of the tensors themselves. It does the step to have them, so
    the model is one step further afterwards.

    Args:
        model: the model.
        optimizer: over its trainable parameters.
        loss: computes the loss of one batch.

    Returns:
        "weights"; "gradients"; "optimizer": what it remembers of each parameter; "activations":
        what the forward pass keeps for the backward pass. They depend on the batch.
    """
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:  # a weight is kept anyway
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    optimizer.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss()
    value.backward()
    optimizer.step()
    states = [t for state in optimizer.state.values() for t in state.values()]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        "weights": _megabytes(model.parameters()),
        "gradients": _megabytes(gradients),
        "optimizer": _megabytes(t for t in states if isinstance(t, Tensor)),
        "activations": sum(kept.values()) / 1e6,
    }


def cost(model: torch.nn.Module, batch: "BatchEncoding") -> dict[str, str]:
    """What one training step with AdamW needs, as a row of a table.

    The optimizer's learning rate is 0, so the model stays as it is.

    Args:
        model: its parameters that require a gradient are trained.
        batch: with labels.

    Returns:
        "trainable": how many parameters; the four purposes of `memory`, in MB; "a step": the
        median time of three, in seconds.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.0, fused=True)
    step = memory(model, optimizer, lambda: model(**batch).loss)
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    model.zero_grad()
    parts = {f"{name}, MB": f"{size:.1f}" for name, size in step.items()}
    count = sum(p.numel() for p in trainable)
    return {"trainable": f"{count:,}", **parts, "a step": f"{sorted(seconds)[1]:.2f} s"}


def _megabytes(tensors: Iterable[Tensor]) -> float:
    return sum(t.numel() * t.element_size() for t in tensors) / 1e6


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings in this block: a model with a new head is meant to be untrained.

    >>> with quiet():
    ...     pass
    """
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
