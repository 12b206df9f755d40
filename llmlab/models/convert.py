"""Recipes: how the files of a source become a folder that `from_pretrained` loads."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from llmlab.errors import LabError

# A Llama layer's tensors in GGUF and in transformers.
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def convert(recipe: str, name: str, got: Path, folder: Path) -> None:
    """Turn the files in `got` into the Hugging Face folder `folder` of the model `name`.

    The files in `got` may be moved. What lies in llmlab/models/files/NAME/ is added: it is the
    same for everyone, and equal to the Hub's files.
    """
    RECIPES[recipe](got, folder)
    small = resources.files(__package__).joinpath("files", name)
    if small.is_dir():
        for file in small.iterdir():
            folder.joinpath(file.name).write_bytes(file.read_bytes())


def copy(got: Path, folder: Path) -> None:
    """The files are a Hugging Face folder already."""
    for file in got.iterdir():
        shutil.move(file, folder / file.name)


def gpt2_tokenizer(got: Path, folder: Path) -> None:
    """GPT-2's vocabulary and merges, and from them the tokenizer.json that loads quickly.

    The result is, byte for byte, the file on the Hub.
    """
    copy(got, folder)
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = (folder / "merges.txt").read_text("utf-8").split("\n")[1:-1]  # line 0: "#version: 0.2"
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    end = {"id": 50256, "special": True, "content": "<|endoftext|>", **flags}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_bytes(text.encode())


def from_gguf(got: Path, folder: Path) -> None:
    """A quantized Llama in GGUF: weights dequantized to bfloat16, tokenizer as on the Hub.

    Done here and not by `from_pretrained(gguf_file=…)`, which does this work again on every load,
    with more memory, and whose model can't be saved. The GGUF is not kept: nothing reads
    it again but `make bench`, which fetches it once more for the comparison.
    """
    import gguf

    (file,) = got.glob("*.gguf")
    reader = gguf.GGUFReader(file)
    text = json.dumps(_smollm2_tokenizer(reader), indent=2, ensure_ascii=False)
    (folder / "tokenizer.json").write_bytes(text.encode())
    save(dict(llama_weights(reader)), folder / "model.safetensors")


def save(weights: dict[str, Any], to: Path) -> None:
    """Write tensors to a safetensors file, as `save_pretrained` does."""
    import safetensors
    import safetensors.torch

    try:
        safetensors.torch.save_file(weights, to, metadata={"format": "pt"})
        to.chmod(0o644)  # as the other files: a class shares one cache
    except safetensors.SafetensorError as error:  # a full disk comes as "… (os error 28)"
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, str(error)) from error


def llama_weights(reader: Any) -> Iterator[tuple[str, Any]]:
    """Each tensor of a Llama in GGUF: its name in transformers and its bfloat16 values.

    GGUF stores the rows of W_q and W_k so that the two numbers that the rotary embedding turns
    together stand side by side; transformers has them half a head apart. The permutation is undone.
    """
    import gguf
    import numpy
    import torch

    def field(key: str) -> int:
        return int(reader.fields[f"llama.{key}"].contents())

    heads = {"attn_q": field("attention.head_count"), "attn_k": field("attention.head_count_kv")}
    for tensor in tqdm(reader.tensors, desc="converting", unit="tensor"):
        *block, name, kind = tensor.name.split(".")  # blk.7.attn_q.weight or token_embd.weight
        values = gguf.dequantize(tensor.data, tensor.tensor_type)  # (out, in), float32
        if name in heads:
            rows, columns = values.shape
            pairs = values.reshape(heads[name], rows // heads[name] // 2, 2, columns)
            values = pairs.swapaxes(1, 2).reshape(rows, columns)
        full = f"model.layers.{block[1]}.{_LAYER[name]}" if block else _OUTSIDE[name]
        values = numpy.require(values, requirements="W")  # a view of the file can't be written to
        yield f"{full}.{kind}", torch.from_numpy(values).to(torch.bfloat16)


def _smollm2_tokenizer(reader: Any) -> dict[str, Any]:
    """The tokenizer.json of SmolLM2, from the GGUF's tokens and merges: equal to the Hub's."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = [
        {"id": i, "content": token, **flags, "special": True}
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == 3  # a control token
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                _byte_level(add_prefix_space=False),
            ],
        },
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": reader.fields["tokenizer.ggml.merges"].contents(),
        },
    }


def _byte_level(add_prefix_space: bool) -> dict[str, Any]:
    """A step that writes each byte as a visible character."""
    space = {"add_prefix_space": add_prefix_space}
    return {"type": "ByteLevel", **space, "trim_offsets": True, "use_regex": True}


def merge_adapter(got: Path, folder: Path) -> None:
    """A LoRA adapter and its head, merged into the model that it was trained over.

    Afterwards the folder is that of an ordinary classifier: nothing of peft is left in it, and it
    weighs and computes as much as any other. The sums are done in float64 and rounded once, so
    that every machine gets the same bytes. The configuration lies in llmlab/models/files/.
    """
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification

    from llmlab.models import catalogue, store

    _check_adapter(got)
    name = json.loads((got / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    base = store.install(catalogue.all_models()[name])
    with quiet():  # transformers reports that the head is new: the adapter brings it
        model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float64)
        merged = peft.PeftModel.from_pretrained(model, str(got)).merge_and_unload().float()
    weights = {name: weight.contiguous() for name, weight in merged.state_dict().items()}
    save(weights, folder / "model.safetensors")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(base / file, folder / file)


def _check_adapter(got: Path) -> None:
    """Refuse an adapter that is not the one which was trained, by the hashes in metrics.json."""
    try:
        recorded = json.loads((got / "metrics.json").read_text("utf-8"))["sha256"]
        whole = all(
            hashlib.sha256((got / name).read_bytes()).hexdigest() == recorded[name]
            for name in ("adapter_config.json", "adapter_model.safetensors")
        )
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise LabError(
            f"The adapter in {got} is damaged: its files are not those that were trained. "
            "Install llmlab again, or train it anew (`python -m llmlab.recipes.sentiment`)."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' reports, bars and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


RECIPES: dict[str, Callable[[Path, Path], None]] = {
    "copy": copy,
    "gguf": from_gguf,
    "gpt2-tokenizer": gpt2_tokenizer,
    "merge-adapter": merge_adapter,
}
