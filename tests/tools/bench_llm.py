"""How fast a model runs, and in how much memory: plain transformers, `llmlab.LLM`, llama.cpp.

    python -m tests.tools.bench_llm [--threads N] [--processor] [--model NAME] [--quick]
                                    [--out FILE.csv] [HOW …]

Prints a table in Markdown; `--out` also writes it as CSV, below a line with date and machine. Each
row is measured in a fresh process, alone, so that its peak of memory is its own. A figure is the
median of three. Seconds depend on the machine and on what else it does; ratios hardly do. With
`--processor` the processor's seconds are counted, not the clock's: with one thread that is the same
on a quiet machine, and hardly changes on a busy one.

The memory limit: to write a token each weight is read once, so no more tokens a second can be
written (one stream) than the bytes of the weights go into what this machine reads in a second.
"""

import argparse
import csv
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import llmlab
from llmlab import loading
from tests.tools import notebooks

MODEL = "smollm2-135m"
PROMPT = "My dog really wanted to eat ice cream because"
PLAIN = "transformers, float32"
# How it runs -> what LLM is asked for; None: not by LLM.
VARIANTS: dict[str, dict[str, str] | None] = {
    PLAIN: None,
    "LLM, float32": {},
    "LLM, bfloat16": {"dtype": "bfloat16"},
    "LLM, int8": {"quantize": "int8"},
    "LLM, int4 (NF4)": {"quantize": "int4"},
    "LLM, cuda": {"device": "cuda"},
    "llama.cpp, Q4_1": None,
}
BATCHES = (1, 8, 32)
LONG = 256  # tokens of the prompt whose reading is timed
CLOCK = time.process_time if "--processor" in sys.argv else time.perf_counter
COLUMNS = {  # what a row holds -> how it is written
    "load": "load (s)", "weights": "weights (MB)", "peak": "peak memory (MB)",
    "prefill": "prefill (tokens/s)", "decode_1": "decode (tokens/s)",
    "decode_8": "8 at once", "decode_32": "32 at once",
    "ratio": "times plain", "gain": "32 ÷ 1", "limit": "share of the limit",
    "overhead": "over the wrapped call", "perplexity": "perplexity", "same": "same tokens",
    "classifier": "classifier: tweets right",
}  # fmt: skip


def median(function: Callable[[], Any], times: int) -> float:
    """The median of the seconds that a call takes; the first, slower one does not count."""
    function()
    return statistics.median(seconds(function) for _ in range(times))


def seconds(function: Callable[[], Any]) -> float:
    """The seconds of one call."""
    start = CLOCK()
    function()
    return CLOCK() - start


def bandwidth(times: int = 7) -> float:
    """Bytes a second that this process reads from memory: 512 MB, far more than any cache."""
    import torch

    numbers = torch.ones(128_000_000)
    return numbers.nbytes / median(numbers.sum, times)


# ---- what runs in a fresh process ---------------------------------------------------------------


