"""Batches of texts of like length: little padding, so little work for nothing."""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, PreTrainedTokenizerBase

from llmlab.errors import LabError

WINDOW = 1024  # texts that are sorted together


def by_length(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    window: int = WINDOW,
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Tokenize texts in batches of similar length, each text once.

    A batch is as wide as its longest text. Of mixed texts in the order they come most of it is
    padding, which the model computes like everything else. So the texts are sorted by their number
    of tokens, `window` at a time: a stream of any length is taken in without being kept.

    Args:
        texts: any iterable of strings.
        tokenizer: a transformers tokenizer.
        batch_size: texts a batch.
        max_length: cut longer texts to so many tokens, special tokens included. None: cut none.
        window: how many texts are read ahead and sorted together.

    Yields:
        The places of the batch's texts among `texts`, and the inputs for the model as tensors of
        shape (batch, position), padded on the right. The longest texts of a window come first:
        if they don't fit in memory, that shows at once.

    Raises:
        LabError: one text instead of several, something that is no text, or an impossible size.

    >>> from transformers import AutoTokenizer
    >>> import llmlab
    >>> tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("minilm"))
    >>> texts = ["One.", "A much longer sentence is this.", "Two."]
    >>> for indices, inputs in by_length(texts, tokenizer, batch_size=2):
    ...     print(indices, tuple(inputs["input_ids"].shape))
    [1, 0] (2, 9)
    [2] (1, 4)
    """
    if isinstance(texts, (str, bytes)):
        raise LabError("This is one text; several were expected. Put it into a list: [text].")
    for name, number in (
        ("batch_size", batch_size),
        ("window", window),
        ("max_length", max_length),
    ):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise LabError(f"{name} must be a whole number of at least 1, not {number!r}.")
    stream = iter(texts)
    for start in count(step=window):
        some = list(islice(stream, window))
        if not some:
            return
        for place, text in enumerate(some, start):
            if not isinstance(text, str):
                raise LabError(
                    f"Text number {place} is no text but {_described(text)}. Leave it out, or "
                    "replace it by a string."
                )
        encoded = tokenizer(
            some, truncation=max_length is not None, max_length=max_length, verbose=False
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(some)), key=lambda place: -lengths[place])  # equal: as they came
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            yield [start + row for row in rows], padded(encoded, rows, tokenizer)


def padded(
    encoded: Any, rows: Iterable[int], tokenizer: PreTrainedTokenizerBase, *, side: str = "right"
) -> BatchEncoding:
    """Some rows of what a tokenizer returned as tensors, padded on the right (or "left").

    Right, whatever the tokenizer's own side is: then each token has the position that it has alone.
    Left is for writing on: then each row's last token is the text's own. A tokenizer without a
    padding token pads with the end of text; the mask hides it either way.
    """
    fill = tokenizer.pad_token_id
    fills = {
        "input_ids": fill if fill is not None else (tokenizer.eos_token_id or 0),
        "token_type_ids": tokenizer.pad_token_type_id,
    }
    rows = list(rows)
    return BatchEncoding(
        {
            name: pad_sequence(
                [torch.tensor(encoded[name][row], dtype=torch.long) for row in rows],
                batch_first=True,
                padding_value=fills.get(name, 0),
                padding_side=side,
            )
            for name in encoded
        }
    )


def _described(value: Any) -> str:
    return "None" if value is None else f"{value!r} ({type(value).__name__})"
