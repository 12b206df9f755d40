"""Generation: equal to transformers token for token and number for number, on three models."""

import math

import numpy
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    MinPLogitsWarper,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    T5Config,
    T5ForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import CausalLMOutput

import llmlab
from llmlab import LabError, generation

PROMPT = "My dog really wanted to eat ice cream because"
SIZE = 49_152  # SmolLM2's vocabulary, which all three models share
MODELS = ["smollm2", "gpt2", "qwen2"]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("smollm2-135m"))


def tiny_gpt2(**settings):
    torch.manual_seed(0)
    # wide weights: a random model with the usual ones finds all tokens nearly equal
    plain = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 128, "vocab_size": SIZE}
    config = GPT2Config(**plain | {"initializer_range": 0.5} | settings)
    return GPT2LMHeadModel(config).eval()


def tiny_qwen2():
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=SIZE, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        initializer_range=0.5,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def models():
    path = llmlab.models.path("smollm2-135m")
    smollm2 = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    made = {"smollm2": smollm2, "gpt2": tiny_gpt2(), "qwen2": tiny_qwen2()}
    for model in made.values():
        model.generation_config.pad_token_id = 2
    return made


@pytest.fixture
def gpt2(models):
    return models["gpt2"]


def generated(model, tokenizer, **settings):
    """The new ids of transformers' own generate."""
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, **settings)
    return ids[0, inputs["input_ids"].shape[1] :]


def logits_of(model, tokenizer, text=PROMPT):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]


# ---- the loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_loop_writes_what_generate_writes(models, tokenizer, name):
    model = models[name]
    expected = generated(model, tokenizer, do_sample=False, max_new_tokens=12)
    assert torch.equal(generation.loop(model, tokenizer, PROMPT, max_new_tokens=12), expected)
    uncached = generation.loop(model, tokenizer, PROMPT, max_new_tokens=12, use_cache=False)
    assert torch.equal(uncached, expected)


@pytest.mark.parametrize("name", MODELS)
def test_the_loop_draws_what_generate_draws(models, tokenizer, name):
    """The same filters in the same order, from the same random numbers."""
    settings = {"temperature": 1.7, "top_k": 40, "top_p": 0.95, "min_p": 0.01}

    def choose(logits):
        return torch.multinomial(generation.probabilities(logits, **settings), 1)

    torch.manual_seed(7)
    expected = generated(models[name], tokenizer, do_sample=True, max_new_tokens=10, **settings)
    torch.manual_seed(7)
    assert torch.equal(generation.loop(models[name], tokenizer, PROMPT, choose, 10), expected)


def test_the_loop_stops_at_the_end_of_text(gpt2, tokenizer):
    whole = generation.loop(gpt2, tokenizer, PROMPT, max_new_tokens=8).tolist()
    end = whole[3]
    for ends in (end, [end, 7]):
        gpt2.generation_config.eos_token_id = ends
        try:
            short = generation.loop(gpt2, tokenizer, PROMPT, max_new_tokens=8)
            expected = generated(gpt2, tokenizer, do_sample=False, max_new_tokens=8)
        finally:
            gpt2.generation_config.eos_token_id = None
        assert short.tolist() == whole[: whole.index(end) + 1] == expected.tolist()


@pytest.mark.parametrize("returned", [None, "he", -1, SIZE, torch.tensor([1, 2])])
def test_choose_must_return_an_id(gpt2, tokenizer, returned):
    with pytest.raises(LabError, match=r"choose (must return|returned)"):
        generation.loop(gpt2, tokenizer, PROMPT, lambda logits: returned)


def test_a_model_without_a_cache_says_how_to_go_on(gpt2, tokenizer):
    class Forgetful(GPT2LMHeadModel):
        def forward(self, *args, **kwargs):
            return CausalLMOutput(logits=super().forward(*args, **kwargs).logits)

    forgetful = Forgetful(gpt2.config).eval()
    forgetful.load_state_dict(gpt2.state_dict())
    with pytest.raises(LabError, match="use_cache=False"):
        generation.loop(forgetful, tokenizer, PROMPT, max_new_tokens=3)
    ids = generation.loop(forgetful, tokenizer, PROMPT, max_new_tokens=3, use_cache=False)
    assert torch.equal(ids, generation.loop(gpt2, tokenizer, PROMPT, max_new_tokens=3))