def measured(how: str, name: str, times: int, new: int) -> dict[str, Any]:
    """One row of the table, in this process: medians of so many runs, so many new tokens each."""
    if how.startswith("llama.cpp"):
        return by_llama_cpp(times, new)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = VARIANTS[how]
    start = CLOCK()
    if options is None:
        path = llmlab.models.path(name)
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        llm = None
    else:
        llm = llmlab.LLM(name, **options)  # type: ignore[arg-type]
        tokenizer, model = llm.tokenizer, llm.model
    row: dict[str, Any] = {"load": CLOCK() - start, "weights": weights(model)}
    row["same"] = plain(model, tokenizer, [PROMPT], 2 * new)[0].tolist()
    model.generation_config.eos_token_id = None  # every text goes on to its last token

    def write(prompts: list[str], count: int) -> Any:
        if llm is None:
            return plain(model, tokenizer, prompts, count)
        return llm.generate(prompts, max_new_tokens=count, batch_size=len(prompts))

    length = min(LONG, (llmlab.generation.context_length(model) or LONG) // 2)
    long = tokenizer.decode(tokenizer(llmlab.data.prose())["input_ids"][:length])
    row["prefill"] = length / median(partial(write, [long], 1), times)
    for batch in BATCHES:
        prompts = [PROMPT] * batch
        reading = median(partial(write, prompts, 1), times)
        writing = median(partial(write, prompts, new + 1), times)
        row[f"decode_{batch}"] = batch * new / (writing - reading)
    if options == {}:  # LLM and the call it wraps in turn, so that a busy machine slows both
        pairs = []
        for _ in range(3 * times):
            theirs = seconds(lambda: plain(model, tokenizer, [PROMPT], new))
            pairs.append(seconds(lambda: write([PROMPT], new)) / theirs)
        row["overhead"] = statistics.median(pairs) - 1
    if torch.cuda.is_available():
        row["gpu"] = torch.cuda.max_memory_allocated() / 1e6
    row["peak"] = notebooks.peak_memory(os.getpid())  # before the perplexity's many logits
    text = llmlab.data.prose()[: 400 * new]
    row["perplexity"] = llmlab.generation.perplexity(model, tokenizer, text)
    if options is not None and "device" not in options:
        row["classifier"] = tweets_right(options)
    return row


def tweets_right(options: dict[str, str]) -> str:
    """How many tweets the course's classifier gets right when it is loaded in the same way.

    It was never rounded before, unlike SmolLM2, which arrives in 4 bits.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = llmlab.models.path("minilm-sentiment")
    dtype = loading.dtype_of(options.get("dtype", "auto"), torch.device("cpu"))
    more = loading.quantization(options.get("quantize"), dtype)
    if more:  # a head of two labels is too narrow for the product in 4 bits
        more["quantization_config"].llm_int8_skip_modules = ["classifier"]
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype, **more)
    tweets = llmlab.data.sentiment_sample()
    inputs = AutoTokenizer.from_pretrained(path)(
        list(tweets.text), padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        answers = model(**inputs).logits.argmax(dim=-1)
    right = (answers == torch.tensor(list(tweets.label))).sum().item()
    return f"{right} of {len(tweets)}"


def plain(model: Any, tokenizer: Any, prompts: list[str], count: int) -> Any:
    """The new ids by transformers' own generate, as its documentation calls it."""
    inputs = tokenizer(prompts, return_tensors="pt").to(llmlab.generation.input_device(model))
    ids = model.generate(**inputs, max_new_tokens=count, do_sample=False, pad_token_id=2)
    tokenizer.batch_decode(ids)
    return ids[:, inputs["input_ids"].shape[1] :]


def weights(model: Any) -> float:
    """The MB of all weights, with the scales of quantized ones."""
    size = model.get_memory_footprint()
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        size += 0 if state is None else state.absmax.nbytes
    return size / 1e6


def by_llama_cpp(times: int, new: int) -> dict[str, Any]:
    """The GGUF that SmolLM2 arrives as, in llama.cpp. Its Python interface runs one stream."""
    import llama_cpp

    file = next(Path(os.environ["LLMLAB_BENCH_GGUF"]).rglob("*.gguf"))
    start = CLOCK()
    threads = int(os.environ["OMP_NUM_THREADS"])
    llama = llama_cpp.Llama(
        str(file), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    row: dict[str, Any] = {
        "load": CLOCK() - start,
        "weights": file.stat().st_size / 1e6,
    }

    def write(text: str, count: int) -> list[int]:
        llama.reset()
        tokens = llama.tokenize(text.encode(), add_bos=False)
        return [token for token, _ in zip(llama.generate(tokens, temp=0.0), range(count))]  # noqa: B905

    row["same"] = write(PROMPT, 2 * new)
    tokens = llama.tokenize(llmlab.data.prose().encode(), add_bos=False)[:LONG]
    long = llama.detokenize(tokens).decode(errors="ignore")
    row["prefill"] = LONG / median(lambda: write(long, 1), times)
    reading = median(lambda: write(PROMPT, 1), times)
    row["decode_1"] = new / (median(lambda: write(PROMPT, new + 1), times) - reading)
    row["peak"] = notebooks.peak_memory(os.getpid())
    return row


# ---- the table ----------------------------------------------------------------------------------


def fresh(how: str, name: str, threads: int, quick: bool, gguf: str) -> dict[str, Any]:
    """One row, measured in a fresh process."""
    command = [sys.executable, "-m", "tests.tools.bench_llm", "--measure", how, "--model", name]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1", "LLMLAB_BENCH_GGUF": gguf,
        "TRANSFORMERS_VERBOSITY": "error",
    }  # fmt: skip
    done = subprocess.run(
        command + ["--processor"] * ("--processor" in sys.argv) + ["--quick"] * quick,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{how} stopped with an error:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def missing(how: str, name: str) -> str:
    """What it would need to run here, or ""."""
    if "int" in how and not importlib.util.find_spec("bitsandbytes"):
        return "pip install bitsandbytes"
    if how.startswith("llama.cpp") and name != MODEL:
        return "a GGUF, which is known of smollm2-135m"
    if how.startswith("llama.cpp") and not importlib.util.find_spec("llama_cpp"):
        return "pip install llama-cpp-python (it is compiled: many minutes)"
    if how.endswith("cuda"):
        import torch

        return "" if torch.cuda.is_available() else "a GPU"
    return ""


def machine(threads: int) -> str:
    """Date, cores and the processor's name, libraries."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*: (.*)", info.read_text("utf-8"))):
        name = found[1]
    versions = [
        f"{package} {importlib.metadata.version(package)}"
        for package in ("torch", "transformers", "bitsandbytes", "llama_cpp_python")
        if importlib.util.find_spec(package.removesuffix("_python"))
    ]
    today = datetime.date.today().isoformat()
    used = f"{threads} thread{'s' * (threads > 1)}"
    if "--processor" in sys.argv:
        used += ", the processor's seconds"
    return f"{today}, {os.cpu_count()} cores of {name}, {used}, {', '.join(versions)}"


def finished(rows: dict[str, dict[str, Any]], read: float) -> None:
    """Add what compares a row with the others: ratios, the limit, the same greedy tokens."""
    base = rows.get(PLAIN)
    for row in rows.values():
        row["limit"] = row["decode_1"] * row["weights"] * 1e6 / read
        if "decode_32" in row:
            row["gain"] = row["decode_32"] / row["decode_1"]
        if base is not None:
            row["ratio"] = row["decode_1"] / base["decode_1"]
    ids = None if base is None else base["same"]
    for row in rows.values():
        pairs = list(zip(row["same"], ids or [], strict=False))
        same = next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))
        row["same"] = f"the first {same} of {len(ids)}" if ids else ""


def written(row: dict[str, Any], column: str) -> str:
    """A figure with as many digits as it deserves."""
    value = row.get(column, "")
    if isinstance(value, str):
        return value
    if column in ("limit", "overhead"):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", nargs="*", help=f"which rows; by default all: {', '.join(VARIANTS)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processor", action="store_true", help="the processor's seconds")
    parser.add_argument("--model", default=MODEL, help="a name, a folder, an id on the Hub")
    parser.add_argument("--quick", action="store_true", help="few tokens, once: does it run at all")
    parser.add_argument("--out", type=Path, help="the CSV file to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    asked = parser.parse_args()
    if asked.measure:
        times, new = (1, 2) if asked.quick else (3, 12)
        print(json.dumps(measured(asked.measure, asked.model, times, new)))
        return
    import torch

    torch.set_num_threads(asked.threads)
    where, read = machine(asked.threads), bandwidth()
    print(f"{where}; memory read at {read / 1e9:.1f} GB/s\n", flush=True)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        for how in asked.how or VARIANTS:
            if needed := missing(how, asked.model):
                print(f"{how}: not measured, it needs {needed}", flush=True)
                continue
            if how.startswith("llama.cpp"):
                from llmlab.models import download
                from llmlab.models.catalogue import all_models

                model = all_models()[MODEL]
                download.get(model.sources[0], model.files, Path(work))
            rows[how] = fresh(how, asked.model, asked.threads, asked.quick, work)
            print(f"{how}: done", flush=True)
    finished(rows, read)
    table = [["how", *COLUMNS.values()]]
    table += [[how, *(written(row, column) for column in COLUMNS)] for how, row in rows.items()]
    for number, line in enumerate(table):
        print(f"| {' | '.join(line)} |")
        if number == 0:
            print(f"|{'---|' * len(line)}")
    if asked.out:
        with asked.out.open("w", encoding="utf-8", newline="") as file:
            file.write(f"# {where}; memory read at {read / 1e9:.1f} GB/s\n")
            csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()
