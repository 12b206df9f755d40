"""The exercises of notebook 06: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.encoder_decoder`.
"""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.bart.modeling_bart import shift_tokens_right

from llmlab.checks import find
from tests.tools.exercises import Exercises

# ---- 06.1: cross-attention weights --------------------------------------------------------------


def cross_right(q, k, attention_mask):
    scores = torch.einsum("wd,rd->wr", q, k) / math.sqrt(k.shape[1])
    scores[:, attention_mask == 0] = -torch.inf
    return torch.softmax(scores, dim=1)


def cross_right_by_hand(q, k, attention_mask):
    numbers = torch.exp(q @ k.T / len(q[0]) ** 0.5) * attention_mask
    return (numbers / numbers.sum(1, keepdim=True)).tolist()


def cross_unmasked(q, k, attention_mask):
    return torch.softmax(q @ k.mT / q.shape[1] ** 0.5, 1)


def cross_both_masks(q, k, attention_mask):
    scores = q @ k.T / q.shape[1] ** 0.5 + torch.full((len(q), len(k)), -torch.inf).triu(1)
    scores[:, attention_mask == 0] = -torch.inf
    return scores.softmax(-1)


def cross_causal_mask(q, k, attention_mask):
    scores = q @ k.T / q.shape[1] ** 0.5
    for row in range(len(q)):
        scores[row, row + 1 :] = -torch.inf
    return scores.softmax(-1)


def cross_undivided(q, k, attention_mask):
    scores = q @ k.T
    scores[:, attention_mask == 0] = -1e9
    return scores.softmax(-1)


def cross_without_root(q, k, attention_mask):
    scores = q @ k.T / q.shape[1]
    scores[:, attention_mask == 0] = -1e9
    return scores.softmax(-1)


def cross_over_queries(q, k, attention_mask):
    return (q @ k.T / q.shape[1] ** 0.5).masked_fill(attention_mask == 0, -torch.inf).softmax(0)


def cross_zeroed_afterwards(q, k, attention_mask):
    weights = (q @ k.T / q.shape[1] ** 0.5).softmax(-1)
    weights[:, attention_mask == 0] = 0.0
    return weights


def cross_scores_zeroed(q, k, attention_mask):
    scores = q @ k.T / q.shape[1] ** 0.5
    scores[:, attention_mask == 0] = 0.0
    return scores.softmax(-1)


def cross_mask_upside_down(q, k, attention_mask):
    scores = q @ k.T / q.shape[1] ** 0.5
    scores[:, attention_mask == 1] = -torch.inf
    return scores.softmax(-1)


def cross_by_root_of_letters(q, k, attention_mask):
    scores = q @ k.T / math.sqrt(k.shape[0])
    scores[:, attention_mask == 0] = -torch.inf
    return scores.softmax(dim=1)


def cross_by_root_of_sounds(q, k, attention_mask):
    scores = q @ k.T / math.sqrt(q.shape[0])
    scores[:, attention_mask == 0] = -torch.inf
    return scores.softmax(dim=1)


# ---- 06.2: shift right --------------------------------------------------------------------------


def shift_right(labels, start_id, pad_id):
    out = torch.empty_like(labels)
    out[:, 1:] = labels[:, :-1]
    out[:, 0] = start_id
    out[out == -100] = pad_id
    return out


def shift_right_lists(labels, start_id, pad_id):
    rows = [[start_id, *row[:-1]] for row in labels.tolist()]
    return [[pad_id if token < 0 else token for token in row] for row in rows]


def shift_with_minus_100(labels, start_id, pad_id):
    out = labels.clone()
    out[:, 1:], out[:, 0] = labels[:, :-1], start_id
    return out


def shift_keeps_last(labels, start_id, pad_id):
    labels[labels == -100] = pad_id
    return torch.nn.functional.pad(labels, (1, 0), value=start_id)


def shift_cuts(labels, start_id, pad_id):
    labels[labels == -100] = pad_id
    return labels[:, :-1]


def shift_left(labels, start_id, pad_id):
    labels[labels == -100] = pad_id
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=pad_id)


def shift_not(labels, start_id, pad_id):
    return torch.where(labels == -100, pad_id, labels)


def shift_overwrites(labels, start_id, pad_id):
    labels[labels == -100] = pad_id
    labels[:, 0] = start_id
    return labels


def shift_rolls(labels, start_id, pad_id):
    labels[labels == -100] = pad_id
    return torch.roll(labels, 1, 1)


def shift_fills_with_start(labels, start_id, pad_id):
    out = shift_right(labels, start_id, pad_id)
    shifted = labels.roll(1, 1)
    shifted[:, 0] = start_id
    out[shifted == -100] = start_id
    return out


