"""What it takes to load a model: which device, which dtype, how many bytes, and giving them back.

`llmlab.LLM` is made of these; each also works alone.
"""

import contextlib
import gc
import importlib.util
import logging
import sys
from collections.abc import Iterator
from ctypes import CDLL
from typing import Any

import psutil
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
)

from llmlab import doctor, generation, models
from llmlab.errors import LabError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Bytes that a weight of a linear layer takes: int4 keeps a float32 scale for every 64 weights.
QUANTIZED = {"int8": 1.0, "int4": 0.5 + 4 / 64}


def release() -> None:
    """Give freed memory back: Python's reference cycles, the GPU's cache, the C library's heap."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux":  # glibc keeps what is freed, for the next time
        with contextlib.suppress(OSError, AttributeError):  # another C library
            CDLL("libc.so.6").malloc_trim(0)


def device_of(name: str) -> torch.device:
    """The device of this name; of "auto" the first that is here: cuda, mps, cpu.

    Raises:
        LabError: no such device, or none on this machine.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, there in here.items() if there), "cpu"))
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")  # refused below, like every other that is none of these
    if device.type not in ("cpu", "cuda", "mps"):
        raise LabError(f"device is 'auto', 'cpu', 'cuda' (or 'cuda:1') or 'mps', not {name!r}.")
    if not here.get(device.type, True) or (device.index or 0) >= max(1, torch.cuda.device_count()):
        found = ", ".join(["cpu", *(kind for kind, there in here.items() if there)])
        raise LabError(f"There is no {name!r} on this machine, but: {found}. Or use 'auto'.")
    return device


def dtype_of(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of this name; of "auto" float32 on a CPU, else bfloat16 or float16.

    Raises:
        LabError: another name.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        ready = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if ready else torch.float16
    dtype = DTYPES.get(str(name).removeprefix("torch."))
    if dtype is None:
        raise LabError(f"dtype is 'auto', {', '.join(map(repr, DTYPES))}, not {name!r}.")
    return dtype


def quantization(quantize: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` is to be told for weights in 8 or 4 bits; {} for None.

    Raises:
        LabError: another name, or bitsandbytes is not installed.
    """
    if quantize is None:
        return {}
    if quantize not in QUANTIZED:
        raise LabError(f"quantize is None, 'int8' or 'int4', not {quantize!r}.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise LabError(
            f"quantize={quantize!r} needs the package bitsandbytes, which is not installed here: "
            "pip install bitsandbytes (llmlab's extra 'lab' brings it)."
        )
    if quantize == "int8":  # it computes in float16 whatever comes in, and says so each time
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config}


def weight_bytes(path: str, dtype: torch.dtype, quantize: str | None) -> float:
    """The bytes that the weights will take, from a model without weights (on the device "meta").

    Raises:
        LabError: the model is not causal.
    """
    config = AutoConfig.from_pretrained(path)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise LabError(
            f"This is no model that goes on with a text, but one of {type(config).__name__}. Use a "
            "causal model, such as smollm2-135m."
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    generation.require_causal(model)
    return model.num_parameters() * QUANTIZED.get(quantize or "", dtype.itemsize)


def free_bytes(device: torch.device) -> float:
    """The bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    limit = doctor.memory_limit()  # of the container, if it has one
    free = psutil.virtual_memory().available
    return free if limit is None else min(free, limit[1])


@contextlib.contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turn what transformers says when it can't load a model into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise LabError(
            f"{name!r} does not fit into the device's memory. Take quantize='int8' or 'int4', a "
            "smaller model, or device='auto', which spreads it."
        ) from None
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise LabError(
            f"{name!r} can't be loaded with these settings: {said:.400} Models that work offline: "
            f"{', '.join(models.names())}."
        ) from None
