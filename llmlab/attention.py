"""What the heads look at, what happens without them, and figures that tell the heads apart.

A model that is loaded as usual computes attention without ever writing the weights down. Here its
attention is replaced for one forward pass by the same formula written out, which keeps them:

>>> from transformers import GPT2Config, GPT2LMHeadModel
>>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=50)).eval()
>>> captured = capture(model, torch.tensor([[7, 3, 7]]))
>>> captured
Capture(attention=(2, 1, 4, 3, 3), hidden_states=(3, 1, 3, 32), logits=(1, 3, 50))
>>> captured.attention.sum(-1).allclose(torch.ones(()))  # each query shares out exactly 1
True
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pandas
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from llmlab.errors import LabError

PARTS = ("attention", "encoder_attention", "cross_attention")
# `ablate` runs as many copies of the text at once as have this many logits together (67 MB).
_LOGITS_AT_ONCE = 2**24


@dataclass(repr=False)
class Capture:
    """What one forward pass computed on its way. All float32, on the CPU; None: not there."""

    #: Each query's weights over the keys. In an encoder–decoder: the decoder's self-attention.
    attention: Float[Tensor, "layer batch head query key"] | None = None
    #: The encoder's self-attention, in an encoder–decoder. (An encoder alone has `attention`.)
    encoder_attention: Float[Tensor, "layer batch head query key"] | None = None
    #: From the decoder's tokens (query) to the encoder's (key).
    cross_attention: Float[Tensor, "layer batch head query key"] | None = None
    #: The embeddings, then each layer's output; in an encoder–decoder the decoder's.
    hidden_states: Float[Tensor, "layers+1 batch position hidden"] | None = None
    #: Of `attention`, with `qk=True`: after the rotary embedding, before the division by √size.
    query: Float[Tensor, "layer batch head query size"] | None = None
    #: Grouped heads share a key: head h reads `key[:, :, h // (heads // key_heads)]`.
    key: Float[Tensor, "layer batch key_head key size"] | None = None
    #: The model's output, if it has a head that makes logits.
    logits: Float[Tensor, "batch position vocabulary"] | None = None

    def __repr__(self) -> str:
        """The shapes of what is there."""
        there = {f.name: getattr(self, f.name) for f in fields(self)}
        shapes = [f"{name}={tuple(t.shape)}" for name, t in there.items() if t is not None]
        return f"Capture({', '.join(shapes)})"


def capture(model: PreTrainedModel, inputs: Mapping | Tensor, *, qk: bool = False) -> Capture:
    """Run `model` once on `inputs` and keep its attention weights, hidden states and logits.

    The weights are those of the model's own "eager" attention, whatever implementation it was
    loaded with; nothing is loaded again. Dropout is off, no gradients are kept, and afterwards the
    model is as it was, also when an error strikes. Layers are counted as they run: in a hybrid
    model only those with attention count.

    Memory: layers × batch × heads × query × key × 4 bytes for the weights. SmolLM2 (30 layers ×
    9 heads): 4.4 MB for 64 tokens, 270 MB for 500. `qk` adds layers × batch × (heads + key heads)
    × tokens × head size × 4 bytes.

    Args:
        model: any transformers model; an encoder, a decoder or both.
        inputs: what the tokenizer returns with `return_tensors="pt"`, or a tensor of token ids
            (batch, position). An encoder–decoder also needs "decoder_input_ids" or "labels".
        qk: keep each head's queries and keys too.

    Raises:
        LabError: the inputs don't fit the model, or it does not compute its attention through
            transformers' attention interface, so that there is nothing to capture.
    """
    inputs = _checked(model, inputs)
    part_of = _parts(model)
    kept: dict[str, _Layers] = {}

    def keep(module: Any, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
        output, weights = _eager(module)(module, query, key, *args, **kwargs)
        part = part_of(module)
        new = {part: weights}
        if qk and part == "attention":
            new |= {"query": query, "key": key}
        for name, tensor in new.items():
            if name not in kept:
                alike = [m for m in model.modules() if type(m) is type(module)]
                kept[name] = _Layers(name, sum(part_of(m) == part for m in alike))
            kept[name].add(tensor)
        return output, weights

    with _attention_replaced(model, keep):
        # (transformers leaves hooks of its own at the first such call; they sleep until the next)
        outputs = model(**inputs, output_hidden_states=True, return_dict=True)
    if not kept:
        raise LabError(_not_routed(model))
    hidden_states = outputs.get("decoder_hidden_states") or outputs.get("hidden_states")
    logits = outputs.get("logits")
    return Capture(
        **{name: layers.whole() for name, layers in kept.items()},
        hidden_states=_stack([h.float().cpu() for h in hidden_states or ()], "hidden_states"),
        logits=None if logits is None else logits.float().cpu(),
    )


def ablate(
    model: PreTrainedModel,
    inputs: Mapping | Tensor,
    heads: Iterable | None = None,
    *,
    target: int | None = None,
    part: str = "attention",
) -> pandas.DataFrame:
    """Switch heads off (their output becomes 0) and see how much worse the model gets.

    Michel et al. 2019 (Are sixteen heads really better than one?) and Voita et al. 2019
    (Analyzing multi-head self-attention) remove heads in this way to find those that matter.

    Args:
        model: a transformers model with a head that makes logits. It is left as it was.
        inputs: as for `capture`. With "labels", the loss counts only what they hold (-100: leave
            this token out); without, a decoder's loss is over each next token of the text.
        heads: one `(layer, head)` or several that are switched off together; None: each head of
            the model in turn. Rows of a result will do: `table.nlargest(5, "change").index`.
        target: look at the probability of this token id as the next one (the id of a class for a
            classifier), averaged over the batch, instead of the loss.
        part: which attention of an encoder–decoder, as the fields of `Capture` name them.

    Returns:
        A row for each head, index `(layer, head)` (one row for given heads, index `heads`):
        `loss` in nats a token (or `probability`) without it, and `change` against the whole
        model. Of all heads in turn `change.unstack()` is (layer, head).

    Time: a forward pass for each head, many in one batch as memory allows.

    Raises:
        LabError: no such head, or nothing to measure on.
    """
    if part not in PARTS:
        raise LabError(f"There is no part {part!r} of attention. There are: {', '.join(PARTS)}.")
    inputs = _checked(model, inputs)
    score = _score(model, inputs, target)
    part_of = _parts(model)
    rows = len(next(iter(inputs.values())))
    head_counts: list[int] = []  # of each layer, as it runs

    def run(off: list[set[tuple[int, int]]]) -> Tensor:
        """Logits of one copy of the inputs for each set of heads to switch off."""
        head_counts.clear()

        def silence(module: Any, *args: Any, **kwargs: Any) -> Any:
            output, weights = _eager(module)(module, *args, **kwargs)  # (batch, query, head, size)
            if part_of(module) == part:
                for copy, pairs in enumerate(off):
                    for layer, head in pairs:
                        if layer == len(head_counts):
                            output[copy * rows : (copy + 1) * rows, :, head] = 0
                head_counts.append(output.shape[2])
            return output, weights

        copies = {name: torch.cat([value] * len(off)) for name, value in inputs.items()}
        with _attention_replaced(model, silence):
            outputs = model(**copies, return_dict=True)
        if not head_counts:
            raise LabError(_not_routed(model))
        if outputs.get("logits") is None:
            raise LabError(
                f"{type(model).__name__} makes no logits to measure on. Load the model with a "
                "head, for example with AutoModelForCausalLM."
            )
        return outputs.logits

    logits = run([set()])
    whole = score(logits)
    if heads is None:
        pairs = [(layer, head) for layer, n in enumerate(head_counts) for head in range(n)]
        off = [{pair} for pair in pairs]
        index: pandas.Index = pandas.MultiIndex.from_tuples(pairs, names=["layer", "head"])
    else:
        off = [_pairs(heads, head_counts)]
        names = " + ".join(f"{layer}.{head}" for layer, head in sorted(off[0]))
        index = pandas.Index([names], name="heads")
    at_once = max(1, _LOGITS_AT_ONCE // logits.numel())
    scores = []
    for start in range(0, len(off), at_once):
        logits = run(off[start : start + at_once])
        scores += [score(copy) for copy in logits.split(rows)]
    column = "loss" if target is None else "probability"
    return pandas.DataFrame({column: scores, "change": [s - whole for s in scores]}, index=index)


def statistics(
    attention: Float[Tensor, "layer batch head query key"] | Sequence[Tensor],
    input_ids: Int[Tensor, "batch position"] | None = None,
    *,
    attention_mask: Int[Tensor, "batch position"] | None = None,
) -> pandas.DataFrame:
    """What each head of a self-attention does, in figures: a row a head, index `(layer, head)`.

    Each is a mean over the queries, and all but the first two are shares of the attention (0 to 1):

    - `entropy`: in nats; 0 when a query looks at one token, ln n when evenly at n
      (Clark et al. 2019, What does BERT look at?).
    - `distance`: mean distance in tokens between the query and what it looks at
      (Vig & Belinkov 2019, Analyzing the structure of attention).
    - `first`: to the first token, by all others (Xiao et al. 2023: the attention sink).
    - `previous`: to the token just before, by all but the first (Clark et al. 2019).
    - `self`: to the token itself (Kovaleva et al. 2019, Revealing the dark secrets of BERT: the
      diagonal).
    - `duplicate`, with `input_ids`: to earlier copies of the same token, by those tokens that have
      one (Wang et al. 2022, Interpretability in the wild).
    - `induction`, with `input_ids`: to the token that came after an earlier copy of the query, by
      those tokens that have one (Olsson et al. 2022, In-context learning and induction heads:
      prefix matching).

    A mean over no queries at all is NaN: `previous` of a text of one token, `induction` of a text
    in which nothing is repeated.

    Args:
        attention: `Capture.attention`, or what `output_attentions=True` returns.
        input_ids: the tokens; needed for `duplicate` and `induction`.
        attention_mask: 1 for a token, 0 for padding, which is then left out.

    Raises:
        LabError: the shapes don't fit together, or query and key are not the same tokens.

    >>> previous = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])[None, None, None]
    >>> statistics(previous).round(3)
                entropy  distance  first  previous   self
    layer head
    0     0         0.0     0.667    0.5       1.0  0.333
    """
    attention = _self_attention(attention)  # (layer, batch, head, query, key)
    _, batch, _, length, _ = attention.shape
    real = _per_token(attention_mask, "attention_mask", batch, length).bool()  # (batch, position)
    query, key = torch.arange(length)[:, None], torch.arange(length)  # a column, a row
    first = real.int().argmax(-1)[:, None, None]  # (batch, 1, 1): padding may stand on the left
    links = {  # (batch, query, key): what counts as looking at …
        "first": (key == first) & (query > first),
        "previous": key == query - 1,
        "self": key == query,
    }
    if input_ids is not None:
        ids = _per_token(input_ids, "input_ids", batch, length)
        same = (ids[:, :, None] == ids[:, None, :]) & real[:, None, :]
        links["duplicate"] = same & (key < query)
        links["induction"] = same.roll(1, -1) & (key > 0) & (key < query)
    both_real = real[:, :, None] & real[:, None, :]
    rows = []
    for layer in attention:  # one by one: each figure needs as much memory as what it is made of
        figures = {
            "entropy": _mean(torch.special.entr(layer).sum(-1), real),
            "distance": _mean((layer * (query - key).abs()).sum(-1), real),
        }
        for name, link in links.items():
            link = link & both_real
            figures[name] = _mean((layer * link[:, None]).sum(-1), link.any(-1))
        rows.append(pandas.DataFrame({name: heads.numpy() for name, heads in figures.items()}))
    return pandas.concat(rows, keys=range(len(rows)), names=["layer", "head"])


def rollout(
    attention: Float[Tensor, "layer batch head query key"] | Sequence[Tensor],
) -> Float[Tensor, "layer batch position token"]:
    """How much of each input token has reached each position after each layer, if attention mixes.

    Attention rollout (Abnar & Zuidema 2020, Quantifying attention flow in transformers): the heads'
    mean, half of it and half the identity for the residual connection, multiplied layer by layer.
    The last, `rollout(attention)[-1]`, is that of the whole model. Rows add up to 1.

    Raises:
        LabError: this is not the attention of tokens to themselves.

    >>> rollout([torch.tensor([[[[1.0, 0], [1, 0]]]])] * 2)[:, 0]  # everyone looks at the first
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]],
    <BLANKLINE>
            [[1.0000, 0.0000],
             [0.7500, 0.2500]]])
    """
    mixed = _self_attention(attention).mean(2)  # (layer, batch, query, key)
    identity = torch.eye(mixed.shape[-1])
    mixed = (mixed + identity) / (mixed.sum(-1, keepdim=True) + 1)
    reached = [mixed[0]]
    for layer in mixed[1:]:
        reached.append(layer @ reached[-1])
    return torch.stack(reached)


# ---- replacing the attention of a model ----------------------------------------------------------


@contextmanager
def _attention_replaced(model: PreTrainedModel, function: Callable) -> Iterator[None]:
    """Within the block `function` computes the model's attention, without dropout or gradients.

    `function` gets what transformers' attention functions get: module, query (batch, head, query,
    size), key, value, mask, and named arguments that depend on the model.
    """
    name = f"llmlab-{id(function)}"
    # Each part of a model reads its own configuration. Set and put back here, and not with
    # `set_attn_implementation`, which checks again whether, say, flash attention can be used.
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [
        (config, config._attn_implementation_internal)
        for config in configs.values()
        if isinstance(config, PreTrainedConfig)
    ]
    training = [module for module in model.modules() if module.training]
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, eager_mask)
    try:
        for config, _ in before:
            config._attn_implementation_internal = name
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
        for module in training:
            module.training = True
        del AttentionInterface._global_mapping[name]
        del AttentionMaskInterface._global_mapping[name]


def _eager(module: torch.nn.Module) -> Callable:
    """The formula of attention written out, as the file of this model has it."""
    for cls in type(module).__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise LabError(
        f"{type(module).__name__} has no attention written out in transformers (no "
        "eager_attention_forward), so its weights can't be captured. Take another model."
    )


def _parts(model: PreTrainedModel) -> Callable[[torch.nn.Module], str]:
    """A function that says of an attention module which of PARTS it belongs to."""
    names = {module: name.lower() for name, module in model.named_modules()}
    encoder = set(_encoder(model).modules()) if _encoder(model) is not None else set()

    def part(module: torch.nn.Module) -> str:
        # T5 EncDecAttention, BERT and GPT-2 crossattention, BART encoder_attn
        if re.search("cross|encdec|encoder_attn", names.get(module, "")):
            return "cross_attention"
        return "encoder_attention" if module in encoder else "attention"

    return part


def _encoder(model: PreTrainedModel) -> Any:
    """The encoder of an encoder–decoder; None for all others (also for the encoder alone)."""
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return None if encoder is model else encoder


# ---- checks and small helpers --------------------------------------------------------------------


def _checked(model: PreTrainedModel, inputs: Mapping | Tensor) -> dict[str, Tensor]:
    """The inputs as tensors on the model's device, or a LabError that says what is wrong."""
    if not isinstance(model, PreTrainedModel):
        raise LabError(f"This needs a transformers model, not {type(model).__name__}.")
    if isinstance(inputs, Tensor):
        inputs = {"input_ids": inputs}
    if not isinstance(inputs, Mapping) or not all(isinstance(v, Tensor) for v in inputs.values()):
        raise LabError(
            "`inputs` must hold tensors: tokenizer(text, return_tensors='pt'), or a tensor of "
            "token ids (batch, position)."
        )
    for name in ("input_ids", "decoder_input_ids"):
        if name in inputs:
            mask = inputs.get(name.replace("input_ids", "attention_mask"))
            _check_ids(model, name, inputs[name], mask)
    decoder = {"decoder_input_ids", "decoder_inputs_embeds", "labels"}
    if _encoder(model) is not None and not decoder & set(inputs):
        raise LabError(
            "An encoder–decoder also reads what it writes: add 'decoder_input_ids' (what stands "
            "there so far) or 'labels' (the answer) to the inputs, or take model.get_encoder()."
        )
    return {name: value.to(model.device) for name, value in inputs.items()}


