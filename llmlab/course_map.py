"""The map of the course: from the parts of a language model to transformers' interface."""

import re
from html import escape
from typing import NamedTuple

import pandas

NOTEBOOKS = {
    "00": "00_welcome.ipynb",
    "01": "01_tokenization.ipynb",
    "02": "02_forward_pass.ipynb",
    "03": "03_attention.ipynb",
    "04": "04_classification.ipynb",
    "05": "05_generation.ipynb",
    "06": "06_encoder_decoder.ipynb",
    "07": "07_fine_tuning.ipynb",
    "08": "08_running_models.ipynb",
}


class Row(NamedTuple):
    """One concept: `interface` is code that runs, `field` what then holds it."""

    concept: str
    kind: str  # the kind of model that it is tried on, as in `llmlab.models.table()`
    interface: str
    field: str
    shape: str  # dimensions in brackets, "n × (…)" for a tuple of n tensors, else the type
    notebook: str
    section: str  # the heading of the section that shows it


ROWS = (
    Row(
        "tokenization",
        "causal-lm",
        "tokenizer = AutoTokenizer.from_pretrained(path)",
        "tokenizer.tokenize(texts[0])",
        "list of str",
        "01",
        "Why Ġ?",
    ),
    Row(
        "token ids",
        "causal-lm",
        'inputs = tokenizer(texts, padding=True, return_tensors="pt")',
        "inputs.input_ids",
        "(batch, token)",
        "01",
        "A debugging story: the batch that would not fit",
    ),
    Row(
        "padding mask",
        "causal-lm",
        'inputs = tokenizer(texts, padding=True, return_tensors="pt")',
        "inputs.attention_mask",
        "(batch, token)",
        "01",
        "A debugging story: the batch that would not fit",
    ),
    Row(
        "id → vector (embedding)",
        "causal-lm",
        "embedding = model.get_input_embeddings()",
        "embedding(inputs.input_ids)",
        "(batch, token, width)",
        "01",
        "What happens to the ids?",
    ),
    Row(
        "configuration",
        "causal-lm",
        "config = model.config",
        "config.num_hidden_layers",
        "int",
        "02",
        "1 · What is inside?",
    ),
    Row(
        "the two-step load: plan, then weights",
        "causal-lm",
        "model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)); "
        "model.load_state_dict(weights, strict=False)",
        "model(**inputs).logits",
        "(batch, token, vocabulary)",
        "02",
        "Further: from a folder to a model, by hand",
    ),
    Row(
        "decoder-only language model",
        "causal-lm",
        "model = AutoModelForCausalLM.from_pretrained(path)",
        "model(**inputs).logits",
        "(batch, token, vocabulary)",
        "02",
        "2 · What comes out?",
    ),
    Row(
        "hidden states of every layer",
        "causal-lm",
        "outputs = model(**inputs, output_hidden_states=True)",
        "outputs.hidden_states",
        "layers + 1 × (batch, token, width)",
        "02",
        "3 · What happens on the way?",
    ),
    Row(
        "body without a head",
        "causal-lm",
        "body = AutoModel.from_pretrained(path)",
        "body(**inputs).last_hidden_state",
        "(batch, token, width)",
        "02",
        "Further: body and head",
    ),
    Row(
        "training loss of a language model",
        "causal-lm",
        "outputs = model(**inputs, labels=inputs.input_ids)",
        "outputs.loss",
        "()",
        "02",
        "5 · How wrong was it?",
    ),
    Row(
        "attention weights",
        "causal-lm",
        'model.set_attn_implementation("eager"); outputs = model(**inputs, output_attentions=True)',
        "outputs.attentions",
        "layers × (batch, head, query, key)",
        "03",
        "Further: four traps",
    ),
    Row(
        "encoder-only body: token representations",
        "encoder",
        "body = AutoModel.from_pretrained(path)",
        "body(**inputs).last_hidden_state",
        "(batch, token, width)",
        "04",
        "2 · What does the head do?",
    ),
    Row(
        "classification scores: a head for a label a text",
        "classifier",
        "model = AutoModelForSequenceClassification.from_pretrained(path)",
        "model(**inputs).logits",
        "(batch, label)",
        "04",
        "Station 2 · A model with a head",
    ),
    Row(
        "names of the labels",
        "classifier",
        "config = model.config",
        "config.id2label",
        "dict",
        "04",
        "Station 3 · The configuration, read aloud",
    ),
    Row(
        "a head for a label a token",
        "encoder",
        "model = AutoModelForTokenClassification.from_pretrained(path, num_labels=9)",
        "model(**inputs).logits",
        "(batch, token, label)",
        "04",
        "Further: a label a token",
    ),
    Row(
        "pipeline: all stations in one call",
        "classifier",
        'classify = pipeline("text-classification", path)',
        "classify(texts)",
        "list of dict",
        "04",
        "9 · Why doesn't it say \"I don't know\"?",
    ),
    Row(
        "autoregressive generation",
        "causal-lm",
        "outputs = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)",
        "outputs",
        "(batch, token + 3)",
        "05",
        "2 · The loop",
    ),
    Row(
        "KV cache",
        "causal-lm",
        "cache = model(**inputs, use_cache=True).past_key_values",
        "cache.layers[0].keys",
        "(batch, key-value head, token, head width)",
        "05",
        "6 · Reading everything again, or not",
    ),
    Row(
        "a rule that changes the logits",
        "causal-lm",
        "rule = TopPLogitsWarper(top_p=0.9)",
        "rule(inputs.input_ids, model(**inputs).logits[:, -1])",
        "(batch, vocabulary)",
        "05",
        "Further: transformers' own rules",
    ),
    Row(
        "encoder–decoder language model",
        "seq2seq",
        "model = AutoModelForSeq2SeqLM.from_pretrained(path)",
        "model(**inputs, labels=labels).logits",
        "(batch, target, vocabulary)",
        "06",
        "2 · Three shapes of one idea",
    ),
    Row(
        "what the encoder hands over",
        "seq2seq",
        "encoded = model.get_encoder()(**inputs)",
        "encoded.last_hidden_state",
        "(batch, token, width)",
        "06",
        "2 · Three shapes of one idea",
    ),
    Row(
        "the decoder's first token",
        "seq2seq",
        "config = model.config",
        "config.decoder_start_token_id",
        "int",
        "06",
        "3 · The loop, with a start token",
    ),
    Row(
        "hidden states of the encoder",
        "seq2seq",
        "outputs = model(**inputs, labels=labels, output_hidden_states=True)",
        "outputs.encoder_hidden_states",
        "layers + 1 × (batch, token, width)",
        "06",
        "5 · Three kinds of attention",
    ),
    Row(
        "cross-attention weights",
        "seq2seq",
        'model.set_attn_implementation("eager"); '
        "outputs = model(**inputs, labels=labels, output_attentions=True)",
        "outputs.cross_attentions",
        "layers × (batch, head, target, token)",
        "06",
        "5 · Three kinds of attention",
    ),
    Row(
        "training loss of an encoder–decoder (teacher forcing)",
        "seq2seq",
        "outputs = model(**inputs, labels=labels)",
        "outputs.loss",
        "()",
        "06",
        "7 · Training: the teacher says it before",
    ),
    Row(
        "KV cache with two parts",
        "seq2seq",
        "cache = model(**inputs, labels=labels, use_cache=True).past_key_values",
        "cache.cross_attention_cache.layers[0].keys",
        "(batch, head, token, head width)",
        "06",
        "8 · A cache with two parts",
    ),
    Row(
        "processor: whatever prepares a model's input",
        "seq2seq",
        "processor = AutoProcessor.from_pretrained(path)  # for text, the tokenizer",
        'processor(texts, padding=True, return_tensors="pt").input_ids',
        "(batch, token)",
        "06",
        "Further: the map",
    ),
    Row(
        "slopes of the loss",
        "classifier",
        "model(**inputs, labels=torch.tensor([0, 1])).loss.backward()",
        "model.classifier.weight.grad",
        "(label, width)",
        "07",
        "2 · Which way?",
    ),
    Row(
        "LoRA",
        "classifier",
        "lora = get_peft_model(model, LoraConfig(r=8, target_modules=['query']))",
        "lora(**inputs).logits",
        "(batch, label)",
        "07",
        "Further: peft does it for you",
    ),
    Row(
        "Trainer",
        "classifier",
        "trainer = Trainer(model, TrainingArguments(folder, max_steps=1), train_dataset=examples)",
        "trainer.train().training_loss",
        "float",
        "07",
        "8 · The same with Trainer",
    ),
    Row(
        "format of the weights",
        "causal-lm",
        "model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)",
        "model.dtype",
        "dtype",
        "08",
        "3 · The options of from_pretrained",
    ),
    Row(
        "bytes of the weights",
        "causal-lm",
        "config = AutoConfig.from_pretrained(path)\n"
        'with torch.device("meta"):\n'
        "    empty = AutoModelForCausalLM.from_config(config, dtype=torch.float32)",
        "4 * empty.num_parameters()",
        "int",
        "08",
        "1 · What does a model cost?",
    ),
    Row(
        "quantization",
        "classifier",
        "plan = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=['classifier'])\n"
        "model = AutoModelForSequenceClassification.from_pretrained("
        "path, quantization_config=plan)",
        "model(**inputs).logits",
        "(batch, label)",
        "08",
        "5 · BitsAndBytesConfig, option by option",
    ),
)
HEADS = ("concept", "in transformers", "where it lies, and its shape", "section")
WIDTHS = (18, 33, 30, 19)  # per cent, so that the table fits the page
CELL = "text-align:left;vertical-align:top"


