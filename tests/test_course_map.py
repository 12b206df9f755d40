"""The map from structure to API: every row's code runs, and what it says of the result is true."""

import re
from pathlib import Path

import nbformat
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

import llmlab
from llmlab.course_map import NOTEBOOKS, ROWS

FOLDER = Path(__file__).parents[1] / "notebooks"
MODELS = {
    "causal-lm": ("gpt2-mini", transformers.AutoModelForCausalLM),
    "encoder": ("minilm", transformers.AutoModel),
    "classifier": ("minilm-sentiment", transformers.AutoModelForSequenceClassification),
    "seq2seq": ("t5-g2p", transformers.AutoModelForSeq2SeqLM),
}
GIVEN = {"max_steps", "return_tensors", "max_length", "from_pretrained"}  # say nothing particular
TEXTS = {
    "seq2seq": ["through", "knights"],
    "": ["Once upon a time", "The garden was full of roses"],
}


@pytest.fixture
def given(row, tmp_path):
    """What a row's code finds: a model of its kind, two texts and what belongs to them."""
    name, loader = MODELS[row.kind]
    path = llmlab.models.path(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    texts = TEXTS.get(row.kind, TEXTS[""])
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    model = loader.from_pretrained(path, dtype=torch.float32)
    examples = [
        {**tokenizer(text, padding="max_length", max_length=12), "labels": label}
        for label, text in enumerate(texts)
    ]
    sounds = tokenizer(["TH R UW1", "N AY1 T S"], padding=True, return_tensors="pt")
    names = vars(transformers).keys() | set(dir(transformers))
    imported = {
        n: getattr(transformers, n) for n in re.findall(r"\w+", row.interface) if n in names
    }
    return imported | {
        "LoraConfig": LoraConfig,
        "get_peft_model": get_peft_model,
        "torch": torch,
        "path": path,
        "texts": texts,
        "tokenizer": tokenizer,
        "inputs": inputs,
        "labels": sounds.input_ids,
        "model": model,
        "weights": model.state_dict(),
        "examples": examples,
        "folder": str(tmp_path),
    }


def sizes(row, given):
    """The dimensions' names as numbers, from the configuration and the inputs alone."""
    config = given["model"].config
    tokens = given["inputs"].input_ids.shape[1]
    heads = config.num_attention_heads
    return {
        "batch": 2,
        **dict.fromkeys(("token", "query", "key"), tokens),
        "token + 3": tokens + 3,
        "target": given["labels"].shape[1],
        "width": config.hidden_size,
        "head": heads,
        "key-value head": getattr(config, "num_key_value_heads", heads),
        "head width": getattr(config, "d_kv", config.hidden_size // heads),
        "vocabulary": config.vocab_size,
        "layers": config.num_hidden_layers,
        "layers + 1": config.num_hidden_layers + 1,
        "label": 9 if "num_labels=9" in row.interface else 2,
    }


def claim_holds(value, shape, size):
    """Whether `value` is what a row's shape says."""
    if times := re.fullmatch(r"(.+) × (\(.*\))", shape):
        count, each = times.groups()
        return len(value) == size[count] and all(claim_holds(one, each, size) for one in value)
    if shape.startswith("("):
        names = [name for name in shape.strip("()").split(", ") if name]
        return tuple(value.shape) == tuple(size[name] for name in names)
    if many := re.fullmatch(r"list of (\w+)", shape):
        return isinstance(value, list) and {type(one).__name__ for one in value} == {many[1]}
    return type(value).__name__ == shape


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.concept)
def test_a_rows_code_runs_and_its_field_has_the_shape(row, given):
    size = sizes(row, given)
    exec(row.interface, given)
    value = eval(row.field, given)
    assert claim_holds(value, row.shape, size)


def test_a_wrong_claim_is_noticed():
    size = {"batch": 2, "token": 7, "layers": 3}
    assert claim_holds(torch.zeros(2, 7), "(batch, token)", size)
    assert not claim_holds(torch.zeros(7, 2), "(batch, token)", size)
    assert not claim_holds((torch.zeros(2),) * 2, "layers × (batch)", size)
    assert not claim_holds(torch.zeros(1), "()", size)
    assert not claim_holds(["a", 1], "list of str", size)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.concept)
def test_the_section_is_there_and_shows_it(row):
    notebook = nbformat.read(FOLDER / NOTEBOOKS[row.notebook], 4)
    section: list[str] = []
    inside = False
    for cell in notebook.cells:
        for line in cell.source.split("\n") if cell.cell_type == "markdown" else ():
            if line.startswith("#"):
                inside = re.sub(r"[#`]+ ?", "", line).split(" ★")[0].strip() == row.section
        if inside:
            section.append(cell.source)
    assert section, f"{NOTEBOOKS[row.notebook]} has no section {row.section!r}"
    # the names of transformers' that the row uses stand in the section
    code = f"{row.interface} {row.field}"
    names = set(re.findall(r"\b(?:[A-Z]\w+|\w*_\w+|generate|loss|keys|logits|pipeline)\b", code))
    names -= GIVEN
    seen = [name for name in names if name in "\n".join(section)]
    assert not names or seen, f"of {sorted(names)} none is in section {row.section!r}"


def test_the_map_has_every_concept_of_the_course():
    wanted = """tokenization|token ids|padding mask|encoder-only body|decoder-only language model
        encoder–decoder language model|token representations|classification scores
        hidden states of every layer|attention weights|cross-attention weights
        autoregressive generation|KV cache|training loss|configuration|two-step load
        head for a label a text|head for a label a token|processor|pipeline|Trainer"""
    concepts = " / ".join(row.concept for row in ROWS)
    missing = [name for name in re.split(r"\||\n\s*", wanted) if name not in concepts]
    assert not missing


def test_it_is_a_table_whose_sections_are_links():
    table = llmlab.api_map()
    assert list(table.columns) == ["concept", "interface", "field", "shape", "section", "link"]
    assert len(table) == len(ROWS) and table.concept.is_unique
    html = table._repr_html_()
    assert html.count("<a href=") == len(table)
    assert 'href="02_forward_pass.ipynb#2-·-What-comes-out?"' in html
    assert "<script" not in html