def _check_ids(model: PreTrainedModel, name: str, ids: Tensor, mask: Tensor | None) -> None:
    """Whether the model can look up these ids, at these positions."""
    if ids.numel() == 0:
        raise LabError("The text is empty: it has no tokens, so there is nothing to look at.")
    if ids.dim() != 2 or ids.is_floating_point():
        raise LabError(
            f"{name} must be whole numbers of shape (batch, position), "
            f"not {ids.dtype} of shape {tuple(ids.shape)}."
        )
    if mask is not None and mask.dim() == 2 and mask.shape != ids.shape:
        raise LabError(f"{name} is {tuple(ids.shape)}, but its mask {tuple(mask.shape)}.")
    limit = getattr(model.config, "max_position_embeddings", None)
    for module_name, table in model.named_modules():
        padding = getattr(table, "padding_idx", None) if "position_emb" in module_name else None
        if padding is not None and table.num_embeddings == limit:
            limit -= padding + 1  # RoBERTa counts its positions from behind the padding's
    if limit and ids.shape[1] > limit:
        raise LabError(
            f"The text has {ids.shape[1]} tokens and the model's context is {limit}. Shorten it: "
            f"tokenizer(text, truncation=True, max_length={limit}, return_tensors='pt')."
        )
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise LabError(
            f"The token ids go from {ids.min()} to {ids.max()}, the model knows 0 to "
            f"{vocabulary - 1}. Was the text tokenized with another model's tokenizer?"
        )