def shift_starts_with_pad(labels, start_id, pad_id):
    out = shift_right(labels, start_id, pad_id)
    out[:, 0] = pad_id
    return out


def shift_fills_with_zero(labels, start_id, pad_id):
    shifted = labels.roll(1, 1)
    shifted[:, 0] = start_id
    return shifted.clamp(min=0)


def shift_rolls_and_keeps(labels, start_id, pad_id):
    return torch.roll(labels, 1, 1)


def shift_drops_the_end(labels, start_id, pad_id):
    labels = torch.where(labels == 2, torch.tensor(pad_id), labels)
    return shift_right(labels, start_id, pad_id)


# ---- 06.3: the loss -----------------------------------------------------------------------------


def loss_right(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels)


def loss_right_loop(logits, labels):
    nats = [
        -math.log(logits[row, place].softmax(0)[label])
        for row, line in enumerate(labels.tolist())
        for place, label in enumerate(line)
        if label != -100
    ]
    return sum(nats) / len(nats)


def loss_causal_shift(logits, labels):
    return cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])


def loss_padding_as_zero(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels.clamp(min=0))


def loss_padding_as_last(logits, labels):
    vocabulary = logits.shape[-1]
    return cross_entropy(logits.transpose(1, 2), torch.where(labels < 0, vocabulary - 1, labels))


