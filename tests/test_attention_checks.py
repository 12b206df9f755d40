"""The exercises of notebook 03: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.attention`.
"""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

import llmlab
from llmlab import attention
from llmlab.checks import find
from tests.tools.exercises import Exercises

ALL = ["03.1", "03.2", "03.3", "03.4"]


# ---- 03.1: causal attention weights --------------------------------------------------------------


def weights_right(q, k):
    rows = []
    for place, query in enumerate(q):
        scores = [float(query @ key) / math.sqrt(len(query)) for key in k[: place + 1]]
        powers = [math.exp(score) for score in scores]
        rows.append([p / sum(powers) for p in powers] + [0.0] * (len(k) - place - 1))
    return rows


def weights_not_divided(q, k):
    mask = torch.tril(torch.ones(len(q), len(k))) == 0
    return torch.softmax((q @ k.T).masked_fill(mask, float("-inf")), dim=1)


def weights_divided_by_size(q, k):
    scores = torch.einsum("qs,ks->qk", q, k) / q.shape[-1]
    scores[torch.triu_indices(len(q), len(q), 1).unbind()] = -1e30
    return scores.softmax(1)


def weights_divided_by_root_of_tokens(q, k):
    scores = q @ k.T / len(q) ** 0.5
    return scores.masked_fill(torch.ones(len(q), len(q)).triu(1) == 1, -1e9).softmax(-1)


def weights_times_root(q, k):
    scores = q @ k.T * math.sqrt(q.shape[1])
    return scores.masked_fill(torch.ones(len(q), len(q)).triu(1) == 1, -1e9).softmax(-1)


def weights_of_the_toy(q, k):
    scores = q @ k.T / 3**0.5
    return scores.masked_fill(torch.ones(len(q), len(q)).triu(1) == 1, -1e9).softmax(-1)


def weights_of_smollm(q, k):
    scores = q @ k.T / 64**0.5
    return scores.masked_fill(torch.ones(len(q), len(q)).triu(1) == 1, -1e9).softmax(-1)


def weights_unmasked(q, k):
    return torch.softmax(q.matmul(k.transpose(0, 1)) / math.sqrt(q.shape[1]), dim=-1)


def weights_masked_last(q, k):
    probs = torch.softmax(q @ k.T / math.sqrt(q.shape[1]), dim=-1)
    return probs * torch.tril(torch.ones(len(q), len(q)))