# ---- the filters --------------------------------------------------------------------------------

RANDOM = torch.randn(4, 200, generator=torch.Generator().manual_seed(0)) * 4
ONE = torch.full((1, 50), -1e4).index_fill(1, torch.tensor([7]), 50.0)  # all mass on one token
SOME = RANDOM[:2].masked_fill(RANDOM[:2] < -3, -math.inf)
EVEN = torch.zeros(1, 20)
TWINS = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, -math.inf]])
CASES = {
    "random": RANDOM, "all on one": ONE, "with -inf": SOME, "all equal": EVEN, "ties": TWINS,
    "double": RANDOM.double(), "half": RANDOM.half(), "a single token": torch.tensor([[0.3]]),
    "huge": RANDOM * 1e4,
}  # fmt: skip
NO_IDS = torch.zeros(1, 0, dtype=torch.long)


@pytest.fixture(params=CASES)
def logits(request):
    return CASES[request.param]


def same(mine, theirs):
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 1.5, 100.0])
def test_temperature_as_transformers(logits, temperature):
    expected = TemperatureLogitsWarper(temperature)(NO_IDS, logits)
    if (expected.isinf() & ~logits.isinf()).any():  # half precision overflows
        with pytest.raises(LabError, match=r"too large for torch\.float16"):
            generation.apply_temperature(logits, temperature)
    else:
        same(generation.apply_temperature(logits, temperature), expected)


@pytest.mark.parametrize("k", [1, 2, 5, 199, 200, 10_000])
def test_top_k_as_transformers(logits, k):
    same(generation.keep_top_k(logits, k), TopKLogitsWarper(k)(NO_IDS, logits))


def test_top_k_of_0_is_off_as_in_generate(logits, gpt2, tokenizer):
    same(generation.keep_top_k(logits, 0), logits)
    torch.manual_seed(3)
    everything = generated(gpt2, tokenizer, do_sample=True, top_k=0, max_new_tokens=5)
    torch.manual_seed(3)
    some = generated(gpt2, tokenizer, do_sample=True, top_k=SIZE, max_new_tokens=5)
    assert torch.equal(everything, some)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.9, 0.999, 1.0])
def test_top_p_as_transformers(logits, p):
    same(generation.keep_top_p(logits, p), TopPLogitsWarper(p)(NO_IDS, logits))


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 1.0])
def test_min_p_as_transformers(logits, p):
    same(generation.keep_min_p(logits, p), MinPLogitsWarper(p)(NO_IDS, logits))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 20.0])
def test_repetition_penalty_as_transformers(logits, penalty):
    size = logits.shape[-1]
    ids = torch.arange(7).repeat(len(logits), 2) % size  # each twice
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    same(generation.penalize_repetition(logits, ids, penalty), expected)


def test_one_row_is_filtered_like_a_batch():
    ids = torch.tensor([3, 5, 3])
    for name, more in [
        ("apply_temperature", (0.7,)), ("keep_top_k", (9,)), ("keep_top_p", (0.8,)),
        ("keep_min_p", (0.1,)),
    ]:  # fmt: skip
        function = getattr(generation, name)
        same(function(RANDOM[0], *more), function(RANDOM, *more)[0])
    one = generation.penalize_repetition(RANDOM[0], ids, 1.5)
    same(one, generation.penalize_repetition(RANDOM[:1], ids[None], 1.5)[0])


def test_towards_temperature_0_the_likeliest_takes_all():
    probs = generation.probabilities(RANDOM, temperature=1e-6)
    same(probs, torch.nn.functional.one_hot(RANDOM.argmax(-1), 200).float())


def test_the_filters_do_not_change_what_they_get():
    before = RANDOM.clone()
    generation.filtered(RANDOM, temperature=0.5, top_k=5, top_p=0.5, min_p=0.1)
    generation.penalize_repetition(RANDOM, torch.zeros(4, 1, dtype=torch.long), 2.0)
    same(RANDOM, before)


def test_frequencies_of_draws_are_the_probabilities():
    probs = generation.probabilities(RANDOM[0], temperature=2.0, top_k=10)
    draw = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(probs, 20_000, replacement=True, generator=draw)
    shares = drawn.bincount(minlength=200) / 20_000
    # four standard errors of a share
    assert bool(((shares - probs).abs() <= 4 * (probs * (1 - probs) / 20_000).sqrt()).all())
    assert bool((shares[probs == 0] == 0).all())


