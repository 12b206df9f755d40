"""What notebook 06 needs beside the lesson: an answer with its runners-up, and who looked where.

Any encoder–decoder works (`AutoModelForSeq2SeqLM`). A model that spells, as our `t5-g2p` does, gets
one word in small letters; what it can't read is said before it answers nonsense.
"""

from typing import Any

import pandas
import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from llmlab.attention import capture
from llmlab.errors import LabError
from llmlab.generation import run_generate

LONGEST = 20  # letters of a word: t5-g2p was trained on no longer ones


def pronounce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    word: str,
    *,
    beams: int = 4,
    max_new_tokens: int = 40,
) -> pandas.DataFrame:
    """What beam search finds for one word (or, with another model, for one text), best first.

    Args:
        model: an encoder–decoder. It is left as it was.
        tokenizer: its tokenizer.
        word: for a model that spells, one word of letters; capital letters are made small.
        beams: how many unfinished answers the search keeps, and answers are returned.
        max_new_tokens: where an answer is cut off.

    Returns:
        A row an answer: `answer`, `log_probability` (of the whole answer with its end token, in
        nats) and `probability`. The likeliest first; with one beam the greedy answer alone.

    Raises:
        LabError: no encoder–decoder, or a word that it can't read.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or beams < 1:
        raise LabError(f"beams is a whole number from 1 on, not {beams!r}.")
    inputs = read(model, tokenizer, word)
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": max_new_tokens}
    # length_penalty=0: ranked by the probability of the whole answer
    more = {"num_beams": beams, "num_return_sequences": beams, "length_penalty": 0.0}
    settings |= more if beams > 1 else {}
    rows = run_generate(model, tokenizer, inputs, None, settings)[:, 1:]  # without the start token
    log_probs = _log_probabilities(model, tokenizer, inputs, rows)
    answers = tokenizer.batch_decode(rows, skip_special_tokens=True)
    table = pandas.DataFrame(
        {
            "answer": [answer.strip() for answer in answers],
            "log_probability": log_probs.tolist(),
            "probability": log_probs.exp().tolist(),
        }
    )
    return table.sort_values("log_probability", ascending=False, ignore_index=True, kind="stable")


def alignment(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    word: str,
    answer: str | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
) -> pandas.DataFrame:
    """Where the decoder looked in the word while it wrote each token of the answer.

    Row t is the cross-attention of the decoder's position t, named by the token that is *written*
    there (it reads the one before it). The last row and column are the end tokens.

    Args:
        model: an encoder–decoder. It is left as it was.
        tokenizer: its tokenizer.
        word: as for `pronounce`.
        answer: the tokens that are written; by default what the model answers greedily. Another
            one shows where it would have looked.
        layer: which layer, from 0; -1 is the last. By default the mean over all of them.
        head: which head of that layer; by default the mean over its heads.

    Returns:
        Weights from 0 to 1: a row a token written, a column a token read; each row sums to 1.

    Raises:
        LabError: as for `pronounce`; there is no such head; an answer with unknown tokens.
    """
    inputs = read(model, tokenizer, word)
    if answer is None:
        answer = pronounce(model, tokenizer, word, beams=1)["answer"][0]
    labels = tokenizer(text_target=answer, return_tensors="pt")["input_ids"].to(model.device)
    if tokenizer.unk_token_id is not None and (labels == tokenizer.unk_token_id).any():
        raise LabError(
            f"The answer {answer!r} has signs that this tokenizer does not know. Write it as the "
            "model does, such as 'TH R UW1'."
        )
    seen = capture(model, {**inputs, "labels": labels}).cross_attention
    if seen is None:
        raise LabError(f"{type(model).__name__} has no cross-attention to look at.")
    cross = seen[:, 0]  # (layer, head, written, read)
    for what, chosen, count in (("layer", layer, len(cross)), ("head", head, cross.shape[1])):
        if chosen is not None and not -count <= int(chosen) < count:
            raise LabError(
                f"There is no {what} {chosen}: this model has {len(cross)} layers with "
                f"{cross.shape[1]} heads of cross-attention each, counted from 0."
            )
    if layer is None and head is not None:
        raise LabError(f"Head {head} of which layer? Say layer=…, from 0 to {len(cross) - 1}.")
    cross = cross.flatten(0, 1) if layer is None else cross[layer]  # (head, written, read)
    weights = cross.mean(0) if head is None else cross[head]
    return pandas.DataFrame(
        weights.numpy(),
        index=tokenizer.convert_ids_to_tokens(labels[0]),
        columns=tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]),
    )


def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, word: str) -> BatchEncoding:
    """The word as the encoder's input, tensors of shape (1, position) on the model's device.

    Raises:
        LabError: the model is no encoder–decoder, or it can't read this.
    """
    require_seq2seq(model)
    if not callable(tokenizer):
        raise LabError(
            f"A tokenizer was expected, not {tokenizer!r:.60}. Load the one of the same model: "
            "AutoTokenizer.from_pretrained(…)."
        )
    if not isinstance(word, str):
        raise LabError(
            f"One word was expected, and this is a {type(word).__name__}. Of several take them in "
            "turn: for word in words."
        )
    text = word.strip()
    if not text:
        raise LabError("There is no word here. Type one, such as 'through'.")
    if spells(tokenizer):
        text = _letters(tokenizer, text)
    inputs = tokenizer(text, return_tensors="pt")
    ids = inputs["input_ids"]
    if int(ids.max()) >= model.get_input_embeddings().weight.shape[0]:
        raise LabError(
            f"The tokenizer made an id {int(ids.max())}, and this model does not know it. Load "
            "model and tokenizer from the same name."
        )
    if ids.shape[1] > tokenizer.model_max_length:
        raise LabError(
            f"This has {ids.shape[1]} tokens; the model reads up to {tokenizer.model_max_length}."
        )
    return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).to(
        model.device
    )


def spells(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether this is a tokenizer of letters and phonemes, such as that of `t5-g2p`."""
    vocabulary = tokenizer.get_vocab()
    return {"a", "z", "AA1"} <= vocabulary.keys() and len(vocabulary) < 200


