"""Models by name: each is a folder that `from_pretrained` loads, fetched once, then offline.

>>> from llmlab import models
>>> folder = models.path("gpt2-tokenizer")
>>> from transformers import AutoTokenizer
>>> AutoTokenizer.from_pretrained(folder)("Hello, how are you?").input_ids
[15496, 11, 703, 389, 345, 30]
"""

import difflib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.errors import LabError
from llmlab.models import store
from llmlab.models.catalogue import HUB_IDS_WITHOUT_OWNER, all_models, everything, replacement

if TYPE_CHECKING:
    import pandas

__all__ = ["fetch", "names", "path", "table"]


def path(name: str) -> str:
    """What to give to `from_pretrained`: the folder of the model `name`.

    Args:
        name: a name of `table()` (fetched the first time, with a progress bar, then offline for
            ever), an id on the Hugging Face Hub such as "gpt2" or "Qwen/Qwen3-0.6B", or a folder.
            Ids and folders are passed through; an id that is complete in the Hub's cache on this
            machine becomes its folder there, so that it works offline.

    The variables LLMLAB_CAUSAL_LM, LLMLAB_ENCODER, LLMLAB_TOKENIZER and LLMLAB_CLASSIFIER put
    another model in the place of `smollm2-135m`, `minilm`, `gpt2-tokenizer` and
    `minilm-sentiment`.

    Raises:
        LabError: there is no such model, or it could not be fetched. Says what to do.
    """
    if not isinstance(name, str | os.PathLike):
        raise LabError(_no_model(name))
    name = os.fspath(name)
    if name in all_models():
        variable = replacement(all_models()[name])
        chosen = os.environ.get(variable, "").strip() if variable else ""
        if chosen and chosen != name:
            _say_once(f"{variable} is set: {chosen!r} takes the place of {name!r}.")
            return _resolve(chosen)
    return _resolve(name)


def fetch(name: str, *, again: bool = False) -> str:
    """The folder of a model of the catalogue, fetched if it is not here (or anyway, `again`).

    The texts that the models are trained and measured with (kind "data") are fetched too.

    Raises:
        LabError: there is no such model, or it could not be fetched. Says what to do.
    """
    if name not in list(everything()):
        if isinstance(name, str) and _is_hub_id(name):
            raise LabError(
                f"{name!r} is a model on the Hugging Face Hub: `hf download {name}` gets it, and "
                f"then models.path({name!r}) works offline. `fetch` gets: "
                f"{', '.join(everything())}."
            )
        raise LabError(_no_model(name))
    return str(store.install(everything()[name], again=again))


def names() -> list[str]:
    """The models that work offline once they are fetched."""
    return list(all_models())


def table() -> "pandas.DataFrame":
    """What there is and what is already here: a row a model, sizes in MB (millions of bytes)."""
    import pandas

    return pandas.DataFrame(rows()).set_index("name")


def rows() -> list[dict[str, Any]]:
    """The rows of `table()`, as dictionaries."""
    return [
        {
            "name": model.name,
            "kind": model.kind,
            "parameters": model.parameters,
            "here": "yes" if store.is_here(model) else "no",
            "download (MB)": round(model.download_bytes / 1e6, 1),
            "disk (MB)": round(model.disk_bytes / 1e6, 1),
            "licence": model.licence,
            "on the Hub": model.hub_id,
            "caveat": model.caveat,
        }
        for model in all_models().values()
    ]


def _resolve(name: str) -> str:
    """`path` without the variables."""
    if name in all_models():
        return str(store.install(all_models()[name]))
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder)
    if _is_hub_id(name):
        return _in_hub_cache(name) or name
    raise LabError(_no_model(name))


def _is_hub_id(name: str) -> bool:
    """Whether this can be a model's id on the Hub: owner/model, or one of the old short ones."""
    return name in HUB_IDS_WITHOUT_OWNER or bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name))


def _in_hub_cache(hub_id: str) -> str | None:
    """The model's folder in the Hub's cache on this machine, if all that it needs is there."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(huggingface_hub.snapshot_download(hub_id, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):  # not there; not a possible id
        return None
    here = {file.name for file in folder.iterdir() if file.exists()}
    needed = [
        {"config.json"},
        {"tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model"},
        {"model.safetensors", "pytorch_model.bin"},
    ]
    for index in {"model.safetensors.index.json", "pytorch_model.bin.index.json"} & here:
        shards = set(json.loads((folder / index).read_text("utf-8"))["weight_map"].values())
        if shards <= here:
            needed.pop()
            break
    return str(folder) if all(one_of & here for one_of in needed) else None


def _no_model(name: object) -> str:
    """What to say to a name that nothing has."""
    known = [*names(), *HUB_IDS_WITHOUT_OWNER]  # all in small letters
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    suggestion = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"No model {name!r} here.{suggestion} Models that work offline: {', '.join(names())}. "
        "A folder, or an id on the Hugging Face Hub such as 'Qwen/Qwen3-0.6B', works too."
    )


@cache
def _say_once(sentence: str) -> None:
    print(sentence, file=sys.stderr)