FILTERS = {
    "temperature": lambda x: generation.apply_temperature(x, 1.0),
    "top-k": lambda x: generation.keep_top_k(x, 3),
    "top-k off": lambda x: generation.keep_top_k(x, 0),
    "top-p": lambda x: generation.keep_top_p(x, 0.5),
    "min-p": lambda x: generation.keep_min_p(x, 0.5),
    "repetition": lambda x: generation.penalize_repetition(x, torch.tensor([0]), 1.5),
    "all": lambda x: generation.probabilities(x),
}
BAD_LOGITS = {
    "NaN": (torch.tensor([1.0, math.nan, 2.0]), "hold NaN"),
    "NaN in one row": (torch.stack([RANDOM[0], RANDOM[0] * math.nan]), "hold NaN"),
    "+inf": (torch.tensor([1.0, math.inf]), r"\+inf"),
    "nothing left": (torch.full((5,), -math.inf), "every token was cut"),
    "ids": (torch.tensor([1, 2, 3]), "a tensor of torch.int64"),
    "a list": ([1.0, 2.0], r"this is \[1.0, 2.0\]"),
    "no vocabulary": (torch.tensor(1.0), "vocabulary"),
}


@pytest.mark.parametrize("bad", BAD_LOGITS)
@pytest.mark.parametrize("name", FILTERS)
def test_what_is_no_logits_is_refused_in_words(name, bad):
    wrong, words = BAD_LOGITS[bad]
    with pytest.raises(LabError, match=words):
        FILTERS[name](wrong)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: generation.apply_temperature(RANDOM, 0), "do_sample=False"),
        (lambda: generation.apply_temperature(RANDOM, -1.0), "above 0"),
        (lambda: generation.apply_temperature(RANDOM, math.nan), "above 0"),
        (lambda: generation.apply_temperature(RANDOM, 1e-40), "argmax"),
        (lambda: generation.keep_top_k(RANDOM, -1), "whole number"),
        (lambda: generation.keep_top_k(RANDOM, 0.9), "whole number"),
        (lambda: generation.keep_top_p(RANDOM, 50), "share, from 0 to 1"),
        (lambda: generation.keep_min_p(RANDOM, -0.1), "share, from 0 to 1"),
        (lambda: generation.probabilities(RANDOM, top_p=1.5), "top_p is a share"),
        (lambda: generation.penalize_repetition(RANDOM[0], NO_IDS[0], 0), "above 0"),
        (lambda: generation.penalize_repetition(EVEN[0], torch.tensor([20]), 2), "id 20"),
    ],
)
def test_settings_out_of_range(call, words):
    with pytest.raises(LabError, match=words):
        call()


# ---- next tokens, trace -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_next_tokens_are_the_models_own(models, tokenizer, name):
    table = generation.next_tokens(models[name], tokenizer, PROMPT, k=7)
    logits = logits_of(models[name], tokenizer)[-1]
    best = logits.softmax(-1).topk(7)
    assert table["id"].tolist() == best.indices.tolist()
    assert table["probability"].tolist() == pytest.approx(best.values.tolist(), abs=1e-6)
    assert table["logit"].tolist() == pytest.approx(logits[best.indices].tolist(), abs=1e-4)
    assert table["token"].tolist() == [tokenizer.decode(i) for i in best.indices]
    assert table.index.tolist() == [*range(1, 8)]
    assert list(table.columns) == ["token", "id", "logit", "probability"]


