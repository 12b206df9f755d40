"""`llmlab.attention` equals transformers' eager attention, hooks and figures worked out by hand."""

import copy
import math

import pandas
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close
from transformers import (
    AlbertConfig,
    AttentionInterface,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BertConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    Qwen2Config,
    RobertaConfig,
    T5Config,
)
from transformers.masking_utils import AttentionMaskInterface

import llmlab
from llmlab.attention import ablate, capture, rollout, statistics

SIZE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    # large: with the usual random weights every head would look at everything evenly
    "initializer_range": 0.3,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
TINY = {
    "gpt2": (AutoModelForCausalLM, GPT2Config(**SIZE)),
    "bert": (AutoModelForMaskedLM, BertConfig(**SIZE)),
    "t5": (
        AutoModelForSeq2SeqLM,
        T5Config(
            vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2,
            num_heads=4, initializer_factor=3.0, decoder_start_token_id=0,
        ),
    ),
    "bart": (
        AutoModelForSeq2SeqLM,
        BartConfig(
            vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=3, encoder_ffn_dim=48,
            decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
            max_position_embeddings=40, init_std=0.5,
        ),
    ),
    "qwen2": (AutoModelForCausalLM, Qwen2Config(**SIZE, **GROUPED)),
    "gemma": (AutoModelForCausalLM, GemmaConfig(**SIZE, **GROUPED)),
    # capped scores, and every other layer sees four tokens only
    "gemma2": (
        AutoModelForCausalLM,
        Gemma2Config(
            **SIZE, **GROUPED, sliding_window=4, attn_logit_softcapping=2.0
        ),
    ),
}  # fmt: skip
CAUSAL = ["gpt2", "qwen2", "gemma", "gemma2"]


def tiny(name, implementation="sdpa"):
    """The model `name` with random weights, the same ones each time."""
    auto, config = TINY[name]
    if name == "gemma2" and implementation == "sdpa":
        implementation = "eager"  # transformers' sdpa does not know capped scores
    torch.manual_seed(0)
    model = auto.from_config(copy.deepcopy(config), attn_implementation=implementation)
    return model.eval()


def texts(name, padding=None):
    """Three texts of 9 tokens, or of 9, 5 and 1 with padding on one side."""
    torch.manual_seed(1)
    inputs = {"input_ids": torch.randint(3, 60, (3, 9))}
    if padding:
        mask = torch.arange(9)[None] < torch.tensor([[9], [5], [1]])
        mask = mask.flip(-1) if padding == "left" else mask
        inputs["input_ids"] = inputs["input_ids"].masked_fill(~mask, 0)
        inputs["attention_mask"] = mask.long()
    if name in ("t5", "bart"):
        inputs["decoder_input_ids"] = torch.randint(3, 60, (3, 6))
    return inputs


def by_transformers(model, inputs):
    """Attentions and hidden states as transformers returns them from an eager model."""
    with torch.no_grad():
        return model(**inputs, output_attentions=True, output_hidden_states=True)


def near(ours, theirs):
    """Python floats that came out of float32: another batch size moves the last digits."""
    assert ours == pytest.approx(theirs, rel=2e-6, abs=2e-6)


def equal(ours, theirs):
    assert_close(ours, torch.stack(theirs), rtol=0, atol=0)


# ---- capture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [None, "left", "right"])
@pytest.mark.parametrize("name", TINY)
def test_capture_equals_eager(name, padding):
    inputs = texts(name, padding)
    captured = capture(tiny(name), inputs)
    wanted = by_transformers(tiny(name, "eager"), inputs)
    assert_close(captured.logits, wanted.logits, rtol=0, atol=0)
    assert captured.query is None and captured.key is None
    assert not captured.attention.requires_grad
    if name in ("t5", "bart"):
        equal(captured.attention, wanted.decoder_attentions)
        equal(captured.encoder_attention, wanted.encoder_attentions)
        equal(captured.cross_attention, wanted.cross_attentions)
        equal(captured.hidden_states, wanted.decoder_hidden_states)
        assert captured.cross_attention.shape[-2:] == (6, 9)
    else:
        equal(captured.attention, wanted.attentions)
        equal(captured.hidden_states, wanted.hidden_states)
        assert captured.encoder_attention is None and captured.cross_attention is None
    assert captured.attention.std() > 0.01  # not a model that looks at everything evenly