def require_seq2seq(model: Any) -> None:
    """Raise LabError unless the model reads one text and writes another."""
    need = (
        "Here a model is needed that reads one text and writes another: load it with "
        "AutoModelForSeq2SeqLM.from_pretrained(…), for example t5-g2p."
    )
    if not isinstance(model, PreTrainedModel):
        raise LabError(f"A model was expected, not {model!r:.60}. {need}")
    name = type(model).__name__
    if not model.config.is_encoder_decoder:
        what = "goes on with a text" if model.can_generate() else "reads a text and writes none"
        raise LabError(f"{name} is no encoder–decoder: it {what}. {need}")
    if not model.can_generate():
        raise LabError(f"{name} has no head that scores tokens, so it can't write. {need}")


def _letters(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """One word in small letters, or a LabError that says what it can't read.

    Capital letters would be taken for phonemes: "T" is the sound, "t" the letter.
    """
    word = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if len(word.split()) > 1:
        raise LabError(
            f"{text!r:.60} is more than one word, and this model reads one at a time. Take them "
            "in turn: for word in text.split()."
        )
    unknown = sorted(
        {sign for sign in word if tokenizer.unk_token_id in tokenizer(sign)["input_ids"]}
    )
    if unknown:
        raise LabError(
            f"This model reads the letters a to z and the apostrophe; in {text!r:.60} it does not "
            f"know {', '.join(map(repr, unknown))}. Write numbers and signs as words: 'seven', "
            "not '7'."
        )
    if len(word) > LONGEST:
        raise LabError(
            f"{text!r:.60} has {len(word)} letters. This model was trained on words of up to "
            f"{LONGEST}: what it said of a longer one would mean little. Cut it into its parts."
        )
    return word


def _log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: BatchEncoding,
    rows: Tensor,
) -> Tensor:
    """ln p of each row of ids (answer, position), padding after its end left out: (answer)."""
    ends = model.generation_config.eos_token_id
    is_end = torch.isin(rows, torch.tensor(ends, device=rows.device))
    after = is_end.cumsum(-1) - is_end.long() > 0  # behind the first end token
    labels = rows.masked_fill(after, -100)
    copies = {name: value.expand(len(rows), -1) for name, value in inputs.items()}
    logits = capture(model, {**copies, "labels": labels}).logits
    assert logits is not None  # it can generate, so it has a head
    own = logits.log_softmax(-1).gather(-1, rows.cpu()[..., None])[..., 0]
    return own.masked_fill(after.cpu(), 0).sum(-1)