def test_what_smollm2_says(models, tokenizer):
    table = generation.next_tokens(models["smollm2"], tokenizer, "The capital of France is")
    assert table["token"][1] == " Paris"
    assert table["probability"][1] == pytest.approx(0.768, abs=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_of_drawing(models, tokenizer, name):
    settings = {"do_sample": True, "temperature": 1.4, "top_k": 20, "max_new_tokens": 6}
    before = torch.get_rng_state()
    table = generation.trace(models[name], tokenizer, PROMPT, seed=5, **settings)
    assert torch.equal(torch.get_rng_state(), before)  # the student's own numbers go on
    with torch.random.fork_rng():
        torch.manual_seed(5)
        ids = generated(models[name], tokenizer, **settings)
    assert table["id"].tolist() == ids.tolist()
    assert "".join(table["token"]) == tokenizer.decode(ids)
    whole = torch.cat([tokenizer(PROMPT, return_tensors="pt")["input_ids"][0], ids])
    with torch.no_grad():
        logits = models[name](whole[None]).logits[0, -7:-1]
    for step, (_, row) in enumerate(table.iterrows()):
        probs = logits[step].softmax(-1)
        assert row["probability"] == pytest.approx(probs[ids[step]].item(), abs=1e-5)
        assert row["rank"] == 1 + (logits[step] > logits[step, ids[step]]).sum()
        chance = generation.probabilities(logits[step], temperature=1.4, top_k=20)[ids[step]]
        assert row["chance"] == pytest.approx(chance.item(), abs=1e-5)
        assert row["runners_up"].count(", ") >= 2
        best = next(i for i in probs.argsort(descending=True).tolist() if i != ids[step])
        assert row["runners_up"].split(", ")[0].endswith(f" {probs[best]:.2f}")


def test_a_trace_without_chance(models, tokenizer):
    table = generation.trace(models["smollm2"], tokenizer, PROMPT, k=1, max_new_tokens=3)
    assert table["token"].tolist() == [" he", " was", " super"]
    assert table["rank"].tolist() == [1, 1, 1]
    assert table["chance"].tolist() == [1.0, 1.0, 1.0]
    assert table["runners_up"][0].startswith("␣it 0.18")
    view = llmlab.views.tokens(table["token"], table["probability"], notes=table["runners_up"])
    assert "␣he (0.385; ␣it 0.18)" in view.text
    assert 'title="value 0.385; ␣it 0.18"' in view.html


def test_a_trace_shows_what_a_penalty_did(gpt2, tokenizer):
    table = generation.trace(gpt2, tokenizer, PROMPT, repetition_penalty=3.0, max_new_tokens=12)
    assert (table["rank"] > 1).any()
    assert (table["chance"] == 1).all()


def test_a_trace_takes_stop_strings(models, tokenizer):
    table = generation.trace(
        models["smollm2"], tokenizer, PROMPT, stop_strings=["super"], max_new_tokens=9
    )
    assert "".join(table["token"]) == " he was super"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_beams": 3}, "Leave num_beams= out"),
        ({"num_return_sequences": 2, "do_sample": True}, "Leave num_return_sequences= out"),
        ({"temprature": 0.5}, "generate refuses these settings: .*temprature"),
        ({"do_sample": True, "temperature": 0.0}, "generate refuses these settings"),
        ({"max_new_tokens": 0.5}, "max_new_tokens is a whole number"),
        ({"max_new_tokens": 500}, "9 tokens and 500 new ones; this model's context holds 128"),
        ({"seed": -1, "do_sample": True}, "A seed is a whole number"),
    ],
)
def test_settings_that_a_trace_refuses(gpt2, tokenizer, settings, words):
    with pytest.raises(LabError, match=words):
        generation.trace(gpt2, tokenizer, PROMPT, **settings)


# ---- surprise, perplexity -----------------------------------------------------------------------

TEXT = "The cat sat on the mat. The dog sat on the log, and the frog on the bog."


@pytest.mark.parametrize("name", MODELS)
def test_surprise_is_the_loss_token_by_token(models, tokenizer, name):
    model = models[name]
    inputs = tokenizer(TEXT, return_tensors="pt")
    with torch.no_grad():
        loss = model(**inputs, labels=inputs["input_ids"]).loss.item()
    table = generation.surprise(model, tokenizer, TEXT)
    assert "".join(table["token"]) == TEXT
    assert math.isnan(table["surprise"][0])
    assert table["surprise"].mean() == pytest.approx(loss, rel=1e-5)
    assert generation.perplexity(model, tokenizer, TEXT) == pytest.approx(math.exp(loss), rel=1e-4)
    right = logits_of(model, tokenizer, TEXT)[4].log_softmax(-1)[table["id"][5]]
    assert table["surprise"][5] == pytest.approx(-right.item(), abs=1e-4)