@pytest.fixture(scope="module")
def smollm():
    return AutoModelForCausalLM.from_pretrained(
        llmlab.models.path("smollm2-135m"), dtype=torch.float32
    )


def real(name):
    """Class, tokenizer and two texts of unequal length for an embedded model."""
    auto = AutoModelForCausalLM if name == "smollm2-135m" else AutoModel
    tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path(name))
    pair = ["The animal didn't cross the street because it was too tired.", "It slept."]
    return auto, tokenizer(pair, return_tensors="pt", padding=True)


def test_capture_equals_eager_on_smollm(smollm):
    _, inputs = real("smollm2-135m")
    captured = capture(smollm, inputs)
    assert smollm.config._attn_implementation == "sdpa"
    smollm.set_attn_implementation("eager")
    try:
        wanted = by_transformers(smollm, inputs)
    finally:
        smollm.set_attn_implementation("sdpa")
    equal(captured.attention, wanted.attentions)
    equal(captured.hidden_states, wanted.hidden_states)
    assert captured.attention.shape[:3] == (30, 2, 9)


def test_capture_equals_eager_on_minilm():
    auto, inputs = real("minilm")
    folder = llmlab.models.path("minilm")
    eager = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    captured = capture(auto.from_pretrained(folder, dtype=torch.float32), inputs)
    wanted = by_transformers(eager, inputs)
    equal(captured.attention, wanted.attentions)
    equal(captured.hidden_states, wanted.hidden_states)
    assert captured.attention.shape[:3] == (6, 2, 12)
    assert captured.logits is None


def weights_by_hand(captured, mask, scale):
    """softmax(q·k / √size + mask), each key shared by a group of heads."""
    group = captured.query.shape[2] // captured.key.shape[2]
    key = captured.key.repeat_interleave(group, dim=2)
    scores = captured.query @ key.transpose(-1, -2) * scale
    return scores.masked_fill(~mask, -math.inf).softmax(-1)


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "gemma", "bert"])
def test_qk_reproduce_the_attention(name):
    captured = capture(tiny(name), texts(name), qk=True)
    size = captured.query.shape[-1]
    mask = torch.ones(9, 9, dtype=torch.bool)
    by_hand = weights_by_hand(captured, mask if name == "bert" else mask.tril(), size**-0.5)
    assert_close(by_hand, captured.attention)
    assert captured.key.shape[2] == (2 if name in ("qwen2", "gemma") else 4)


def test_qk_reproduce_the_attention_of_smollm(smollm):
    _, inputs = real("smollm2-135m")
    captured = capture(smollm, inputs, qk=True)
    assert captured.query.shape[2:] == (9, inputs.input_ids.shape[1], 64)
    assert captured.key.shape[2:] == (3, inputs.input_ids.shape[1], 64)
    length = inputs.input_ids.shape[1]
    by_hand = weights_by_hand(captured, torch.ones(length, length).tril().bool(), 64**-0.5)
    assert_close(by_hand[:, 0], captured.attention[:, 0], atol=1e-5, rtol=0)  # the unpadded text


def test_the_encoder_of_an_encoder_decoder_alone():
    model, inputs = tiny("t5"), texts("t5")
    alone = capture(model.get_encoder(), inputs["input_ids"])
    assert_close(alone.attention, capture(model, inputs).encoder_attention)
    assert alone.encoder_attention is None