class Map(pandas.DataFrame):
    """The table; shown in a notebook, its sections are links."""

    def _repr_html_(self) -> str:
        """The whole table as HTML: code as code, sections as links."""
        rows = []
        for row in self.itertuples(index=False):
            concept, code, field, shape, section, link = (escape(str(text)) for text in row)
            cells = [
                concept,
                _code(code),
                f"{_code(field)}<br>{shape}",
                f'<a href="{link}">{section}</a>',
            ]
            rows.append("<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells))
        head = "".join(
            f'<th style="{CELL};width:{width}%">{name}</th>'
            for name, width in zip(HEADS, WIDTHS, strict=True)
        )
        table = '<table style="table-layout:fixed;width:100%">'
        return f"{table}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _code(text: str) -> str:
    """Escaped code that a page may break after a point, a bracket or an underscore."""
    breakable = re.sub(r"([._(])", r"\1<wbr>", text)
    return f"<code>{breakable}</code>"


def api_map() -> pandas.DataFrame:
    """The table from structure to API for the whole course, one row a concept.

    Columns: concept; interface, the code; field, where the result then lies; shape (a tensor's
    dimensions, "n × (…)" for n tensors, or a type); section, the notebook and the section that show
    it; link, to that section from a notebook beside it. In a notebook the sections are links.

    The code of each row runs as it stands, given a model's `path`, two `texts`, and where the row
    does not make them itself `tokenizer`, `inputs`, `labels`, `model` and its `weights`.

    >>> table = api_map()
    >>> table.loc[table.concept == "attention weights", "shape"].item()
    'layers × (batch, head, query, key)'
    """
    rows = [
        (
            row.concept,
            row.interface,
            row.field,
            row.shape,
            f"{row.notebook} · {row.section}",
            f"{NOTEBOOKS[row.notebook]}#{row.section.replace(' ', '-')}",
        )
        for row in ROWS
    ]
    return Map(rows, columns=["concept", "interface", "field", "shape", "section", "link"])