def _not_routed(model: PreTrainedModel) -> str:
    """What to say when no attention function was ever called."""
    return (
        f"{type(model).__name__} does not compute its attention through transformers' attention "
        "interface, or has none: there is nothing to capture or switch off. Its weights alone, if "
        "any: load it with attn_implementation='eager' and call it with output_attentions=True."
    )


class _Layers:
    """Tensors of equal shape, written into one as they come: stacking a list needs twice as much.

    Args:
        name: what they are, for the error.
        expected: how many will come. (A model that runs one layer repeatedly has more.)
    """

    def __init__(self, name: str, expected: int) -> None:
        self.name, self.expected, self.count = name, expected, 0
        self.room: Tensor | None = None

    def add(self, layer: Tensor) -> None:
        if self.room is None:
            self.room = torch.empty(self.expected, *layer.shape)
        elif self.count == len(self.room):
            self.room = torch.cat([self.room, torch.empty_like(self.room)])
        if layer.shape != self.room.shape[1:]:
            raise LabError(_unequal(self.name, [tuple(self.room.shape[1:]), tuple(layer.shape)]))
        self.room[self.count] = layer  # becomes float32, on the CPU
        self.count += 1

    def whole(self) -> Tensor:
        assert self.room is not None
        return self.room if self.count == len(self.room) else self.room[: self.count].clone()