def loss_divided_by_all(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean()


def loss_mean_of_means(logits, labels):
    return torch.stack([cross_entropy(a, b) for a, b in zip(logits, labels, strict=True)]).mean()


def loss_summed(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels, reduction="sum")


def loss_without_minus(logits, labels):
    real = labels != -100
    return logits.log_softmax(-1)[real].gather(-1, labels[real][:, None]).mean()


def loss_as_perplexity(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels).exp()


def loss_of_raw_scores(logits, labels):
    kept = [
        logits[row, place, label]
        for row, line in enumerate(labels)
        for place, label in enumerate(line)
        if label != -100
    ]
    return -sum(kept) / len(kept)


def loss_minus_p(logits, labels):
    return loss_of_raw_scores(logits.softmax(-1), labels)


def loss_sum_a_text(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum(1).mean()


# ---- 06.4: the best of several answers ----------------------------------------------------------


def best_right(log_probs, penalty):
    return max(
        range(len(log_probs)), key=lambda i: sum(log_probs[i]) / len(log_probs[i]) ** penalty
    )


def best_right_tensor(log_probs, penalty):
    sums = torch.tensor([sum(one) for one in log_probs], dtype=torch.float64)
    lengths = torch.tensor([len(one) for one in log_probs], dtype=torch.float64)
    return (sums / lengths**penalty).argmax()


def best_by_sum(log_probs, penalty):
    return max(range(len(log_probs)), key=lambda i: sum(log_probs[i]))


def best_by_mean(log_probs, penalty):
    return max(range(len(log_probs)), key=lambda i: sum(log_probs[i]) / len(log_probs[i]))


def best_is_lowest(log_probs, penalty):
    scores = [sum(one) / len(one) ** penalty for one in log_probs]
    return scores.index(min(scores))


def best_multiplied(log_probs, penalty):
    scores = [sum(one) * len(one) ** penalty for one in log_probs]
    return scores.index(max(scores))


def best_length_times_penalty(log_probs, penalty):
    scores = [sum(one) / (len(one) * penalty) for one in log_probs]
    return scores.index(max(scores))


def best_as_score(log_probs, penalty):
    return max(sum(one) / len(one) ** penalty for one in log_probs)


def best_is_shortest(log_probs, penalty):
    lengths = [len(one) for one in log_probs]
    return lengths.index(min(lengths))


def best_mean_by_penalty(log_probs, penalty):
    scores = [sum(one) / len(one) * penalty for one in log_probs]
    return scores.index(max(scores))


# ---- the checks ---------------------------------------------------------------------------------

RIGHT = [
    ("06.1", cross_right),
    ("06.1", cross_right_by_hand),
    ("06.2", shift_right),
    ("06.2", shift_right_lists),
    ("06.3", loss_right),
    ("06.3", loss_right_loop),
    ("06.4", best_right),
    ("06.4", best_right_tensor),
]

WRONG = [
    ("06.1", cross_unmasked, "attention_mask has no effect"),
    ("06.1", cross_both_masks, "as well as the padding's"),
    ("06.1", cross_causal_mask, "of a decoder's self-attention"),
    ("06.1", cross_undivided, "not divided by √size"),
    ("06.1", cross_without_root, "not by its root"),
    ("06.1", cross_over_queries, "the wrong axis"),
    ("06.1", cross_zeroed_afterwards, "no longer add up to 1"),
    ("06.1", cross_scores_zeroed, "e to the power of 0"),
    ("06.1", cross_mask_upside_down, "upside down"),
    ("06.2", shift_with_minus_100, "−100 is left"),
    ("06.2", shift_keeps_last, "one longer"),
    ("06.2", shift_cuts, "one shorter"),
    ("06.2", shift_left, "to the left"),
    ("06.2", shift_not, "nothing is shifted"),
    ("06.1", cross_by_root_of_letters, "how many tokens were read"),
    ("06.1", cross_by_root_of_sounds, "how many tokens are written"),
    ("06.2", shift_rolls_and_keeps, "two things: the last token"),
    ("06.2", shift_drops_the_end, "the end token is filled"),
    ("06.2", shift_overwrites, "overwritten"),
    ("06.2", shift_rolls, "comes round to the front. In"),
    ("06.2", shift_fills_with_start, "filled with the start token"),
    ("06.2", shift_starts_with_pad, "start with the padding id"),
    ("06.2", shift_fills_with_zero, "filled with 0"),
    ("06.3", loss_causal_shift, "as in a causal model"),
    ("06.3", loss_padding_as_zero, "as if token 0"),
    ("06.3", loss_padding_as_last, "the last token of the vocabulary"),
    ("06.3", loss_divided_by_all, "divided by all places"),
    ("06.3", loss_mean_of_means, "each text's mean"),
    ("06.3", loss_summed, "this is the sum"),
    ("06.3", loss_without_minus, "a minus is missing"),
    ("06.3", loss_as_perplexity, "perplexity"),
    ("06.3", loss_of_raw_scores, "these are the logits"),
    ("06.3", loss_minus_p, "−p is not"),
    ("06.3", loss_sum_a_text, "each text's sum"),
    ("06.4", best_mean_by_penalty, "multiplied by penalty"),
    ("06.4", best_by_sum, "the best bare sum"),
    ("06.4", best_by_mean, "always the best mean"),
    ("06.4", best_is_lowest, "the worst answer"),
    ("06.4", best_multiplied, "multiplied by the length"),
    ("06.4", best_length_times_penalty, "length times penalty"),
    ("06.4", best_as_score, "the best score"),
    ("06.4", best_is_shortest, "always the shortest"),
]


class TestExercises(Exercises):
    notebook = "06"
    right = RIGHT
    wrong = WRONG


# ---- the references are transformers' and torch's -----------------------------------------------


def test_cross_attention_is_torchs():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(3, 8, generator=generator), torch.randn(6, 8, generator=generator)
    mask = torch.tensor([1, 1, 1, 1, 0, 0])
    theirs = scaled_dot_product_attention(q, k, torch.eye(6), attn_mask=mask.bool().expand(3, 6))
    torch.testing.assert_close(find("06.1").reference(q, k, mask), theirs)


def test_shift_right_is_that_of_t5_and_of_bart():
    labels = torch.tensor([[5, 6, 7, 1], [8, 1, -100, -100]])
    config = T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    t5 = T5ForConditionalGeneration(config).prepare_decoder_input_ids_from_labels(labels)
    assert torch.equal(find("06.2").reference(labels, 0, 0), t5)
    bart = shift_tokens_right(labels, pad_token_id=1, decoder_start_token_id=2)
    assert torch.equal(find("06.2").reference(labels, 2, 1), bart)


def test_the_loss_is_the_models():
    config = T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).eval()
    labels = torch.tensor([[5, 6, 7, 1], [8, 1, -100, -100]])
    with torch.no_grad():
        outputs = model(torch.tensor([[3, 4, 1], [5, 6, 1]]), labels=labels)
    got = find("06.3").reference(outputs.logits, labels)
    assert got == pytest.approx(outputs.loss.item(), rel=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_the_score_is_that_of_generate(penalty):
    """`sequences_scores` of beam search is the sum of log-probabilities by length ** penalty."""
    config = T5Config(
        vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(5)
    model = T5ForConditionalGeneration(config).eval()
    inputs = torch.tensor([[3, 4, 5, 1]])
    with torch.no_grad():
        found = model.generate(
            inputs, num_beams=4, num_return_sequences=4, length_penalty=penalty, max_new_tokens=6,
            do_sample=False, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        answers = []
        for row in found.sequences[:, 1:].tolist():
            kept = row[: row.index(1) + 1] if 1 in row else row
            labels = torch.tensor([kept])
            log_probs = model(inputs, labels=labels).logits.log_softmax(-1)
            answers.append(log_probs.gather(-1, labels[..., None]).flatten().tolist())
    assert find("06.4").reference(answers, penalty) == int(found.sequences_scores.argmax())
