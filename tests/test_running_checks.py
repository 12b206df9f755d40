"""The exercises of notebook 08: right answers pass, and each misconception hears its own sentence.

The wrong answers are written here as a student would write them, without a look at those in
`llmlab.checks.running`.
"""

import itertools
import math

import pytest
import torch

import llmlab
from llmlab.checks import find
from llmlab.errors import LabError
from tests.tools.exercises import Exercises

# ---- 08.1: how many texts fit? -------------------------------------------------------------------


def fit_right(memory, parameters, width, cache, tokens):
    room = memory - parameters * width
    texts = 0
    while room >= cache * tokens:
        room -= cache * tokens
        texts += 1
    return texts


def fit_without_the_model(memory, parameters, width, cache, tokens):
    return int(memory / (cache * tokens))


def fit_weights_of_a_byte(memory, parameters, width, cache, tokens):
    return max((memory - parameters) // (cache * tokens), 0)


def fit_tokens(memory, parameters, width, cache, tokens):
    return max(int((memory - parameters * width) / cache), 0)


def fit_one_more(memory, parameters, width, cache, tokens):
    return max(0, math.ceil((memory - width * parameters) / (cache * tokens)))


def fit_nearest(memory, parameters, width, cache, tokens):
    return max(0, round((memory - width * parameters) / (cache * tokens)))


def fit_negative(memory, parameters, width, cache, tokens):
    return (memory - width * parameters) // (tokens * cache)


def fit_parts(memory, parameters, width, cache, tokens):
    return max((memory - width * parameters) / (tokens * cache), 0)


def fit_a_model_a_text(memory, parameters, width, cache, tokens):
    return memory // (width * parameters + tokens * cache)


def fit_wide_cache(memory, parameters, width, cache, tokens):
    return max((memory - width * parameters) // (tokens * cache * width), 0)


# ---- 08.2: int8 by rows --------------------------------------------------------------------------


def int8_right(weight):
    scales = [max(abs(v) for v in row) / 127 for row in weight.tolist()]
    rows = [[round(v / s) for v in r] for r, s in zip(weight.tolist(), scales, strict=True)]
    return torch.tensor(rows, dtype=torch.int8), torch.tensor(scales)


def by_scale(weight, scale):
    return torch.round(weight / scale).to(torch.int8)


def int8_one_for_all(weight):
    scale = weight.abs().max() / 127
    return by_scale(weight, scale), scale


def int8_one_repeated(weight):
    scale = weight.abs().max() / 127
    return by_scale(weight, scale), scale.repeat(weight.shape[0])


def int8_by_column(weight):
    scale = weight.abs().max(0).values / 127
    return by_scale(weight, scale), scale


def int8_forgot_abs(weight):
    scale = weight.max(1).values / 127
    return by_scale(weight, scale.unsqueeze(1)), scale


def int8_by_128(weight):
    scale = weight.abs().max(1).values / 128
    return by_scale(weight, scale.unsqueeze(1)), scale


def int8_by_255(weight):
    scale = weight.abs().max(1).values / 255
    return by_scale(weight, scale.unsqueeze(1)), scale


def int8_without_round(weight):
    scale = weight.abs().max(1).values / 127
    return (weight / scale.unsqueeze(1)).to(torch.int8), scale


def int8_not_whole(weight):
    scale = weight.abs().max(1).values / 127
    return weight / scale.unsqueeze(1), scale


def int8_reversed(weight):
    scale = 127 / weight.abs().max(1).values
    return (weight * scale.unsqueeze(1)).round().to(torch.int8), scale


def int8_maximum(weight):
    scale = weight.abs().max(1).values
    return (weight * 127 / scale.unsqueeze(1)).round().to(torch.int8), scale


def int8_keepdim(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127
    return by_scale(weight, scale), scale


def int8_there_and_back(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127
    return by_scale(weight, scale) * scale


def int8_without_scales(weight):
    return int8_keepdim(weight)[0]


# ---- 08.3: bits a weight -------------------------------------------------------------------------


def bits_right(bits, block, scale_bits, group):
    weights = block * group
    return (weights * bits + group * scale_bits + 32) / weights


def bits_alone(bits, block, scale_bits, group):
    return bits


def bits_first_scales(bits, block, scale_bits, group):
    return (block * bits + scale_bits) / block


def bits_single(bits, block, scale_bits, group):
    return (block * bits + 32) / block


def bits_wide_scales(bits, block, scale_bits, group):
    return bits + (32 + 32 / group) / block


def bits_group_too_small(bits, block, scale_bits, group):
    return bits + scale_bits / block + 32 / group


def bits_squeezed_twice(bits, block, scale_bits, group):
    return bits + scale_bits / block + scale_bits / block / group


def bits_not_shared(bits, block, scale_bits, group):
    return bits + scale_bits + 32


def bits_as_bytes(bits, block, scale_bits, group):
    return bits_right(bits, block, scale_bits, group) / 8


def bits_of_a_block(bits, block, scale_bits, group):
    return block * bits + scale_bits + 32 / group


# ---- 08.4: windows -------------------------------------------------------------------------------


def windows_right(length, size, overlap):
    found, start = [], 0
    while True:
        end = min(start + size, length)
        found.append((start, end))
        if end == length:
            return found
        start += size - overlap


def windows_side_by_side(length, size, overlap):
    return [(s, min(length, s + size)) for s in range(0, length, size)]


def windows_small_steps(length, size, overlap):
    found, start = [], 0
    while start + size < length:
        found.append((start, start + size))
        start += overlap
    return [*found, (start, min(start + size, length))]


def windows_full_only(length, size, overlap):
    found, start = [], 0
    while start + size <= length:
        found.append((start, start + size))
        start += size - overlap
    return found


def windows_beyond(length, size, overlap):
    return [(start, start + size) for start, _ in windows_right(length, size, overlap)]


def windows_nothing_new(length, size, overlap):
    found, start = [], 0
    while start < length:
        found.append((start, min(start + size, length)))
        start += size - overlap
    return found


def windows_last_full(length, size, overlap):
    found = windows_right(length, size, overlap)
    found[-1] = (max(length - size, 0), length)
    return found


def windows_last_token(length, size, overlap):
    return [(start, end - 1) for start, end in windows_right(length, size, overlap)]


def windows_start_and_length(length, size, overlap):
    return [(start, end - start) for start, end in windows_right(length, size, overlap)]


def fit_cut(memory, parameters, width, cache, tokens):
    return int((memory - parameters * width) / (cache * tokens))


def fit_without_brackets(memory, parameters, width, cache, tokens):
    left = memory - parameters * width
    return 0 if left < 0 else left // cache * tokens


def int8_still_floats(weight):
    step = weight.abs().max(dim=1).values / 127
    return torch.round(weight / step.unsqueeze(1)), step


def windows_plain_range(length, size, overlap):
    return [(start, start + size) for start in range(0, length, size - overlap)]


def windows_like_the_lesson(length, size, overlap):
    return [(s, min(s + size, length)) for s in range(0, length - overlap, size - overlap)]


RIGHT = [
    ("08.1", fit_right),
    ("08.2", int8_right),
    ("08.3", bits_right),
    ("08.4", windows_right),
]
WRONG = [
    ("08.1", fit_without_the_model, "the weights are missing"),
    ("08.1", fit_weights_of_a_byte, "not their bytes"),
    ("08.1", fit_tokens, "how many tokens fit"),
    ("08.1", fit_one_more, "you round up"),
    ("08.1", fit_nearest, "to the nearest"),
    ("08.1", fit_negative, "number of texts below 0"),
    ("08.1", fit_parts, "a whole number"),
    ("08.1", fit_a_model_a_text, "weights of its own"),
    ("08.1", fit_wide_cache, "in bytes already"),
    ("08.2", int8_one_for_all, "one scale for the whole matrix"),
    ("08.2", int8_one_repeated, "the scales are all the same"),
    ("08.2", int8_by_column, "scales of the columns"),
    ("08.2", int8_forgot_abs, "without its sign"),
    ("08.2", int8_by_128, "int8 ends at 127"),
    ("08.2", int8_by_255, "on each side stand"),
    ("08.2", int8_without_round, "cut off"),
    ("08.2", int8_not_whole, "no whole numbers yet"),
    ("08.2", int8_reversed, "upside down"),
    ("08.2", int8_maximum, "largest number. The scale"),
    ("08.2", int8_keepdim, "an axis too many"),
    ("08.2", int8_there_and_back, "after the way back"),
    ("08.2", int8_without_scales, "the scales are missing"),
    ("08.1", fit_cut, "goes below 0"),
    ("08.1", fit_without_brackets, "bracket what one text"),
    ("08.2", int8_still_floats, "still stored in 4 bytes"),
    ("08.4", windows_plain_range, "and one is too many"),
    ("08.4", windows_like_the_lesson, "gets no window"),
    ("08.3", bits_alone, "the scales take room"),
    ("08.3", bits_first_scales, "scales' own scales"),
    ("08.3", bits_single, "without double quantization"),
    ("08.3", bits_wide_scales, "only the groups' are in 32"),
    ("08.3", bits_group_too_small, "a group is made of scales"),
    ("08.3", bits_squeezed_twice, "only those of the blocks"),
    ("08.3", bits_not_shared, "How many weights share one"),
    ("08.3", bits_as_bytes, "these are bytes"),
    ("08.3", bits_of_a_block, "a whole block"),
    ("08.4", windows_side_by_side, "do not overlap"),
    ("08.4", windows_small_steps, "you step by the overlap"),
    ("08.4", windows_full_only, "in no window"),
    ("08.4", windows_beyond, "the last window goes beyond"),
    ("08.4", windows_nothing_new, "a window too many"),
    ("08.4", windows_last_full, "moved back to be full"),
    ("08.4", windows_last_token, "As in Python's slices"),
    ("08.4", windows_start_and_length, "are lengths"),
]


class TestExercises(Exercises):
    notebook = "08"
    right = RIGHT
    wrong = WRONG


def test_the_int8_of_the_check_is_within_half_a_step():
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    numbers, scales = find("08.2").reference(weight)
    assert numbers.dtype == torch.int8
    assert ((numbers * scales[:, None] - weight).abs() <= scales[:, None] / 2 + 1e-6).all()


def test_the_bits_are_those_that_bitsandbytes_stores():
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    packed, state = functional.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    stored = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    ours = find("08.3").reference(4, 64, 8, state.state2.blocksize)
    assert 8 * stored / weight.numel() == pytest.approx(ours)


def test_the_windows_cover_all_and_nothing_twice_as_new():
    for length, size, overlap in [(100, 30, 10), (30, 30, 10), (31, 30, 29), (7, 30, 3)]:
        found = find("08.4").reference(length, size, overlap)
        assert found[0][0] == 0 and found[-1][1] == length
        for (_, end), (start, later) in itertools.pairwise(found):
            assert end - start == overlap and later > end


def test_a_missing_exercise_is_named():
    with pytest.raises(LabError, match=r"08\.4"):
        llmlab.check("08.9", fit_right)