def windows_by_hand(model, ids, window, stride):
    """Each token once, in the first window that holds it and a token before."""
    nats = {}
    for begin in range(0, len(ids), stride):
        part = ids[begin : begin + window]
        with torch.no_grad():
            log_probs = model(torch.tensor([part])).logits[0].double().log_softmax(-1)
        for place in range(1, len(part)):
            nats.setdefault(begin + place, -log_probs[place - 1, part[place]].item())
    assert sorted(nats) == [*range(1, len(ids))]
    return [nats[place] for place in sorted(nats)]


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 7), (8, 1), (2, 1), (128, 5), (20, 3)])
def test_windows_count_each_token_once(gpt2, tokenizer, window, stride):
    ids = tokenizer(TEXT)["input_ids"]
    nats = windows_by_hand(gpt2, ids, window, stride)
    table = generation.surprise(gpt2, tokenizer, TEXT, window=window, stride=stride)
    numpy.testing.assert_allclose(table["surprise"][1:], nats, rtol=1e-4, atol=1e-5)
    measured = generation.perplexity(gpt2, tokenizer, TEXT, window=window, stride=stride)
    assert measured == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)


def test_a_text_longer_than_the_context(tokenizer):
    model = tiny_gpt2(n_positions=16)
    long = TEXT * 4
    ids = tokenizer(long)["input_ids"]
    assert len(ids) > 64
    nats = windows_by_hand(model, ids, 16, 8)
    assert generation.perplexity(model, tokenizer, long) == pytest.approx(
        math.exp(sum(nats) / len(nats)), rel=1e-4
    )
    with pytest.raises(LabError, match="from 2 to 16"):
        generation.perplexity(model, tokenizer, long, window=17)


