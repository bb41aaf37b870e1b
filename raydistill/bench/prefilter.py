"""How fast the prefilter is beside memcpy, pyarrow and grep, and whether it keeps the right rows.

CPU seconds of one process, so that busy neighbours do not count; median of five runs, in turn.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from raydistill.stages.keyword import one_line, reference_pattern
from raydistill.stages.prefilter import Prefilter

pc: Any = compute

REPEATS = 5
KEYWORDS = 499
PASS = 0.13
BATCH = 10_000  # what a stage is called with: pyarrow compiles its pattern at each call
CHECKED = 8_000  # rows compared with Python's `re`, some 1,000 a second


def run(rows: int | None = None, corpus: Path | None = None) -> dict[str, float]:
    """The figures, after printing them; `corpus` is a Parquet file with a `sentence` column."""
    texts = sentences(rows, corpus)
    keywords = keywords_for(texts)
    prefilter = Prefilter(keywords)
    kept = np.asarray(prefilter.mask(texts))  # compiles, too
    body = memoryview(texts.buffers()[2])
    pattern = (
        r"(?i)\b(?:" + "|".join(r"\s+".join(map(re.escape, k.split())) for k in keywords) + r")\b"
    )
    batches = [texts.slice(i, BATCH) for i in range(0, len(texts), BATCH)]
    methods: dict[str, Callable[[], object]] = {
        "memcpy": lambda: bytes(body),
        "prefilter": lambda: prefilter.mask(texts),
        "pyarrow": lambda: pc.match_substring_regex(texts, pattern),
        "prefilter_batched": lambda: [prefilter.mask(b) for b in batches],
        "pyarrow_batched": lambda: [pc.match_substring_regex(b, pattern) for b in batches],
    }
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("grep"):
            methods["grep"] = _grep(Path(folder), texts, keywords)
        seconds = _measured(methods)
    rates = {name: len(texts) / s for name, s in seconds.items()}
    checked = np.flatnonzero(np.arange(len(texts)) % max(1, len(texts) // CHECKED) == 0)
    figures = {f"{name}_per_s": rate for name, rate in rates.items()}
    figures |= {
        f"vs_{name}": rates["prefilter_batched" if name.endswith("batched") else "prefilter"] / rate
        for name, rate in rates.items()
        if not name.startswith("prefilter")
    }
    figures |= {
        "rows": float(len(texts)),
        "keywords": float(len(keywords)),
        "pass_rate": float(kept.mean()),
        "checked": float(len(checked)),
        "differences": float(differences(keywords, texts.take(pa.array(checked)), kept[checked])),
    }
    for name, figure in figures.items():
        print(f"{name:18} {figure:14,.3f}")
    return figures


def sentences(rows: int | None, corpus: Path | None) -> Any:
    """The corpus's sentences, or as many synthetic ones (200,000 where `rows` is None)."""
    if corpus is not None and corpus.exists():
        column = pq.read_table(corpus, columns=["sentence"])["sentence"].slice(0, rows)
        return pa.concat_arrays(column.cast(pa.large_string()).chunks)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("aeilnorstcdpmu"), 3 + i % 9)) for i in range(8000)]
    ranks = np.minimum(rng.zipf(1.3, (rows or 200_000, 30)) - 1, len(words) - 1)
    return pa.array([" ".join(words[r] for r in line) + "." for line in ranks], pa.large_string())


def keywords_for(texts: Any) -> list[str]:
    """Words and phrases of about one frequency, KEYWORDS of them, that let about PASS through."""
    sample = texts.take(pa.array(np.arange(0, len(texts), max(1, len(texts) // 20_000))))
    found: list[set[str]] = []
    for text in sample.to_pylist():
        words = re.findall("[a-z]{3,}", text.lower())
        found.append({*words, *(" ".join(pair) for pair in pairwise(words))})
    counts = Counter(word for words in found for word in words)
    ranked = [word for word, count in counts.most_common() if count > 1]
    low, high = 0, max(0, len(ranked) - KEYWORDS)
    while low < high:  # the further down the list, the less passes
        middle = (low + high) // 2
        chosen = set(ranked[middle : middle + KEYWORDS])
        if sum(not chosen.isdisjoint(words) for words in found) > PASS * len(found):
            low = middle + 1
        else:
            high = middle
    return ranked[low : low + KEYWORDS]


def differences(keywords: list[str], texts: Any, kept: Any) -> int:
    """The rows where the prefilter and Python's `re` differ."""
    search = reference_pattern(keywords).search
    return sum(
        (search(one_line(t)) is not None) != k for t, k in zip(texts.to_pylist(), kept, strict=True)
    )


def _grep(folder: Path, texts: Any, keywords: list[str]) -> Callable[[], object]:
    """Runs `grep -ciwFf`, one line a sentence."""
    lines, words = folder / "sentences", folder / "keywords"
    lines.write_text("\n".join(map(one_line, texts.to_pylist())) + "\n", encoding="utf-8")
    words.write_text("\n".join(keywords) + "\n", encoding="utf-8")
    command = ["grep", "-ciwFf", str(words), str(lines)]
    return lambda: subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=False
    )


def _measured(methods: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds, the methods in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(REPEATS):
        for name, method in methods.items():
            before = _cpu_s()
            method()
            seconds[name].append(_cpu_s() - before)
    return {name: statistics.median(each) for name, each in seconds.items()}


def _cpu_s() -> float:
    """CPU seconds of this process and of those it waited for."""
    t = os.times()
    return time.process_time() + t.children_user + t.children_system
