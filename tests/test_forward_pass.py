"""The exercises of notebook 02: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.forward_pass`.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm
from transformers import AutoModelForCausalLM, LlamaConfig

import llmlab
from llmlab.checks import exercises, find
from llmlab.plots.style import ink_on

ALL = ["02.1", "02.2", "02.3", "02.4", "02.5"]


# ---- 02.1: the next token of each text in a batch padded on the right ----------------------------


def next_right(logits, attention_mask):
    answers = []
    for row, mask in zip(logits, attention_mask, strict=True):
        length = int(mask.sum())
        answers.append(int(torch.argmax(row[length - 1])))
    return answers


def next_from_padding(logits, attention_mask):
    return torch.argmax(logits[:, -1, :], dim=1)


def next_off_by_one(logits, attention_mask):
    rows = torch.arange(logits.shape[0])
    return logits[rows, attention_mask.sum(dim=1)].argmax(dim=1)


def next_of_the_token_before(logits, attention_mask):
    return torch.stack(
        [r[m.nonzero().max() - 1].argmax() for r, m in zip(logits, attention_mask, strict=True)]
    )


def next_after_the_first(logits, attention_mask):
    return logits.argmax(dim=2)[:, 0]


def next_everywhere(logits, attention_mask):
    return logits.softmax(dim=2).argmax(dim=2)


def next_wrong_axis(logits, attention_mask):
    return logits.softmax(dim=1).argmax(dim=1)


def next_values(logits, attention_mask):
    last = attention_mask.sum(1) - 1
    return logits[range(len(logits)), last].max(dim=1).values


def next_probabilities(logits, attention_mask):
    last = attention_mask.sum(1) - 1
    return logits.softmax(2)[range(len(logits)), last].max(dim=1).values


def next_every_row_everywhere(logits, attention_mask):
    return logits[:, attention_mask.sum(dim=1) - 1].argmax(dim=-1)


def next_without_axis(logits, attention_mask):
    return torch.argmax(logits[range(len(logits)), attention_mask.sum(dim=1) - 1])


def next_one_text(logits, attention_mask):
    return int(logits[0][attention_mask[0] == 1][-1].argmax())


# ---- 02.2: the loss of a padded batch ------------------------------------------------------------


def loss_right(logits, labels):
    total, count = 0.0, 0
    for row, wanted in zip(logits, labels, strict=True):
        for position in range(len(wanted) - 1):
            target = int(wanted[position + 1])
            if target != -100:
                total -= float(row[position].softmax(-1)[target].log())
                count += 1
    return total / count


def loss_unshifted(logits, labels):
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


def loss_shifted_back(logits, labels):
    return cross_entropy(logits[:, 1:].flatten(0, 1), labels[:, :-1].flatten())


def loss_divided_by_all(logits, labels):
    each = cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return each.mean()


def loss_total(logits, labels):
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def loss_text_by_text(logits, labels):
    texts = zip(logits, labels, strict=True)
    return sum(cross_entropy(a[:-1], b[1:]) for a, b in texts) / len(logits)


def loss_bits(logits, labels):
    targets = labels[:, 1:]
    keep = targets != -100
    probs = logits[:, :-1].softmax(-1)[keep]
    return -torch.log2(probs[range(len(probs)), targets[keep]]).mean()


def loss_padding_as_token_0(logits, labels):
    filled = labels.masked_fill(labels == -100, 0)
    return cross_entropy(logits[:, :-1].flatten(0, 1), filled[:, 1:].flatten())


def loss_minus_forgotten(logits, labels):
    targets = labels[:, 1:]
    keep = targets != -100
    probs = logits[:, :-1].softmax(-1)[keep]
    return torch.log(probs[range(len(probs)), targets[keep]]).mean()


def loss_log_of_mean(logits, labels):
    targets = labels[:, 1:]
    keep = targets != -100
    probs = logits[:, :-1].softmax(-1)[keep]
    return -torch.log(probs[range(len(probs)), targets[keep]].mean())


def loss_of_logits(logits, labels):
    targets = labels[:, 1:]
    keep = targets != -100
    scores = logits[:, :-1][keep]
    return -scores[range(len(scores)), targets[keep]].mean()


def _kept(logits, labels):
    """Rows and targets, shifted, the ignored ones taken out: (counted, vocabulary), (counted)."""
    targets = labels[:, 1:]
    keep = targets != -100
    return logits[:, :-1][keep], targets[keep]


def loss_probability(logits, labels):
    rows, targets = _kept(logits, labels)
    return rows.softmax(-1)[range(len(rows)), targets].mean()


def loss_softmax_over_rows(logits, labels):
    probs, targets = _kept(logits.softmax(1), labels)
    return -probs[range(len(probs)), targets].log().mean()


def loss_softmax_over_shifted_rows(logits, labels):
    total, count = 0.0, 0
    for row, wanted in zip(logits[:, :-1].softmax(1), labels[:, 1:], strict=True):
        for probs, target in zip(row, wanted, strict=True):
            if target != -100:
                total, count = total - probs[target].log(), count + 1
    return total / count


def loss_softmax_over_batch(logits, labels):
    probs, targets = _kept(logits.softmax(0), labels)
    return -probs[range(len(probs)), targets].log().mean()


def loss_log_of_logits(logits, labels):
    rows, targets = _kept(logits, labels)
    return -rows[range(len(rows)), targets].log().mean()


def loss_mask_unshifted(logits, labels):
    safe = labels.masked_fill(labels == -100, 0)
    each = cross_entropy(logits[:, :-1].transpose(1, 2), safe[:, 1:], reduction="none")
    return each[labels[:, :-1] != -100].mean()


def loss_token_0_skipped(logits, labels):
    filled = labels.clone()
    filled[filled == -100] = 0
    return cross_entropy(logits[:, :-1].flatten(0, 1), filled[:, 1:].flatten(), ignore_index=0)


def loss_looks_up_ignored(logits, labels):
    total = 0
    for row, wanted in zip(logits.softmax(-1), labels, strict=True):
        for n in range(len(wanted) - 1):
            total -= row[n][wanted[n + 1]].log()
    return total


def loss_gathers_ignored(logits, labels):
    probs = logits[:, :-1].softmax(-1)
    return -probs.gather(2, labels[:, 1:].unsqueeze(2)).log().mean()


def loss_lists_ignored(logits, labels):
    means = []
    for row, wanted in zip(logits.softmax(-1), labels, strict=True):
        means.append(-row[range(len(wanted) - 1), wanted[1:]].log().mean())
    return sum(means) / len(means)


# ---- 02.3: GPT-2's norm --------------------------------------------------------------------------


def norm_right(x, weight, bias):
    mean = x.mean(dim=2, keepdim=True)
    std = (((x - mean) ** 2).mean(dim=2, keepdim=True) + 1e-5).sqrt()
    return (x - mean) / std * weight + bias


def norm_tiny_outside(x, weight, bias):
    mean = x.mean(dim=2, keepdim=True)
    std = ((x - mean) ** 2).mean(dim=2, keepdim=True).sqrt()
    return (x - mean) / (std + 1e-5) * weight + bias


def norm_no_tiny(x, weight, bias):
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True, unbiased=False)
    return (x - mean) / std * weight + bias


def norm_axis_lost(x, weight, bias):
    centred = x - x.mean(-1)
    return centred / (x.var(-1, unbiased=False) + 1e-5).sqrt() * weight + bias


def norm_axis_lost_later(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, unbiased=False) + 1e-5).sqrt() * weight + bias


def norm_sample_std_with_tiny(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def norm_rms(x, weight, bias):
    return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + 1e-5) * weight + bias


def norm_sample_std(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * weight + bias


def norm_over_sequence(x, weight, bias):
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def norm_over_batch(x, weight, bias):
    mean, var = x.mean(0, keepdim=True), x.var(0, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def norm_over_everything(x, weight, bias):
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5) * weight + bias


def norm_by_variance(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / x.var(-1, keepdim=True, unbiased=False) * weight + bias


def norm_without_bias(x, weight, bias):
    return layer_norm(x, weight.shape, weight)


def norm_without_weight(x, weight, bias):
    return layer_norm(x, weight.shape) + bias


def norm_bias_first(x, weight, bias):
    return (layer_norm(x, weight.shape) + bias) * weight


def norm_size_before_centring(x, weight, bias):
    rms = torch.sqrt((x**2).mean(dim=-1, keepdim=True))
    return (x - x.mean(-1, keepdim=True)) / rms * weight + bias


# ---- 02.4: parameters from the sizes -------------------------------------------------------------


def sizes_right(vocabulary, hidden, layers, heads, key_heads, inner):
    kv = hidden // heads * key_heads
    one = hidden * hidden + hidden * kv + hidden * kv + hidden * hidden
    one += hidden * inner + hidden * inner + inner * hidden
    one += hidden + hidden
    return vocabulary * hidden + layers * one + hidden


def sizes_tied_twice(vocabulary, hidden, layers, heads, key_heads, inner):
    right = sizes_right(vocabulary, hidden, layers, heads, key_heads, inner)
    return right + hidden * vocabulary


def sizes_without_groups(vocabulary, hidden, layers, heads, key_heads, inner):
    one = 4 * hidden**2 + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + layers * one + hidden


def sizes_two_matrices(vocabulary, hidden, layers, heads, key_heads, inner):
    right = sizes_right(vocabulary, hidden, layers, heads, key_heads, inner)
    return right - layers * hidden * inner


def sizes_no_norms(vocabulary, hidden, layers, heads, key_heads, inner):
    right = sizes_right(vocabulary, hidden, layers, heads, key_heads, inner)
    return right - 2 * hidden * layers - hidden


def sizes_one_norm(vocabulary, hidden, layers, heads, key_heads, inner):
    return sizes_right(vocabulary, hidden, layers, heads, key_heads, inner) - layers * hidden


def sizes_no_last_norm(vocabulary, hidden, layers, heads, key_heads, inner):
    return sizes_right(vocabulary, hidden, layers, heads, key_heads, inner) - hidden


def sizes_no_output(vocabulary, hidden, layers, heads, key_heads, inner):
    right = sizes_right(vocabulary, hidden, layers, heads, key_heads, inner)
    return right - layers * hidden * hidden


def sizes_keys_without_values(vocabulary, hidden, layers, heads, key_heads, inner):
    right = sizes_right(vocabulary, hidden, layers, heads, key_heads, inner)
    return right - layers * hidden * (hidden // heads * key_heads)


def sizes_whole_heads(vocabulary, hidden, layers, heads, key_heads, inner):
    one = 2 * hidden**2 + 2 * hidden * hidden * key_heads + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + layers * one + hidden


def sizes_one_layer(vocabulary, hidden, layers, heads, key_heads, inner):
    return sizes_right(vocabulary, hidden, 1, heads, key_heads, inner)


def sizes_head_64(vocabulary, hidden, layers, heads, key_heads, inner):
    one = 2 * hidden**2 + 2 * hidden * 64 * key_heads + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + layers * one + hidden


def sizes_third(vocabulary, hidden, layers, heads, key_heads, inner):
    one = 2 * hidden**2 + 2 * hidden * (hidden // 3) + 3 * hidden * inner + 2 * hidden
    return vocabulary * hidden + layers * one + hidden


def sizes_constant(vocabulary, hidden, layers, heads, key_heads, inner):
    return 134_515_008


# ---- 02.5: a vector for a sentence ---------------------------------------------------------------


def vector_right(last_hidden_state, attention_mask):
    rows = zip(last_hidden_state, attention_mask, strict=True)
    return torch.stack([states[mask == 1].mean(dim=0) for states, mask in rows])


def vector_with_padding(last_hidden_state, attention_mask):
    return torch.mean(last_hidden_state, dim=1)


def vector_long_divisor(last_hidden_state, attention_mask):
    masked = last_hidden_state.masked_fill(attention_mask[..., None] == 0, 0.0)
    return masked.sum(dim=1) / last_hidden_state.shape[1]


def vector_sum(last_hidden_state, attention_mask):
    return torch.einsum("bsh,bs->bh", last_hidden_state, attention_mask.float())


def vector_of_padding(last_hidden_state, attention_mask):
    hide = attention_mask.bool()  # read as key_padding_mask: True is ignored
    rows = zip(last_hidden_state, hide, strict=True)
    return torch.stack([states[~mask].mean(dim=0) for states, mask in rows])


def vector_first_token(last_hidden_state, attention_mask):
    return last_hidden_state[:, 0, :]


def vector_last_position(last_hidden_state, attention_mask):
    return last_hidden_state[:, -1, :]


def vector_over_hidden(last_hidden_state, attention_mask):
    return last_hidden_state.mean(dim=2) * attention_mask


def vector_over_batch(last_hidden_state, attention_mask):
    return (last_hidden_state * attention_mask.unsqueeze(2)).mean(dim=0)


def vector_all_tokens_of_batch(last_hidden_state, attention_mask):
    masked = last_hidden_state * attention_mask.unsqueeze(-1)
    return masked.sum(dim=1) / attention_mask.sum()


def vector_flat_divisor(last_hidden_state, attention_mask):
    total = torch.einsum("bsh,bs->bh", last_hidden_state, attention_mask.float())
    return total / attention_mask.sum(dim=1)


def vector_flat_mask(last_hidden_state, attention_mask):
    return (last_hidden_state * attention_mask).sum(dim=1)


RIGHT = {
    "02.1": next_right,
    "02.2": loss_right,
    "02.3": norm_right,
    "02.4": sizes_right,
    "02.5": vector_right,
}
# Exercise, the student's function, words that only this misconception's message has.
WRONG = [
    ("02.1", next_from_padding, "last position of every row"),
    ("02.1", next_off_by_one, "one position too far"),
    ("02.1", next_of_the_token_before, "one position too early"),
    ("02.1", next_after_the_first, "it has seen one token only"),
    ("02.1", next_everywhere, "for every position"),
    ("02.1", next_wrong_axis, "along the sequence"),
    ("02.1", next_values, "logits themselves"),
    ("02.1", next_probabilities, "these are probabilities"),
    ("02.1", next_one_text, "only the first text"),
    ("02.1", next_every_row_everywhere, "Give a list of rows"),
    ("02.1", next_without_axis, "has no axis"),
    ("02.3", norm_tiny_outside, "after the root"),
    ("02.3", norm_no_tiny, "divide 0 by 0"),
    ("02.3", norm_axis_lost, "an axis got lost"),
    ("02.3", norm_axis_lost_later, "an axis got lost"),
    ("02.3", norm_sample_std_with_tiny, "of a sample"),
    ("02.3", norm_rms, "still RMSNorm"),
    ("02.3", norm_sample_std, "of a sample"),
    ("02.3", norm_over_sequence, "along the sequence"),
    ("02.3", norm_over_batch, "across the batch"),
    ("02.3", norm_over_everything, "whole tensor at once"),
    ("02.3", norm_by_variance, "the variance itself"),
    ("02.3", norm_without_bias, "the bias has no effect"),
    ("02.3", norm_without_weight, "the weight has no effect"),
    ("02.3", norm_bias_first, "stretches the bias"),
    ("02.3", norm_size_before_centring, "before their mean is removed"),
    ("02.2", loss_unshifted, "just read"),
    ("02.2", loss_shifted_back, "the other way"),
    ("02.2", loss_divided_by_all, "divide by too many"),
    ("02.2", loss_total, "a total"),
    ("02.2", loss_text_by_text, "as much as a long one"),
    ("02.2", loss_bits, "bits"),
    ("02.2", loss_padding_as_token_0, "as if token 0"),
    ("02.2", loss_minus_forgotten, "below zero"),
    ("02.2", loss_log_of_mean, "do not commute"),
    ("02.2", loss_of_logits, "raw logits"),
    ("02.2", loss_probability, "mean of probabilities"),
    ("02.2", loss_softmax_over_rows, "along the whole sequence"),
    ("02.2", loss_softmax_over_shifted_rows, "along the sequence"),
    ("02.2", loss_softmax_over_batch, "across the batch"),
    ("02.2", loss_log_of_logits, "not a number"),
    ("02.2", loss_mask_unshifted, "your mask is not"),
    ("02.2", loss_token_0_skipped, "also skip token 0"),
    ("02.2", loss_looks_up_ignored, "The loop stopped"),
    ("02.2", loss_gathers_ignored, "gather stopped"),
    ("02.2", loss_lists_ignored, "The look-up stopped"),
    ("02.4", sizes_tied_twice, "count it twice"),
    ("02.4", sizes_without_groups, "every query head its own"),
    ("02.4", sizes_two_matrices, "two matrices"),
    ("02.4", sizes_no_norms, "norms are left out"),
    ("02.4", sizes_one_norm, "more than one norm"),
    ("02.4", sizes_no_last_norm, "outside the layers"),
    ("02.4", sizes_no_output, "behind the heads"),
    ("02.4", sizes_keys_without_values, "keys or values"),
    ("02.4", sizes_whole_heads, "as wide as the whole vector"),
    ("02.4", sizes_one_layer, "one layer"),
    ("02.4", sizes_head_64, "always have 64"),
    ("02.4", sizes_third, "a third"),
    ("02.4", sizes_constant, "own count"),
    ("02.5", vector_with_padding, "padding takes part"),
    ("02.5", vector_long_divisor, "still counts"),
    ("02.5", vector_sum, "this is a sum"),
    ("02.5", vector_of_padding, "the wrong way round"),
    ("02.5", vector_first_token, "first token's vector"),
    ("02.5", vector_last_position, "last position's vector"),
    ("02.5", vector_over_hidden, "over the hidden axis"),
    ("02.5", vector_over_batch, "mixed together"),
    ("02.5", vector_all_tokens_of_batch, "in the whole batch"),
    ("02.5", vector_flat_divisor, "which axes"),
    ("02.5", vector_flat_mask, "one axis less"),
]


@pytest.mark.parametrize("number", ALL)
def test_the_reference_and_another_right_way_pass(number):
    assert llmlab.check(number, find(number).reference).status == "passed"
    assert llmlab.check(number, RIGHT[number]).status == "passed"


@pytest.mark.parametrize("number", ALL)
def test_the_untouched_stub_is_open(number):
    def stub(*arguments):
        raise NotImplementedError

    assert llmlab.check(number, stub).status == "open"


@pytest.mark.parametrize(
    ("number", "answer", "words"), WRONG, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_misconception_hears_its_own_sentence(number, answer, words):
    result = llmlab.check(number, answer)
    assert result.status == "wrong"
    assert words in result.message
    assert result.message in find(number).mistakes  # the message is one of ours
    # 02.3 adds a second sentence where a second mistake comes along; the first stays its own
    first = result.message.split(" And ")[0]
    others = [m for m in find(number).mistakes if not m.startswith(first)]
    assert not any(words in message for message in others if " And " not in message)


def test_there_are_these_five_and_each_has_at_least_three_wrong_answers_here():
    assert [number for number in exercises() if number.startswith("02")] == ALL
    for number in ALL:
        assert sum(n == number for n, _, _ in WRONG) >= 3


@pytest.mark.parametrize("number", ALL)
def test_no_message_holds_the_code_that_would_be_right(number):
    code = [
        "sum(1)",
        "- 1]",
        "correction=0",
        "unbiased",
        "[:, 1:]",
        "[:, :-1]",
        "ignore_index",
        "//",
    ]
    for message in find(number).mistakes:
        assert not any(piece in message for piece in code)


def test_the_sizes_agree_with_a_real_llama():
    """02.4 counts what transformers builds: SmolLM2-135M, and a Llama of other sizes."""
    assert find("02.4").reference(49152, 576, 30, 9, 3, 1536) == 134_515_008
    vocabulary, hidden, layers, heads, key_heads, inner = 1000, 96, 5, 6, 2, 200
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=inner,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        real = AutoModelForCausalLM.from_config(config).num_parameters()
    assert find("02.4").reference(vocabulary, hidden, layers, heads, key_heads, inner) == real


def test_the_loss_agrees_with_torch_and_with_transformers():
    """02.2 is what `labels=` computes, shift and ignored positions included."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    labels = torch.randint(50, (3, 7))
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[0, 4:] = 0
    labels[0, 4:] = -100
    with torch.no_grad():
        outputs = model(labels.clamp(min=0), attention_mask=mask, labels=labels)
    torch.testing.assert_close(find("02.2").reference(outputs.logits, labels), outputs.loss)