def _stack(layers: Sequence[Tensor], name: str) -> Tensor | None:
    """The layers as one tensor; None if there are none."""
    shapes = sorted({tuple(layer.shape) for layer in layers})
    if len(shapes) > 1:
        raise LabError(_unequal(name, shapes))
    return torch.stack(tuple(layers)) if layers else None


def _unequal(name: str, shapes: list[tuple]) -> str:
    """What to say of layers that don't fit into one tensor."""
    return (
        f"The layers' {name} have different shapes ({' and '.join(map(str, shapes))}) "
        "and don't fit into one tensor. Capture one part of the model at a time."
    )


def _score(model: PreTrainedModel, inputs: dict, target: int | None) -> Callable[[Tensor], float]:
    """What `ablate` measures on the logits of one copy of the inputs."""
    # Only an encoder–decoder needs the labels itself: it reads them, shifted by one.
    both = _encoder(model) is not None
    labels = inputs.get("labels") if both else inputs.pop("labels", None)
    mask = inputs.get("decoder_attention_mask" if both else "attention_mask")
    writes = model.can_generate()
    shifted = writes and not both  # logits at position i are about token i + 1
    if labels is None and shifted and "input_ids" in inputs:
        labels = inputs["input_ids"]
        if mask is not None:  # neither padding nor what would be predicted from padding
            labels = labels.masked_fill((mask * mask.roll(1, -1)) == 0, -100)

    def loss(logits: Tensor) -> float:
        if labels is None:
            raise LabError("No loss without an answer: give target=…, or 'labels' in the inputs.")
        scores, answers = (logits[:, :-1], labels[:, 1:]) if shifted else (logits, labels)
        if not (answers != -100).any():
            raise LabError("No token to predict: a loss needs at least two tokens, and a label.")
        return cross_entropy(scores.flatten(0, -2).float(), answers.flatten()).item()

    def probability(logits: Tensor) -> float:
        if logits.dim() == 3 and not writes:
            raise LabError("This model does not predict the next token: give 'labels' instead.")
        if not 0 <= (target or 0) < logits.shape[-1]:
            raise LabError(f"target={target}, but the ids go from 0 to {logits.shape[-1] - 1}.")
        if logits.dim() == 3:  # (batch, position, vocabulary): take the last that is not padding
            last = torch.full(logits.shape[:1], logits.shape[1] - 1, device=logits.device)
            if mask is not None:
                last = last - mask.flip(-1).argmax(-1)
            logits = logits[torch.arange(len(logits), device=logits.device), last]
        return logits.float().softmax(-1)[:, target].mean().item()

    return loss if target is None else probability


