"""Exercises of notebook 08: does it fit, whole numbers by hand, bits a weight, windows."""

import math
import random

import torch

from llmlab.checks import Exercise, agree

Tensor = torch.Tensor

# ---- 08.1 how many texts fit? --------------------------------------------------------------------


def _fit_inputs(rng: random.Random) -> tuple[int, int, int, int, int]:
    """memory, parameters, bytes a weight, cache bytes a token, tokens a text; some don't fit."""
    parameters, width = rng.randrange(1_000_000, 9_000_000), rng.choice([1, 2, 4])
    cache, tokens = rng.randrange(1000, 9000), rng.randrange(50, 500)
    texts = rng.choice([rng.randrange(1, 40), rng.randrange(1, 40), 0])
    part = rng.uniform(0.1, 0.9) * cache * tokens
    memory = parameters * width + texts * cache * tokens + int(part)
    if texts == 0 and rng.random() < 0.5:  # not even the weights
        memory = int(0.6 * parameters * width)
    return memory, parameters, width, cache, tokens


def _fit(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, (memory - parameters * width) // (cache * tokens))


def _fit_no_weights(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return memory // (cache * tokens)


def _fit_no_width(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, (memory - parameters) // (cache * tokens))


def _fit_one_token(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, (memory - parameters * width) // cache)


def _fit_rounded_up(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, math.ceil((memory - parameters * width) / (cache * tokens)))


def _fit_rounded(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, round((memory - parameters * width) / (cache * tokens)))


def _fit_below_zero(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return (memory - parameters * width) // (cache * tokens)


def _fit_fraction(memory: int, parameters: int, width: int, cache: int, tokens: int) -> float:
    return max(0.0, (memory - parameters * width) / (cache * tokens))


def _fit_weights_each(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return memory // (parameters * width + cache * tokens)


def _fit_below_zero_cut(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return int((memory - parameters * width) / (cache * tokens))


def _fit_no_brackets(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, (memory - parameters * width) // cache * tokens)


def _fit_cache_width(memory: int, parameters: int, width: int, cache: int, tokens: int) -> int:
    return max(0, (memory - parameters * width) // (cache * tokens * width))


# ---- 08.2 int8 with a scale a row ----------------------------------------------------------------


def _int8_inputs(rng: random.Random) -> tuple[Tensor]:
    """A matrix whose rows differ in size; the first row's largest number is negative.

    Each number lies well inside a step, so that it does not matter in which order one divides.
    """
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    rows, columns = rng.randrange(3, 6), rng.randrange(7, 11)
    whole = torch.randint(-100, 101, (rows, columns), generator=generator)
    inside = whole + 0.7 * torch.rand(rows, columns, generator=generator) - 0.35
    inside[:, 1], inside[0, 1] = 127.0, -127.0
    steps = torch.tensor([rng.uniform(0.001, 0.05) for _ in range(rows)])
    return (inside * steps[:, None],)


def _scaled(weight: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(weight, weight.abs().amax(dim=1) / 127)


def _int8_one_scale(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().max() / 127
    return (weight / scale).round().to(torch.int8), scale


def _int8_one_scale_repeated(weight: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(weight, (weight.abs().max() / 127).expand(len(weight)))


def _int8_columns(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(dim=0) / 127
    return (weight / scales).round().to(torch.int8), scales


def _int8_no_abs(weight: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(weight, weight.amax(dim=1) / 127)


def _int8_128(weight: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(weight, weight.abs().amax(dim=1) / 128)


def _int8_255(weight: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(weight, weight.abs().amax(dim=1) / 255)


def _int8_cut(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(dim=1) / 127
    return (weight / scales[:, None]).to(torch.int8), scales


def _int8_float(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(dim=1) / 127
    return weight / scales[:, None], scales


def _int8_wide(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(dim=1) / 127
    return (weight / scales[:, None]).round(), scales


def _same_numbers(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    """Equal, and the whole numbers in as many bytes: `agree` looks at values alone."""
    same_bytes = got[0].dtype == expected[0].dtype if isinstance(got, tuple) else True
    return agree(got, expected) and same_bytes


def _int8_upside_down(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = 127 / weight.abs().amax(dim=1)
    return (weight * scales[:, None]).round().to(torch.int8), scales


def _int8_largest(weight: Tensor) -> tuple[Tensor, Tensor]:
    largest = weight.abs().amax(dim=1)
    return (weight / largest[:, None] * 127).round().to(torch.int8), largest


def _int8_kept_axis(weight: Tensor) -> tuple[Tensor, Tensor]:
    numbers, scales = _int8(weight)
    return numbers, scales[:, None]


def _int8_back(weight: Tensor) -> Tensor:
    numbers, scales = _int8(weight)
    return numbers * scales[:, None]


def _int8_alone(weight: Tensor) -> Tensor:
    return _int8(weight)[0]


# ---- 08.3 bits a weight --------------------------------------------------------------------------


def _bits_inputs(rng: random.Random) -> tuple[int, int, int, int]:
    """bits of a weight, weights a scale, bits of a scale, scales that share one of 32 bits."""
    return (
        rng.choice([2, 3, 4, 8]), rng.choice([16, 32, 64, 128]),
        rng.choice([6, 8, 16]), rng.choice([64, 128, 256]),
    )  # fmt: skip


def _bits(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + scale_bits / block + 32 / (block * group)


def _bits_no_scales(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits


def _bits_one_level(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + scale_bits / block


def _bits_not_doubled(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + 32 / block


def _bits_both_32(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + 32 / block + 32 / (block * group)


def _bits_group_of_weights(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + scale_bits / block + 32 / group


def _bits_same_scale(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + scale_bits / block + scale_bits / (block * group)


def _bits_each(bits: int, block: int, scale_bits: int, group: int) -> float:
    return bits + scale_bits + 32


def _bits_bytes(bits: int, block: int, scale_bits: int, group: int) -> float:
    return _bits(bits, block, scale_bits, group) / 8


def _bits_of_block(bits: int, block: int, scale_bits: int, group: int) -> float:
    return _bits(bits, block, scale_bits, group) * block


# ---- 08.4 windows over a long text ---------------------------------------------------------------


def _windows_inputs(rng: random.Random) -> tuple[int, int, int]:
    """tokens, size, overlap: more tokens than a window, the last one cut short or just full."""
    size = rng.randrange(10, 60)
    overlap = rng.choice([n for n in range(1, size) if n != size - n])
    step = size - overlap
    length = size + step * rng.randrange(1, 6) + rng.randrange(step)
    if rng.random() < 0.3:  # one window is enough
        length = rng.randrange(1, overlap + 1 if rng.random() < 0.7 else size)
    return length, size, overlap


Windows = list[tuple[int, int]]


def _windows(length: int, size: int, overlap: int) -> Windows:
    found = [(0, min(size, length))]
    while found[-1][1] < length:
        start = found[-1][1] - overlap
        found.append((start, min(start + size, length)))
    return found


def _windows_no_overlap(length: int, size: int, overlap: int) -> Windows:
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _windows_step_is_overlap(length: int, size: int, overlap: int) -> Windows:
    found = [(0, min(size, length))]
    while found[-1][1] < length:
        start = found[-1][0] + overlap
        found.append((start, min(start + size, length)))
    return found


def _windows_end_lost(length: int, size: int, overlap: int) -> Windows:
    return [(start, start + size) for start in range(0, length - size + 1, size - overlap)]


def _windows_too_far(length: int, size: int, overlap: int) -> Windows:
    return [(start, start + size) for start, _ in _windows(length, size, overlap)]


def _windows_one_too_many(length: int, size: int, overlap: int) -> Windows:
    return [(start, min(start + size, length)) for start in range(0, length, size - overlap)]


def _windows_too_many_too_far(length: int, size: int, overlap: int) -> Windows:
    return [(start, start + size) for start in range(0, length, size - overlap)]


def _windows_none_for_short(length: int, size: int, overlap: int) -> Windows:
    starts = range(0, length - overlap, size - overlap)
    return [(start, min(start + size, length)) for start in starts]


def _windows_last_shifted(length: int, size: int, overlap: int) -> Windows:
    found = _windows(length, size, overlap)
    return [*found[:-1], (max(0, length - size), length)]


def _windows_inclusive(length: int, size: int, overlap: int) -> Windows:
    return [(start, end - 1) for start, end in _windows(length, size, overlap)]


def _windows_lengths(length: int, size: int, overlap: int) -> Windows:
    return [(start, end - start) for start, end in _windows(length, size, overlap)]


EXERCISES = {
    "08.1": Exercise(
        "how many texts fit beside the weights",
        _fit_inputs,
        _fit,
        {
            "the weights are missing: they must lie in memory before the first text "
            "comes.": _fit_no_weights,
            "you count the weights, not their bytes: each takes `width` of them.": _fit_no_width,
            "this is how many tokens fit, not texts: a text keeps keys and values for all of its "
            "tokens.": _fit_one_token,
            "you round up: the last text would not fit whole.": _fit_rounded_up,
            "you round to the nearest: half of the time the last text does not fit "
            "whole.": _fit_rounded,
            "a number of texts below 0? Where not even the weights fit, no text "
            "does.": _fit_below_zero,
            "your number goes below 0 where not even the weights fit: then no text "
            "does.": _fit_below_zero_cut,
            "`a // b * c` divides first and multiplies the result: bracket what one text "
            "costs.": _fit_no_brackets,
            "a part of a text is no text: a whole number was asked for.": _fit_fraction,
            "each text would bring weights of its own. They are there once, whatever the number "
            "of texts.": _fit_weights_each,
            "`cache` is in bytes already; width belongs to the weights alone.": _fit_cache_width,
        },
    ),
    "08.2": Exercise(
        "a matrix in int8, with a scale for each row",
        _int8_inputs,
        _int8,
        {
            "one scale for the whole matrix: rows of small numbers are left with a few levels. "
            "Each row gets its own.": _int8_one_scale,
            "the scales are all the same: one for the whole matrix, repeated. Each row gets its "
            "own.": _int8_one_scale_repeated,
            "these are the scales of the columns. dim is the axis that goes away.": _int8_columns,
            "the largest number decides the scale without its sign: a row whose largest is "
            "negative runs over the end of int8.": _int8_no_abs,
            "with 128 the largest number becomes 128, and int8 ends at 127: it turns round to "
            "−128.": _int8_128,
            "int8 has 256 numbers, but half of them are negative: on each side stand "
            "127.": _int8_255,
            "the digits after the point are cut off, always towards 0: the error is twice as "
            "large as it needs to be.": _int8_cut,
            "these are no whole numbers yet: a last step turns them into torch.int8.": _int8_float,
            "these are whole numbers, but each is still stored in 4 bytes: a last step makes them "
            "torch.int8, and only that saves memory.": _int8_wide,
            "your scale is upside down: the way back is the whole number times the "
            "scale.": _int8_upside_down,
            "your second answer is each row's largest number. The scale is what one step "
            "of the whole numbers is worth.": _int8_largest,
            "the scales have an axis too many: (row), not (row, 1).": _int8_kept_axis,
            "this is the matrix after the way back. Asked are the whole numbers and the scales, "
            "which is what a file would hold.": _int8_back,
            "the scales are missing: without them nobody finds the way back. Return "
            "both.": _int8_alone,
        },
        same=_same_numbers,
    ),
    "08.3": Exercise(
        "the bits a weight really takes",
        _bits_inputs,
        _bits,
        {
            "the scales take room as well: without them there is no way back.": _bits_no_scales,
            "the scales' own scales are missing: 32 bits for each group.": _bits_one_level,
            "this is without double quantization: the scales are in 32 bits, not in "
            "scale_bits.": _bits_not_doubled,
            "the blocks' scales are squeezed to scale_bits; only the groups' are in 32.": (
                _bits_both_32
            ),
            "a group is made of scales, not of weights: how many weights share its 32 bits?": (
                _bits_group_of_weights
            ),
            "the groups' scales have 32 bits; only those of the blocks are squeezed.": (
                _bits_same_scale
            ),
            "each weight would have scales of its own. How many weights share one?": _bits_each,
            "these are bytes; bits were asked for.": _bits_bytes,
            "this is a whole block; a weight's share was asked for.": _bits_of_block,
        },
    ),
    "08.4": Exercise(
        "the windows over a long text",
        _windows_inputs,
        _windows,
        {
            "your windows do not overlap: each begins where the one before ends.": (
                _windows_no_overlap
            ),
            "you step by the overlap. If two neighbours share `overlap` tokens, how far is it from "
            "one start to the next?": _windows_step_is_overlap,
            "the end of the text is in no window: the last one may be shorter.": _windows_end_lost,
            "the last window goes beyond the end of the text.": _windows_too_far,
            "there is a window too many at the end: all its tokens were in the one "
            "before.": _windows_one_too_many,
            "the last windows go beyond the end of the text, and one is too "
            "many.": _windows_too_many_too_far,
            "a text that is no longer than the overlap gets no window at all. It is one "
            "window.": _windows_none_for_short,
            "the last window is moved back to be full: it shares more than `overlap` tokens with "
            "the one before.": _windows_last_shifted,
            "your ends are the last token. As in Python's slices, an end is the first that does "
            "not belong.": _windows_inclusive,
            "your second numbers are lengths; they should be ends.": _windows_lengths,
        },
    ),
}