def test_a_bert_that_decodes_keeps_its_cross_attention_apart():
    """Its self-attention lies in a module named `encoder` all the same."""
    config = BertConfig(**SIZE, is_decoder=True, add_cross_attention=True)
    model = AutoModelForCausalLM.from_config(config).eval()
    captured = capture(model, {**texts("bert"), "encoder_hidden_states": torch.randn(3, 7, 32)})
    assert captured.attention.shape == (3, 3, 4, 9, 9)
    assert captured.cross_attention.shape == (3, 3, 4, 9, 7)
    assert captured.encoder_attention is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_captured_as_it_was_used(dtype):
    inputs = texts("qwen2", "left")
    captured = capture(tiny("qwen2").to(dtype), inputs)
    wanted = torch.stack(by_transformers(tiny("qwen2", "eager").to(dtype), inputs).attentions)
    assert wanted.dtype == dtype and captured.attention.dtype == torch.float32
    assert_close(captured.attention, wanted.float(), rtol=0, atol=0)
    mask = inputs["attention_mask"]
    assert statistics(captured.attention, attention_mask=mask).notna().all(axis=None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_are_switched_off_in_half_precision_too(dtype):
    """The loss is computed in float32 from what the model gives in its own precision."""
    table = ablate(tiny("qwen2").to(dtype), texts("qwen2"))
    exact = ablate(tiny("qwen2"), texts("qwen2"))
    assert table.loss.tolist() == pytest.approx(exact.loss.tolist(), rel=0.05)
    assert table.change.corr(exact.change) > 0.9


def state(model):
    """All that `capture` and `ablate` touch."""
    return (
        [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")],
        [module.training for module in model.modules()],
        dict(AttentionInterface._global_mapping),
        dict(AttentionMaskInterface._global_mapping),
        torch.is_grad_enabled(),
        model.config.to_dict(),
    )


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_the_model_is_left_as_it_was(name, implementation):
    model, inputs = tiny(name, implementation), texts(name)
    model.train()
    model.get_input_embeddings().eval()  # one part in another mode than the rest
    before = state(model)
    first = capture(model, inputs)
    assert state(model) == before
    assert_close(first.attention, capture(tiny(name), inputs).attention)  # without dropout
    ablate(model, inputs, (0, 0), target=5)
    assert state(model) == before


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_the_model_is_left_as_it_was_after_an_error(name):
    model, inputs = tiny(name), texts(name)
    last = list(model.modules())[-1]
    broken = last.register_forward_hook(lambda *_: 1 / 0)
    model.train()
    before = state(model)
    for use in (capture, ablate):
        with pytest.raises(ZeroDivisionError):
            use(model, {**inputs, "labels": inputs["input_ids"]})
        assert state(model) == before
    broken.remove()
    assert capture(model, inputs).attention is not None


def test_a_model_that_runs_one_layer_repeatedly():
    """ALBERT has one attention for all its layers; each run of it counts as a layer."""
    config = AlbertConfig(**SIZE, embedding_size=16)
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    wanted = by_transformers(model, texts("bert")).attentions
    captured = capture(model, texts("bert"))
    equal(captured.attention, wanted)
    held = captured.attention.untyped_storage().nbytes()
    assert len(wanted) == 3 and held == captured.attention.numel() * 4  # no room left over


def test_a_capture_shows_its_shapes():
    captured = capture(tiny("gpt2"), texts("gpt2"))
    assert repr(captured) == (
        "Capture(attention=(3, 3, 4, 9, 9), hidden_states=(4, 3, 9, 32), logits=(3, 9, 60))"
    )


# ---- bad input -----------------------------------------------------------------------------------

WRONG_INPUTS = {
    "text": ("gpt2", "a text", "must hold tensors"),
    "lists": ("gpt2", {"input_ids": [[1, 2]]}, "return_tensors='pt'"),
    "one row": ("gpt2", torch.tensor([1, 2]), r"\(batch, position\)"),
    "empty": ("gpt2", torch.zeros(1, 0), "The text is empty"),
    "too long": ("gpt2", torch.ones(1, 41, dtype=torch.long), "41 tokens .* context is 40"),
    "other tokenizer": ("gpt2", torch.tensor([[3, 60]]), "knows 0 to 59"),
    "mask": (
        "gpt2",
        {"input_ids": torch.ones(1, 4).long(), "attention_mask": torch.ones(1, 3)},
        r"\(1, 4\), but its mask \(1, 3\)",
    ),
    "no decoder input": ("t5", torch.tensor([[3, 4]]), "decoder_input_ids"),
}


@pytest.mark.parametrize("use", [capture, ablate])
@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs_get_a_sentence(case, use):
    name, inputs, sentence = WRONG_INPUTS[case]
    with pytest.raises(llmlab.LabError, match=sentence):
        use(tiny(name), inputs)


def test_roberta_reads_fewer_tokens_than_its_table_of_positions_has_rows():
    model = AutoModel.from_config(RobertaConfig(**SIZE, pad_token_id=1)).eval()
    assert capture(model, torch.full((1, 38), 5)).attention.shape[-1] == 38
    with pytest.raises(llmlab.LabError, match=r"39 tokens .* context is 38"):
        capture(model, torch.full((1, 39), 5))


def test_a_model_beside_the_attention_interface_gets_a_sentence():
    config = GPTNeoConfig(
        vocab_size=60, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global"], 2]]
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    before = state(model)
    for use in (capture, ablate):
        with pytest.raises(llmlab.LabError, match="GPTNeoForCausalLM does not compute"):
            use(model, texts("gpt2"))
    assert state(model) == before
    with pytest.raises(llmlab.LabError, match="transformers model, not Linear"):
        capture(torch.nn.Linear(2, 2), texts("gpt2"))


# ---- ablate --------------------------------------------------------------------------------------


def loss_by_transformers(model, inputs):
    with torch.no_grad():
        return model(**inputs, labels=inputs["input_ids"]).loss.item()


def zeroed(linear, columns):
    """A hook that empties these columns of what goes into the attention's last linear map."""

    def hook(_, inputs):
        emptied = inputs[0].clone()
        emptied[..., columns] = 0
        return (emptied,)

    return linear.register_forward_pre_hook(hook)


def all_heads_off_equals_no_attention(model, inputs, layer):
    """For models whose output map has no bias: without heads the attention adds nothing."""
    whole = loss_by_transformers(model, inputs)
    heads = [(layer, head) for head in range(model.config.num_attention_heads)]
    table = ablate(model, inputs, heads)
    hook = model.model.layers[layer].self_attn.register_forward_hook(
        lambda _, __, output: (torch.zeros_like(output[0]), *output[1:])
    )
    without = loss_by_transformers(model, inputs)
    hook.remove()
    assert abs(without - whole) > 0.01
    assert table.index.tolist() == [" + ".join(f"{layer}.{head}" for _, head in heads)]
    # eager here, sdpa there: over 30 layers the rounding adds up to some 3e-6 of the loss
    assert table.loss.item() == pytest.approx(without, rel=1e-5)
    assert (table.loss - table.change).item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", ["qwen2", "gemma"])
def test_all_heads_of_a_layer_off_equals_its_attention_giving_zero(name):
    all_heads_off_equals_no_attention(tiny(name), texts(name), 1)


def test_all_heads_of_a_layer_of_smollm_off(smollm):
    torch.manual_seed(0)
    all_heads_off_equals_no_attention(smollm, {"input_ids": torch.randint(0, 49152, (2, 12))}, 1)


@pytest.mark.parametrize("at_once", [1, 2**24])  # one head a pass, all heads in one pass
@pytest.mark.parametrize("name", CAUSAL)
def test_each_head_in_turn_equals_a_hook_that_empties_its_slice(name, at_once, monkeypatch):
    monkeypatch.setattr(llmlab.attention, "_LOGITS_AT_ONCE", at_once)
    model, inputs = tiny(name), texts(name)
    table = ablate(model, inputs)
    assert table.index.tolist() == [(layer, head) for layer in range(3) for head in range(4)]
    assert list(table) == ["loss", "change"]
    whole = loss_by_transformers(model, inputs)
    near((table.loss - table.change).tolist(), [whole] * 12)
    for layer, head in [(0, 0), (1, 3), (2, 2)]:
        blocks = model.transformer.h if name == "gpt2" else model.model.layers
        last = blocks[layer].attn.c_proj if name == "gpt2" else blocks[layer].self_attn.o_proj
        hook = zeroed(last, slice(8 * head, 8 * head + 8))
        near(table.loss[layer, head], loss_by_transformers(model, inputs))
        hook.remove()
    assert table.change.abs().min() > 1e-5
    one = ablate(model, inputs, (1, 3))
    near(one.loss.item(), table.loss[1, 3])
    assert one.index.tolist() == ["1.3"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_no_part_of_the_loss_nor_the_last_token(side):
    """A text beside longer ones changes as it does alone (Qwen2: positions are rotary)."""
    model = tiny("qwen2")
    length = 5
    alone = {"input_ids": texts("qwen2")["input_ids"][:1, :length]}
    pad = (4, 0) if side == "left" else (0, 4)
    padded = {
        "input_ids": torch.nn.functional.pad(alone["input_ids"], pad),
        "attention_mask": torch.nn.functional.pad(torch.ones(1, length).long(), pad),
    }
    for target in (None, 7):
        pandas.testing.assert_frame_equal(
            ablate(model, padded, target=target), ablate(model, alone, target=target), atol=1e-5
        )


def test_labels_say_which_tokens_count():
    model, ids = tiny("gpt2"), texts("gpt2")["input_ids"]
    labels = ids.clone()
    labels[:, :5] = -100
    table = ablate(model, {"input_ids": ids, "labels": labels}, (0, 1))
    with torch.no_grad():
        logits = model(ids).logits[:, 4:-1]
    whole = cross_entropy(logits.flatten(0, 1), ids[:, 5:].flatten()).item()
    near((table.loss - table.change).item(), whole)


def test_target_is_a_probability_of_the_next_token():
    model, inputs = tiny("gpt2"), texts("gpt2")
    table = ablate(model, inputs, target=7)
    with torch.no_grad():
        whole = model(**inputs).logits[:, -1].softmax(-1)[:, 7].mean().item()
    assert list(table) == ["probability", "change"]
    near((table.probability - table.change).tolist(), [whole] * 12)
    assert table.change.abs().max() > 1e-5


@pytest.mark.parametrize("name", ["t5", "bart"])
@pytest.mark.parametrize("part", ["attention", "encoder_attention", "cross_attention"])
def test_each_part_of_an_encoder_decoder(name, part):
    model, inputs = tiny(name), texts(name)
    inputs["labels"] = inputs.pop("decoder_input_ids")
    table = ablate(model, inputs, part=part)
    layers = len(getattr(capture(model, inputs), part))
    assert table.index.tolist() == [(layer, head) for layer in range(layers) for head in range(4)]
    with torch.no_grad():
        whole = model(**inputs).loss.item()
    near((table.loss - table.change).tolist(), [whole] * len(table))
    assert table.change.abs().min() > 1e-6


def test_classifiers_and_encoders_with_labels():
    torch.manual_seed(0)
    config = BertConfig(**SIZE, num_labels=3)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    inputs = {**texts("bert"), "labels": torch.tensor([0, 1, 2])}
    with torch.no_grad():
        whole = model(**inputs)
    table = ablate(model, inputs)
    near((table.loss - table.change).tolist(), [whole.loss.item()] * 12)
    table = ablate(model, inputs, target=2)
    probability = whole.logits.softmax(-1)[:, 2].mean().item()
    near((table.probability - table.change).tolist(), [probability] * 12)


WRONG_ABLATIONS = {
    "no such layer": ("gpt2", {"heads": (3, 0)}, r"No head \(3, 0\) here.* 3 layers with 4 heads"),
    "no such head": ("gpt2", {"heads": [(0, 1), (0, -1)]}, r"No head \(0, -1\)"),
    "layers only": ("gpt2", {"heads": [1]}, r"A head is \(layer, head\)"),
    "none": ("gpt2", {"heads": []}, "No heads given"),
    "no such token": ("gpt2", {"target": 60}, "target=60, but the ids go from 0 to 59"),
    "no such part": ("gpt2", {"part": "decoder"}, "no part 'decoder'"),
    "no answer": ("bert", {}, "give target=…, or 'labels'"),
    "no next token": ("bert", {"target": 3}, "does not predict the next token"),
}


@pytest.mark.parametrize("case", WRONG_ABLATIONS)
def test_wrong_ablations_get_a_sentence(case):
    name, arguments, sentence = WRONG_ABLATIONS[case]
    with pytest.raises(llmlab.LabError, match=sentence):
        ablate(tiny(name), texts(name), **arguments)


def test_nothing_to_measure_on_gets_a_sentence():
    body = AutoModel.from_config(GPT2Config(**SIZE))
    with pytest.raises(llmlab.LabError, match="GPT2Model makes no logits"):
        ablate(body, texts("gpt2"))
    with pytest.raises(llmlab.LabError, match="at least two tokens"):
        ablate(tiny("gpt2"), torch.tensor([[5]]))
    assert len(ablate(tiny("gpt2"), torch.tensor([[5]]), target=5)) == 12


# ---- statistics ----------------------------------------------------------------------------------

# One head, three tokens; each figure of it worked out by hand below.
TOY = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]])[None, None, None]


def test_statistics_of_a_toy_by_hand():
    row = statistics(TOY).loc[0, 0]
    near(row["entropy"], (0 + math.log(2) + 1.5 * math.log(2)) / 3)
    near(row["distance"], (0 + 0.5 + (0.25 * 2 + 0.25)) / 3)
    near(row["first"], (0.5 + 0.25) / 2)
    near(row["previous"], (0.5 + 0.25) / 2)
    near(row["self"], (1 + 0.5 + 0.5) / 3)
    assert "induction" not in row


def test_duplicates_by_hand():
    """Tokens a b a: only the last has an earlier copy, and gives it 0.25; after it came b: 0.25."""
    uneven = TOY.clone()
    uneven[..., 2, :] = torch.tensor([0.3, 0.2, 0.5])
    row = statistics(uneven, torch.tensor([[7, 8, 7]])).loc[0, 0]
    near(row["duplicate"], 0.3)
    near(row["induction"], 0.2)


def test_a_perfect_induction_head_scores_one():
    """Random tokens twice: each of the second half looks at what came after its first copy."""
    ids = torch.cat([torch.arange(6), torch.arange(6)])
    induction, previous = torch.zeros(12, 12), torch.zeros(12, 12)
    induction[:6, 0] = 1
    induction[torch.arange(6, 12), torch.arange(1, 7)] = 1
    previous[torch.arange(12), (torch.arange(12) - 1).clamp(min=0)] = 1
    attention = torch.stack([induction, previous])[None, None]  # one layer, two heads
    table = statistics(attention, ids)
    assert table.index.tolist() == [(0, 0), (0, 1)]
    assert table["induction"].tolist() == [1, 0]
    assert table["previous"].tolist() == [
        pytest.approx(1 / 11),
        1,
    ]
    assert table["duplicate"].tolist() == [0, 0]


def test_padding_is_left_out_on_either_side():
    """The toy with two tokens of padding, whose rows would change every figure."""
    for start in (0, 2):
        attention = torch.full((1, 1, 1, 5, 5), 0.2)
        inside = slice(start, start + 3)
        attention[..., inside, :] = 0
        attention[..., inside, inside] = TOY
        ids = torch.full((1, 5), 7)
        ids[0, inside] = torch.tensor([7, 8, 7])
        mask = torch.zeros(1, 5).long()
        mask[0, inside] = 1
        pandas.testing.assert_frame_equal(
            statistics(attention, ids, attention_mask=mask), statistics(TOY, [7, 8, 7])
        )


def test_statistics_take_what_transformers_returns():
    inputs = texts("gpt2")
    attentions = by_transformers(tiny("gpt2", "eager"), inputs).attentions
    ours = statistics(capture(tiny("gpt2"), inputs).attention, inputs["input_ids"])
    pandas.testing.assert_frame_equal(ours, statistics(attentions, inputs["input_ids"]))
    assert len(ours) == 12


def test_one_token():
    attention = capture(tiny("gpt2"), torch.tensor([[5]])).attention
    row = statistics(attention, torch.tensor([[5]])).loc[0, 0]
    assert (row["entropy"], row["self"], row["distance"]) == (0, 1, 0)
    assert row[["first", "previous", "duplicate", "induction"]].isna().all()
    assert rollout(attention).tolist() == [[[[1.0]]]] * 3


def test_induction_heads_of_smollm(smollm):
    """SmolLM2 has them; in random text without repetition the same heads look elsewhere."""
    torch.manual_seed(0)
    ids = torch.randint(1000, 20000, (1, 20)).repeat(1, 2)
    table = statistics(capture(smollm, ids).attention, ids)
    best = table["induction"].nlargest(5)
    assert best.iloc[0] > 0.8 and best.min() > 0.3 and table["induction"].median() < 0.05
    assert ablate(smollm, ids, best.index).change.item() > 0.1


@pytest.mark.parametrize("use", [statistics, rollout])
def test_wrong_attention_gets_a_sentence(use):
    wrong = {
        "default attention of transformers returns none": (),
        r"\(layer, batch, head, query, key\), not \(3, 4\)": torch.ones(3, 4),
        "not str": "attention",
        "6 queries look at 9 keys": torch.ones(1, 1, 1, 6, 9),
        "before the softmax": -TOY,
        "different shapes": (torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)),
    }
    for sentence, attention in wrong.items():
        with pytest.raises(llmlab.LabError, match=sentence):
            use(attention)