def test_who_guesses_blindly_hesitates_between_all_tokens(gpt2, tokenizer):
    model = GPT2LMHeadModel(gpt2.config).eval()
    for weights in model.parameters():
        torch.nn.init.zeros_(weights)
    assert generation.perplexity(model, tokenizer, TEXT) == pytest.approx(SIZE, rel=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_is_read_and_not_counted(models, tokenizer, name):
    table = generation.surprise(models[name], tokenizer, PROMPT + " it was hot.")
    nats = table["surprise"][-4:]
    assert "".join(table["token"][-4:]) == " it was hot."
    measured = generation.perplexity(models[name], tokenizer, " it was hot.", prompt=PROMPT)
    assert measured == pytest.approx(math.exp(nats.mean()), rel=1e-4)
    # one token is enough after a prompt
    one = generation.perplexity(models[name], tokenizer, " it", prompt=PROMPT)
    assert one == pytest.approx(math.exp(nats.iloc[0]), rel=1e-4)


# ---- compare ------------------------------------------------------------------------------------


def test_distinct_and_repetition_by_hand():
    assert generation.distinct("a b a b", 1) == 2 / 4
    assert generation.distinct("a b a b", 2) == 2 / 4  # ab, ba of 4 words
    assert generation.distinct(["a b", "A B"], 1) == 2 / 4  # together, whatever their case
    assert generation.distinct("one two three four", 1) == 1
    assert generation.distinct("don't, don't", 1) == 2 / 3
    assert generation.repetition("a b c d e f") == 0
    assert generation.repetition("a b a b a b a") == pytest.approx(2 / 4)  # abab baba abab baba
    assert generation.repetition("a a a a a", n=1) == pytest.approx(4 / 5)
    assert generation.repetition(["a a", "a b"], n=1) == pytest.approx(1 / 4)  # a mean over texts
    assert generation.repetition("two words") == 0
    for empty in ("", " ", []):
        with pytest.raises(LabError, match="no words"):
            generation.distinct(empty)
    with pytest.raises(LabError, match="no texts"):
        generation.repetition([])
    with pytest.raises(LabError, match="words in a row"):
        generation.distinct("a b", 0)


SETTINGS = {"greedy": {}, "hot": {"do_sample": True, "temperature": 1.5, "max_new_tokens": 6}}


def test_the_table_holds_what_generate_wrote(models, tokenizer):
    gpt2, qwen2 = models["gpt2"], models["qwen2"]
    before = torch.get_rng_state()
    judge = (qwen2, tokenizer)
    table = generation.compare(gpt2, tokenizer, PROMPT, SETTINGS, judge=judge, samples=3, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert table.index.names == ["setting", "sample"]
    assert table.index.tolist() == [("greedy", 1), ("hot", 1), ("hot", 2), ("hot", 3)]
    greedy = generated(gpt2, tokenizer, do_sample=False, max_new_tokens=40)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        inputs = tokenizer(PROMPT, return_tensors="pt")
        ids = gpt2.generate(**inputs, **SETTINGS["hot"], num_return_sequences=3)
    drawn = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    texts = [tokenizer.decode(greedy, skip_special_tokens=True), *drawn]
    assert table["text"].tolist() == texts and len(set(drawn)) == 3
    for text, (_, row) in zip(texts, table.iterrows(), strict=True):  # each text by itself
        assert row["distinct_1"] == generation.distinct(text, 1)
        assert row["distinct_2"] == generation.distinct(text, 2)
        assert row["repetition"] == generation.repetition(text)
        ppl = generation.perplexity(qwen2, tokenizer, text, prompt=PROMPT)
        assert row["perplexity"] == pytest.approx(ppl, rel=1e-6)
    again = generation.compare(gpt2, tokenizer, PROMPT, SETTINGS, judge=judge, samples=3, seed=4)
    assert again.equals(table)
    other = generation.compare(gpt2, tokenizer, PROMPT, SETTINGS, judge=judge, samples=3, seed=5)
    assert other["text"]["hot", 1] != table["text"]["hot", 1]
    assert other.loc["greedy"].equals(table.loc["greedy"])


def test_who_writes_nothing_has_no_figures(gpt2, tokenizer):
    first = generation.loop(gpt2, tokenizer, PROMPT, max_new_tokens=1).item()
    end = {"eos_token_id": first}
    table = generation.compare(gpt2, tokenizer, PROMPT, {"mute": end | {"max_new_tokens": 1}})
    # the first token is an ordinary one, so it stands there; as a special one it would not
    assert table["text"]["mute", 1] == tokenizer.decode(first)
    for nothing in ("", " "):
        figures = generation._figures(nothing, PROMPT, gpt2, tokenizer)
        assert math.isnan(figures["distinct_1"]) and figures["text"] == nothing
    assert math.isnan(generation._figures("", PROMPT, gpt2, tokenizer)["perplexity"])


@pytest.mark.parametrize("settings", [{}, ["greedy"], "greedy"])
def test_settings_are_a_dictionary(gpt2, tokenizer, settings):
    with pytest.raises(LabError, match="settings is a dictionary"):
        generation.compare(gpt2, tokenizer, PROMPT, settings)


# ---- any model, any tokenizer -------------------------------------------------------------------


def test_dropout_is_off_and_the_model_left_as_it_was(tokenizer):
    model = tiny_gpt2(resid_pdrop=0.5, embd_pdrop=0.5)
    calm = [f(model, tokenizer, TEXT) for f in (generation.next_tokens, generation.surprise)]
    calm.append(generation.trace(model, tokenizer, TEXT, max_new_tokens=3))
    written = generation.loop(model, tokenizer, TEXT, max_new_tokens=3)
    model.train()
    model.transformer.h[0].eval()  # a part that was frozen on purpose
    busy = [f(model, tokenizer, TEXT) for f in (generation.next_tokens, generation.surprise)]
    busy.append(generation.trace(model, tokenizer, TEXT, max_new_tokens=3))
    assert torch.equal(generation.loop(model, tokenizer, TEXT, max_new_tokens=3), written)
    assert all(one.equals(other) for one, other in zip(calm, busy, strict=True))
    assert model.training and not model.transformer.h[0].training
    assert all(weights.grad is None for weights in model.parameters())


def test_tokens_as_text(tokenizer):
    ids = tokenizer("né 🦜")["input_ids"]
    names = [generation.text_of(tokenizer, i) for i in ids]
    assert names[0] == "n"
    assert all("\N{REPLACEMENT CHARACTER}" not in name for name in names)  # parts of the parrot
    assert generation.text_of(tokenizer, 60_000) == "⟨id 60000⟩"

    words = Tokenizer(WordLevel({"▁to": 0, "▁be": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = Metaspace(), decoders.Metaspace()
    sentencepiece = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert [generation.text_of(sentencepiece, i) for i in (0, 1)] == [" to", " be"]


def test_rows_that_the_tokenizer_does_not_know(tokenizer):
    model = tiny_gpt2(vocab_size=SIZE + 10)  # as Qwen has
    model.transformer.wte.weight.data[SIZE:] *= 30
    table = generation.next_tokens(model, tokenizer, PROMPT, k=20)
    assert table["token"].str.startswith("⟨id 4915").any()


def bert(kind):
    config = BertConfig(
        vocab_size=SIZE, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    return kind(config).eval()


def t5():
    config = T5Config(vocab_size=SIZE, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    return T5ForConditionalGeneration(config).eval()


USES = {
    "next_tokens": generation.next_tokens,
    "loop": generation.loop,
    "trace": generation.trace,
    "surprise": generation.surprise,
    "perplexity": generation.perplexity,
    "compare": lambda m, t, text: generation.compare(m, t, text, {"greedy": {}}),
}
NOT_CAUSAL = {
    "a classifier": (lambda: bert(BertForSequenceClassification), "BertForSequenceClassification"),
    "an encoder": (lambda: bert(BertLMHeadModel), "see those that come after"),
    "an encoder–decoder": (t5, "is an encoder–decoder"),
    "a name": (lambda: "smollm2-135m", "A model was expected, not 'smollm2-135m'"),
    "a function": (lambda: print, "A model was expected"),
}


@pytest.mark.parametrize("kind", NOT_CAUSAL)
@pytest.mark.parametrize("use", USES)
def test_models_that_are_not_causal(tokenizer, use, kind):
    make, words = NOT_CAUSAL[kind]
    with pytest.raises(LabError, match=words):
        USES[use](make(), tokenizer, PROMPT)


@pytest.mark.parametrize("use", USES)
def test_texts_that_can_not_be_read(gpt2, tokenizer, use):
    for text, words in [("", "is empty"), (["a", "b"], "One text was expected"), (7, "is a int")]:
        with pytest.raises(LabError, match=words):
            USES[use](gpt2, tokenizer, text)
    with pytest.raises(LabError, match="A tokenizer was expected, not 'smollm2-135m'"):
        USES[use](gpt2, "smollm2-135m", PROMPT)
    small = tiny_gpt2(vocab_size=100)
    with pytest.raises(LabError, match="knows ids up to 99"):
        USES[use](small, tokenizer, PROMPT)


@pytest.mark.parametrize("use", ["next_tokens", "loop", "trace", "compare"])
def test_texts_that_do_not_fit_into_the_context(gpt2, tokenizer, use):
    with pytest.raises(LabError, match=r"has 161 tokens.*context holds 128"):
        USES[use](gpt2, tokenizer, " word" * 161)


@pytest.mark.parametrize("k", [0, -1, SIZE + 1, 2.5])
def test_k_is_out_of_range(gpt2, tokenizer, k):
    with pytest.raises(LabError, match="k is how many tokens to show, from 1 to 49,152"):
        generation.next_tokens(gpt2, tokenizer, PROMPT, k=k)
    assert len(generation.next_tokens(gpt2, tokenizer, PROMPT, k=SIZE)) == SIZE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 1}, "window is how many"),
        ({"window": 200}, "from 2 to 128"),
        ({"stride": 0}, "stride is how far"),
        ({"window": 8, "stride": 8}, "from 1 to 7"),
    ],
)
def test_windows_that_are_impossible(gpt2, tokenizer, settings, words):
    with pytest.raises(LabError, match=words):
        generation.perplexity(gpt2, tokenizer, TEXT, **settings)


def test_one_token_has_no_surprise(gpt2, tokenizer):
    with pytest.raises(LabError, match="a single token"):
        generation.perplexity(gpt2, tokenizer, "The")


def test_a_model_whose_weights_hold_nan(gpt2, tokenizer):
    model = GPT2LMHeadModel(gpt2.config).eval()
    model.transformer.ln_f.weight.data[3] = math.nan
    with pytest.raises(LabError, match="hold NaN"):
        generation.next_tokens(model, tokenizer, PROMPT)
    with pytest.raises(LabError, match="hold NaN"):
        generation.perplexity(model, tokenizer, PROMPT)
    with pytest.raises(LabError, match="NaN"):
        generation.trace(model, tokenizer, PROMPT, do_sample=True)