def weights_masked_with_zero(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return (scores * torch.tril(torch.ones(len(q), len(q)))).softmax(-1)


def weights_earlier_hidden(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return scores.masked_fill(torch.ones(len(q), len(q)).tril(-1) == 1, -torch.inf).softmax(-1)


def weights_mask_negated(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    seen = torch.ones(len(q), len(q)).tril().bool()
    return torch.softmax(torch.where(seen, -torch.inf, scores), -1)


def weights_without_itself(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return scores.masked_fill(torch.ones(len(q), len(q)).triu().bool(), -torch.inf).softmax(-1)


def weights_one_ahead(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return scores.masked_fill(torch.ones(len(q), len(q)).triu(2).bool(), -torch.inf).softmax(-1)


def weights_over_queries(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return torch.softmax(scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -1e9), dim=0)


def weights_keys_as_queries(q, k):
    scores = k @ q.T / math.sqrt(q.shape[1])
    return torch.softmax(scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -1e9), dim=1)


def weights_no_softmax(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)


def weights_for_six_tokens(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return torch.softmax(scores.masked_fill(torch.ones(6, 6).triu(1) == 1, -torch.inf), dim=-1)


def weights_plus_zero_times_infinity(q, k):
    scores = q @ k.T / math.sqrt(q.shape[1])
    hidden = torch.triu(torch.ones(len(q), len(q)), diagonal=1) * float("-inf")
    return torch.softmax(scores + hidden, dim=-1)


def weights_mask_of_the_wrong_size(q, k):
    size = q.shape[1]
    scores = torch.matmul(q, k.T) / size**0.5
    return scores.masked_fill(torch.ones(size, size).triu(1) == 1, -torch.inf).softmax(dim=1)


# ---- 03.2: a key for every head ------------------------------------------------------------------


def spread_right(key, heads):
    group = heads // key.shape[1]
    return torch.stack([key[:, head // group] for head in range(heads)], dim=1)


def spread_in_turn(key, heads):
    return torch.stack([key[:, head % key.shape[1]] for head in range(heads)], dim=1)


def spread_as_often_as_heads(key, heads):
    return torch.repeat_interleave(key, heads, 1)


def spread_by_three(key, heads):
    return torch.cat([key[:, [h]] for h in range(key.shape[1]) for _ in range(3)], dim=1)


def spread_the_first(key, heads):
    return key[:, 0].unsqueeze(1).expand(-1, heads, -1, -1)


def spread_a_mean(key, heads):
    return torch.stack([key.mean(dim=1)] * heads, dim=1)


def spread_head_by_three(key, heads):
    return key[:, [h // 3 for h in range(heads)]]


def spread_all_axes(key, heads):
    return torch.repeat_interleave(key, heads // key.shape[1])


def spread_by_expanding(key, heads):
    return key.expand(key.shape[0], heads, key.shape[2], key.shape[3])


def spread_by_a_fraction(key, heads):
    return key.repeat_interleave(heads / key.shape[1], dim=1)


def spread_a_fraction_of_times(key, heads):
    return key.repeat(1, heads / key.shape[1], 1, 1)


def spread_by_a_key_that_is_not_there(key, heads):
    return torch.stack([key[:, h] for h in range(heads)], dim=1)


def spread_the_texts(key, heads):
    return key.repeat_interleave(heads // key.size(1), 0)


def spread_the_tokens(key, heads):
    return key.repeat_interleave(heads // key.size(1), 2)


def spread_the_numbers(key, heads):
    return key.repeat_interleave(heads // key.size(1), -1)


# ---- 03.3: an induction score --------------------------------------------------------------------


def induction_right(weights):
    n = len(weights) // 2
    return sum(float(weights[n + i][i + 1]) for i in range(n)) / n


def induction_duplicate(weights):
    n = len(weights) // 2
    return weights.diagonal(-n).mean()


def induction_before(weights):
    n = len(weights) // 2
    return sum(weights[n + i, i - 1] for i in range(n)) / n


def induction_two_after(weights):
    n = len(weights) // 2
    return sum(weights[n + i, i + 2] for i in range(n)) / n


def induction_summed(weights):
    n = len(weights) // 2
    return sum(weights[n + i, i + 1] for i in range(n))


def induction_over_everybody(weights):
    n = len(weights) // 2
    return sum(weights[n + i, i + 1] for i in range(n)) / len(weights)


def induction_token_before(weights):
    n = len(weights) // 2
    return torch.stack([weights[n + i, n + i - 1] for i in range(n)]).mean()


def induction_rows_as_keys(weights):
    n = len(weights) // 2
    return torch.stack([weights[i + 1, n + i] for i in range(n)]).mean()


def induction_without_the_last(weights):
    n = len(weights) // 2
    return torch.stack([weights[n + i, i + 1] for i in range(n - 1)]).mean()


def induction_one_query(weights):
    return weights[len(weights) // 2][1]


def induction_of_a_block(weights):
    n = len(weights) // 2
    return weights[list(range(n, 2 * n))][:, list(range(1, n + 1))].mean()


def induction_anywhere_in_the_copy(weights):
    n = len(weights) // 2
    return weights[n:, :n].sum() / n


def induction_of_the_example(weights):
    return (weights[3, 1] + weights[4, 2] + weights[5, 3]) / 3


def induction_n_is_all(weights):
    n = weights.shape[0]
    return sum(weights[n + i, i + 1] for i in range(n)) / n


def induction_a_diagonal(weights):
    n = len(weights) // 2
    return torch.diagonal(weights, offset=-(n - 1)).mean()


# ---- 03.4: causal and padded ---------------------------------------------------------------------


def look_right(attention_mask):
    batch, length = attention_mask.shape
    return [
        [[k <= q and bool(attention_mask[b, k]) for k in range(length)] for q in range(length)]
        for b in range(batch)
    ]


def look_causal_only(attention_mask):
    batch, length = attention_mask.shape
    return torch.ones(batch, length, length).tril().bool()


def look_padding_only(attention_mask):
    length = attention_mask.shape[1]
    return (attention_mask == 1).unsqueeze(1).expand(-1, length, -1)


def look_or(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() | (attention_mask[:, None] == 1)


def look_rows_hidden(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() & (attention_mask.unsqueeze(-1) == 1)


def look_reversed(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).triu(1).bool() | (attention_mask[:, None] == 0)


def look_not_at_itself(attention_mask):
    place = torch.arange(attention_mask.shape[1])
    return (place[None, :] < place[:, None]) & attention_mask.bool()[:, None]


def look_ahead(attention_mask):
    place = torch.arange(attention_mask.shape[1])
    return (place[None, :] >= place[:, None]) & attention_mask.bool()[:, None]


def look_at_padding(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() & (attention_mask == 0).unsqueeze(1)


def look_axes_do_not_fit(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() & attention_mask.bool()


def look_hidden_for_both_reasons(attention_mask):
    length = attention_mask.shape[1]
    later = torch.ones(length, length).triu(1).bool()
    return later & (attention_mask == 0)[:, None]


def look_later_and_real(attention_mask):
    length = attention_mask.shape[1]
    later = torch.ones(length, length).triu(1).bool()
    return later & (attention_mask == 1)[:, None]


def look_with_and(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() and (attention_mask == 1)[:, None]


def look_axes_do_not_fit_either(attention_mask):
    length = attention_mask.shape[1]
    return attention_mask.bool() & torch.ones(length, length).tril().bool()


def look_multiplied(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril() * attention_mask[:, None]


def look_bool_and_whole_numbers(attention_mask):
    length = attention_mask.shape[1]
    return torch.ones(length, length).tril().bool() & attention_mask[:, None]


def look_ones_and_zeros(attention_mask):
    return [[[int(may) for may in row] for row in text] for text in look_right(attention_mask)]


RIGHT = [
    ("03.1", weights_right),
    ("03.2", spread_right),
    ("03.3", induction_right),
    ("03.4", look_right),
]


def spread_by_len(key, heads):
    group = heads // len(key)
    return torch.cat([key[:, [head] * group] for head in range(key.shape[1])], dim=1)


def spread_as_often_as_keys(key, heads):
    return torch.repeat_interleave(key, key.size(1), dim=1)


def induction_without_the_first(weights):
    n = weights.shape[0] // 2
    found = [weights[n + i][i + 1].item() for i in range(1, n)]
    return sum(found) / len(found)


def induction_half_a_length(weights):
    n = len(weights) / 2
    total = 0
    for i in range(n):
        total += weights[n + i, i + 1]
    return total / n


def look_never_nowhere(attention_mask):
    place = torch.arange(attention_mask.shape[1])
    earlier = place[None] <= place[:, None]
    seen = earlier & (attention_mask == 1)[:, None, :]
    seen[:, place, place] = True
    return seen


def look_axis_in_front(attention_mask):
    length = attention_mask.shape[1]
    return torch.tril(torch.ones(length, length)).bool() & attention_mask.bool().unsqueeze(0)


WRONG = [
    ("03.1", weights_not_divided, "not divided by anything"),
    ("03.1", weights_divided_by_size, "by the size itself"),
    ("03.1", weights_divided_by_root_of_tokens, "number of tokens"),
    ("03.1", weights_times_root, "multiply where the formula divides"),
    ("03.1", weights_of_the_toy, "√3"),
    ("03.1", weights_of_smollm, "divide by 8"),
    ("03.1", weights_unmasked, "look ahead"),
    ("03.1", weights_masked_last, "you mask too late"),
    ("03.1", weights_masked_with_zero, "e to the power of 0 is 1"),
    ("03.1", weights_earlier_hidden, "hides the tokens before"),
    ("03.1", weights_mask_negated, "the wrong way round"),
    ("03.1", weights_without_itself, "may see itself"),
    ("03.1", weights_one_ahead, "one place too late"),
    ("03.1", weights_over_queries, "wrong axis"),
    ("03.1", weights_keys_as_queries, "swapped"),
    ("03.1", weights_no_softmax, "the last step is missing"),
    ("03.1", weights_for_six_tokens, "for six tokens"),
    ("03.1", weights_plus_zero_times_infinity, "0 times infinity"),
    ("03.1", weights_mask_of_the_wrong_size, "made with the size of the vectors"),
    ("03.2", spread_by_len, "number of texts"),
    ("03.2", spread_as_often_as_keys, "as often as there are keys"),
    ("03.3", induction_without_the_first, "is left out"),
    ("03.3", induction_half_a_length, "n is not whole"),
    ("03.4", look_never_nowhere, "see themselves"),
    ("03.4", look_axis_in_front, "in front of the texts"),
    ("03.2", spread_head_by_three, "divide the head's number by 3"),
    ("03.2", spread_all_axes, "lose all axes"),
    ("03.2", spread_in_turn, "come in turn"),
    ("03.2", spread_as_often_as_heads, "too many"),
    ("03.2", spread_by_three, "SmolLM2's group"),
    ("03.2", spread_the_first, "read the first key"),
    ("03.2", spread_a_mean, "average the keys"),
    ("03.2", spread_the_texts, "batch axis"),
    ("03.2", spread_the_tokens, "along the tokens"),
    ("03.2", spread_the_numbers, "inside each vector"),
    ("03.3", induction_duplicate, "of the token itself"),
    ("03.3", induction_before, "the token before the first copy"),
    ("03.3", induction_two_after, "two tokens after"),
    ("03.3", induction_summed, "this is a sum"),
    ("03.3", induction_over_everybody, "divide by all queries"),
    ("03.3", induction_token_before, "to the token just before"),
    ("03.3", induction_rows_as_keys, "rows are queries"),
    ("03.3", induction_without_the_last, "one is missing"),
    ("03.3", induction_one_query, "one query alone"),
    ("03.3", induction_of_a_block, "a whole block"),
    ("03.3", induction_anywhere_in_the_copy, "to all of the first copy"),
    ("03.3", induction_of_the_example, "you fixed n = 3"),
    ("03.3", induction_n_is_all, "n as the whole length"),
    ("03.3", induction_a_diagonal, "a whole diagonal"),
    ("03.4", look_hidden_for_both_reasons, "later and padding"),
    ("03.4", look_later_and_real, "where True means hidden"),
    ("03.4", look_with_and, "of a single sign"),
    ("03.4", look_axes_do_not_fit_either, "one is (batch, key), the other (query, key)"),
    ("03.4", look_causal_only, "the causal mask alone"),
    ("03.4", look_padding_only, "the padding mask alone"),
    ("03.4", look_or, "both must hold"),
    ("03.4", look_rows_hidden, "you hide rows"),
    ("03.4", look_reversed, "yours says that it may not"),
    ("03.4", look_not_at_itself, "no token sees itself"),
    ("03.4", look_ahead, "and not back"),
    ("03.4", look_at_padding, "nothing but padding"),
    ("03.4", look_axes_do_not_fit, "one is (query, key), the other (batch, key)"),
]


class TestExercises(Exercises):
    notebook = "03"
    right = RIGHT
    wrong = WRONG


# Wrong in kind rather than in value: the exercise looks at the answer or the error itself.
ASKED = [
    ("03.2", spread_by_a_fraction, "not whole"),
    ("03.2", spread_a_fraction_of_times, "not whole"),
    ("03.2", spread_by_expanding, "only an axis of length 1"),
    ("03.2", spread_by_a_key_that_is_not_there, "a key head that is not there"),
    ("03.4", look_multiplied, "True and False"),
    ("03.4", look_bool_and_whole_numbers, "True and False"),
    ("03.4", look_ones_and_zeros, "True and False"),
]


@pytest.mark.parametrize(
    ("number", "answer", "words"), ASKED, ids=lambda x: getattr(x, "__name__", "")
)
def test_an_answer_of_the_wrong_kind_hears_why_in_plain_words(number, answer, words):
    result = llmlab.check(number, answer)
    assert result.status == "wrong"
    assert words in result.message
    assert "combination of arguments" not in result.message and "dim=" not in result.message


def test_an_error_that_nobody_foresaw_is_told_as_it_is():
    def misspelt(key, heads):
        return key.repeat_interleaved(heads)

    assert "AttributeError" in llmlab.check("03.2", misspelt).message


@pytest.mark.parametrize("number", ALL)
def test_no_message_holds_the_code_that_would_be_right(number):
    for message in find(number).mistakes:
        for code in ("repeat_interleave", "tril", "triu", "shape[", "masked_fill", "//", "& "):
            assert code not in message


# ---- the references against what others compute --------------------------------------------------


def test_the_causal_weights_are_torchs():
    q, k = torch.randn(9, 16), torch.randn(9, 16)
    values = torch.eye(9)[None]  # what comes out is then the weights themselves
    expected = scaled_dot_product_attention(q[None], k[None], values, is_causal=True)[0]
    torch.testing.assert_close(find("03.1").reference(q, k), expected)


def _model():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes, **heads)).eval()


def test_keys_spread_so_give_a_models_own_weights():
    captured = attention.capture(_model(), torch.tensor([[5, 9, 2, 7]]), qk=True)
    key = find("03.2").reference(captured.key[1], 4)
    for head in range(4):
        ours = find("03.1").reference(captured.query[1, 0, head], key[0, head])
        torch.testing.assert_close(ours, captured.attention[1, 0, head])


def test_the_induction_score_is_that_of_the_statistics():
    ids = torch.tensor([[11, 12, 13, 14, 15] * 2])
    captured = attention.capture(_model(), ids)
    table = attention.statistics(captured.attention, ids)
    for layer, head in table.index:
        ours = find("03.3").reference(captured.attention[layer, 0, head])
        assert float(ours) == pytest.approx(table.induction[layer, head], abs=1e-5)


def test_the_two_masks_are_those_of_a_padded_decoder():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    inputs = {"input_ids": torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]]), "attention_mask": mask}
    seen = attention.capture(_model(), inputs).attention[0, :, 0] > 1e-6  # (batch, query, key)
    ours = find("03.4").reference(mask)
    real = mask.bool()  # rows of padding are up to the model
    assert torch.equal(seen[real], ours[real])