def test_tokens_of_another_text_get_a_sentence():
    with pytest.raises(llmlab.LabError, match=r"input_ids has shape \(1, 4\)"):
        statistics(TOY, torch.ones(1, 4))
    with pytest.raises(llmlab.LabError, match=r"attention_mask has shape \(2, 3\)"):
        statistics(TOY, attention_mask=torch.ones(2, 3))


# ---- rollout -------------------------------------------------------------------------------------


def test_rollout_by_hand():
    """Two layers, two heads, two tokens: half the heads' mean, half the identity, multiplied."""
    first = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]]])  # mean: [1, 0], [1/2, 1/2]
    second = torch.tensor([[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]])  # mean: all 1/2
    got = rollout(torch.stack([first, second])[:, None])
    one = torch.tensor([[1, 0], [0.25, 0.75]])
    two = torch.tensor([[0.75 * 1 + 0.25 * 0.25, 0.25 * 0.75], [0.25 + 0.75 * 0.25, 0.75 * 0.75]])
    assert_close(got, torch.stack([one, two])[:, None])


def test_rollout_of_a_model_is_a_share_of_the_input():
    shares = rollout(capture(tiny("gpt2"), texts("gpt2")).attention)
    assert shares.shape == (3, 3, 9, 9)
    assert_close(shares.sum(-1), torch.ones(3, 3, 9))
    assert shares.triu(1).abs().max() == 0  # nothing comes from later tokens
