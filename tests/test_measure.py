"""What a call costs: the memory found is that of a tensor whose size is known."""

import re
import sys
import time
from pathlib import Path

import pytest
import torch

import llmlab
from llmlab.errors import LabError
from llmlab.measure import measure, memory_limit, stored_bytes

MB = 1_000_000


def test_what_is_kept_and_what_is_given_back():
    kept = measure(lambda: torch.ones(25 * MB))  # 100 MB
    assert 90 * MB < kept.held < 115 * MB and kept.peak >= kept.held - MB
    freed = measure(lambda: torch.ones(25 * MB).sum().item())
    assert freed.result == 25 * MB and freed.held < 10 * MB < 80 * MB < freed.peak


def test_seconds_are_the_median():
    pauses = iter([0.0, 0.2, 0.05])
    assert 0.04 < measure(lambda: time.sleep(next(pauses)), repeat=3).seconds < 0.15


def test_an_error_passes_and_the_watch_ends():
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0)
    assert measure(lambda: 1).result == 1


@pytest.mark.parametrize("repeat", [0, 1.5, True, "3"])
def test_an_impossible_number_of_times(repeat):
    with pytest.raises(LabError, match="repeat"):
        measure(lambda: 1, repeat=repeat)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_beyond_the_limit_memory_ends_and_the_limit_goes():
    with memory_limit(300), pytest.raises(RuntimeError, match="memory"):
        torch.empty(250 * MB)
    with memory_limit(300):
        assert torch.empty(25 * MB).numel() == 25 * MB
    assert torch.empty(250 * MB).numel() == 250 * MB


def test_stored_bytes_of_a_plain_layer():
    assert stored_bytes(torch.nn.Linear(10, 20)) == 4 * (200 + 20)


def test_stored_bytes_count_the_scales():
    bnb = pytest.importorskip("bitsandbytes")
    for doubled, scales in [(False, 4 * 1024), (True, 1024 + 4 * 4)]:
        layer = bnb.nn.Linear4bit(
            256, 256, bias=False, quant_type="nf4", compress_statistics=doubled
        ).to("cpu")
        assert stored_bytes(layer) == 256 * 256 // 2 + scales


def test_the_benchmark_says_date_and_machine(capsys, tmp_path):
    file = tmp_path / "speed.csv"
    file.write_text("# 2026-01-02, 2 cores\nhow,decode (tokens/s),32 at once\nplain,9.50,\n")
    table = llmlab.measure.benchmark(file)
    assert table["plain"].tolist() == ["9.50", ""]  # as written, and nothing is called NaN
    assert capsys.readouterr().out == "2026-01-02, 2 cores\n"


def test_without_a_benchmark_it_says_how_to_get_one(capsys, tmp_path):
    assert llmlab.measure.benchmark(tmp_path / "none.csv") is None
    assert "make bench" in capsys.readouterr().out


def test_the_file_that_ships_holds_what_notebook_08_reads_from_it(capsys):
    table = llmlab.measure.benchmark()
    machine = capsys.readouterr().out
    assert re.match(r"20\d\d-\d\d-\d\d, \d+ cores of \S", machine)
    plain = float(table.loc["decode (tokens/s)", "transformers, float32"])
    for way in ("LLM, bfloat16", "LLM, int8", "LLM, int4 (NF4)"):
        ratio = float(table.loc["decode (tokens/s)", way]) / plain
        assert float(table.loc["times plain", way]) == pytest.approx(ratio, rel=0.01)
    prose = (Path(llmlab.__file__).parents[1] / "notebooks" / "08_running_models.ipynb").read_text(
        "utf-8"
    )
    for row, way in [
        ("times plain", "LLM, int8"), ("times plain", "LLM, int4 (NF4)"),
        ("times plain", "LLM, bfloat16"), ("times plain", "llama.cpp, Q4_1"),
        ("perplexity", "LLM, float32"), ("perplexity", "LLM, int4 (NF4)"),
    ]:  # fmt: skip
        sentences = prose[prose.index("*Prefill* is reading") :][:1500]
        assert table.loc[row, way] in sentences, f"the prose tells another {row} of {way}"