def test_the_norm_and_the_vector_agree_with_torch():
    x, weight, bias = torch.randn(2, 3, 8), torch.rand(8), torch.randn(8)
    ours = find("02.3").reference(x, weight, bias)
    module = torch.nn.LayerNorm(8)
    module.load_state_dict({"weight": weight, "bias": bias})
    torch.testing.assert_close(ours, module(x).detach())
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    expected = torch.stack([x[0, :2].mean(0), x[1].mean(0)])
    torch.testing.assert_close(find("02.5").reference(x, mask), expected)


# ---- the two pictures that notebook 02 has for itself ------------------------------------------


def test_the_drawing_of_a_decoder_has_the_names_and_numbers_of_the_model():
    picture = llmlab.plots.decoder(30, 576, 49152)
    drawn = " ".join(text.get_text() for text in picture.axes[0].texts)
    for name in ["embed_tokens", "30 layers", "576", "49,152", "self_attn", "mlp", "lm_head"]:
        assert name in drawn
        assert name in picture.alt


def test_a_table_of_words_shows_each_word_in_its_cell_the_first_row_below():
    words = [["a", "$b"], ["c", "d"]]
    values = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    picture = llmlab.plots.words(words, values, row_names=[0, 1], columns=["x", "y"], alt="words")
    axes = picture.axes[0]
    cells = {text.get_text(): text.get_position() for text in axes.texts}
    assert cells == {"a": (0, 0), r"\$b": (1, 0), "c": (0, 1), "d": (1, 1)}
    assert axes.get_ylim()[0] < axes.get_ylim()[1]  # row 0 is at the bottom
    image = axes.images[0]
    for number in (0.0, 1.0):  # dark letters read on the lightest and on the darkest cell
        assert ink_on(image.to_rgba(number)) == "#000000"
    assert image.to_rgba(0.0) != image.to_rgba(1.0)