def _pairs(heads: Iterable, head_counts: list[int]) -> set[tuple[int, int]]:
    """`(layer, head)`, or several of them, as a set; a LabError if one is not there."""
    heads = list(heads)
    if len(heads) == 2 and not any(isinstance(each, Iterable) for each in heads):
        heads = [heads]  # one head
    pairs = {tuple(pair) if isinstance(pair, Iterable) else (pair,) for pair in heads}
    there = {(layer, head) for layer, count in enumerate(head_counts) for head in range(count)}
    if not pairs or pairs - there:
        wrong = f"No head {sorted(pairs - there)[0]} here" if pairs else "No heads given"
        raise LabError(
            f"{wrong}. A head is (layer, head), both counted from 0; there are "
            f"{len(head_counts)} layers with {max(head_counts)} heads."
        )
    return {(int(layer), int(head)) for layer, head in pairs}


def _self_attention(attention: Any) -> Tensor:
    """As one float32 tensor (layer, batch, head, query, key), or a LabError."""
    if isinstance(attention, tuple | list):
        if not all(isinstance(layer, Tensor) for layer in attention) or len(attention) == 0:
            raise LabError(
                "There are no weights in it: the default attention of transformers returns none. "
                "llmlab.attention.capture(model, inputs).attention has them."
            )
        attention = _stack(attention, "attention")
    if not isinstance(attention, Tensor) or attention.dim() != 5 or attention.numel() == 0:
        shape = tuple(getattr(attention, "shape", ())) or type(attention).__name__
        raise LabError(f"This must be attention (layer, batch, head, query, key), not {shape}.")
    if attention.shape[-1] != attention.shape[-2]:
        raise LabError(
            f"{attention.shape[-2]} queries look at {attention.shape[-1]} keys: this needs the "
            "attention of tokens to themselves, and cross-attention is not."
        )
    if not (attention >= 0).all():
        raise LabError("Attention weights are not negative. Are these scores before the softmax?")
    return attention.detach().float().cpu()


def _per_token(values: Any, name: str, batch: int, length: int) -> Tensor:
    """One number a token, (batch, position), or a LabError; ones if there are none."""
    values = torch.ones(batch, length) if values is None else torch.as_tensor(values).cpu()
    values = values[None] if values.dim() == 1 else values
    if values.shape != (batch, length):
        raise LabError(
            f"{name} has shape {tuple(values.shape)}, but the attention is of {batch} text(s) "
            f"with {length} tokens: ({batch}, {length}) was expected."
        )
    return values


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Of (batch, head, query) the mean over the counted (batch, query), for each head."""
    return (values * counted[:, None]).sum((0, 2)) / counted.sum()
