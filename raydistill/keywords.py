"""Learns the prefilter's keywords from a teacher's answers, and says what recall is shown.

Three parts of the companies, none in two: keywords are chosen on the first, how many of them on the
second, and recall is reported on the third. A greedy cover alone looks better than it is: it keeps
nearly all events it has seen, and 80 to 95 % at most of those of other companies.
So an event is covered several times (REPEAT), and a keyword needs events of several companies.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.errors import SetupError
from raydistill.stages.keyword import entry
from raydistill.stages.prefilter import Prefilter

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LEARN_ROWS = 50_000  # of either kind: more cost minutes and gigabytes
MIN_COMPANIES = 3  # a word of one or two companies is a name
MIN_EVENTS = 5
STEMS = range(4, 9)  # letters before the `*` of a stem: `acqui*`
REPEAT = (
    0.3  # what an event still weighs once covered; 0 is plain set cover, which does not generalise
)
SMOOTHING = 5.0  # negatives every keyword is thought to let in beside those seen
CONFIDENCE = 0.95
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Keywords:
    """Learned keywords, best first, and what the held-out companies say about them."""

    keywords: list[str]
    curve: list[tuple[int, float, float]]  # on the second part: keywords, recall, share that passes
    stated: float  # the recall asked for
    recall: float  # on the third part, as are the following
    recall_lower: float  # one-sided 95 %, as if events were independent (Clopper-Pearson)
    recall_lower_by_company: float  # one-sided 95 %, companies resampled: they are not
    pass_rate: float
    events: int
    companies: int
    seed: int

    @property
    def supported(self) -> bool:
        """Whether the held-out events show the stated recall."""
        return self.lower >= self.stated

    @property
    def lower(self) -> float:
        """The smaller of the two lower bounds."""
        return min(self.recall_lower, self.recall_lower_by_company)

    @property
    def claim(self) -> str:
        """What may be said of the recall, in one line."""
        shown = f"recall >= {np.floor(self.lower * 1000) / 1000:.3f} with 95 % confidence"
        line = f"{shown} (n={self.events} events of {self.companies} companies)"
        if self.supported:
            return line
        if _lower(self.events, self.events) < self.stated:
            needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(self.stated)))
            return f"{line}; {self.stated} cannot be shown with fewer than {needed} events"
        return f"{line}; the stated {self.stated} is not reached"

    def write(self, path: Path) -> None:
        """One keyword a line, to be edited by hand; the claim stands above as a comment."""
        lines = [f"# {self.claim}", f"# seed {self.seed}; `word`, `a phrase`, `stem*`, `re:...`"]
        path.write_text("\n".join([*lines, *self.keywords]) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Losses:
    """`lost`: the rows of the events that do not pass; `by_keyword`: what each keyword lets in.

    Its columns: keyword, events, others, and those no other keyword lets in: events_alone,
    others_alone.
    """

    lost: Ints
    by_keyword: pa.Table


def read(path: Path) -> list[str]:
    """The keywords of a file: one a line; blank lines, `#` comments and repeats are dropped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise SetupError(f"keywords {path}: {problem}", expected="a UTF-8 text file") from None
    kept = [line.strip() for line in lines]
    keywords = list(dict.fromkeys(k for k in kept if k and not k.startswith("#")))
    if not keywords:
        raise SetupError(f"keywords {path}: none in it", expected="one keyword a line")
    for keyword in keywords:
        entry(keyword)
    return keywords


def learn(
    texts: Sequence[str],
    positive: Bools,
    groups: Sequence[str],
    *,
    recall: float = 0.995,
    seed: int,
    sample: "Bools | None" = None,
    max_words: int = 2,
    max_keywords: int = 1000,
) -> Keywords:
    """The fewest keywords that reach `recall` on companies they were not learned from.

    `positive`: the rows with an event. `groups`: their companies. `sample`: the rows drawn at
    random (None: all), which alone may tell rates; the others serve to learn from.
    """
    if not 0 < recall < 1 or not 1 <= max_words <= 3:
        raise SetupError(
            f"recall {recall}, max_words {max_words}", expected="0 < recall < 1, 1 to 3"
        )
    column = pa.array(texts, pa.large_string())
    rates = np.ones(len(texts), np.bool_) if sample is None else sample
    share = _shares(groups, seed)
    company = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    parts = share < 0.5, (share >= 0.5) & (share < 0.75) & rates, (share >= 0.75) & rates
    for part, name in zip(parts, ("learn", "calibrate", "report"), strict=True):
        if not positive[part].any() or positive[part].all():
            raise SetupError(
                f"rows to {name}: {int(part.sum())}, {int(positive[part].sum())} with an event",
                expected="rows with events and without, from several companies",
            )
    chosen = _chosen(_sampled(parts[0], positive, seed), column, positive, company, max_words)
    ordered = chosen[:max_keywords]
    if not ordered:
        raise SetupError(
            "no keyword", expected=f"words of {MIN_EVENTS} events, {MIN_COMPANIES} companies"
        )
    curve = _curve(ordered, column.filter(pa.array(parts[1])), positive[parts[1]])
    count = next((k for k, reached, _ in curve if reached >= recall), len(ordered))
    passed = np.asarray(Prefilter(ordered[:count]).mask(column.filter(pa.array(parts[2]))))
    truth, companies = positive[parts[2]], company[parts[2]][positive[parts[2]]]
    kept = passed[truth]
    return Keywords(
        keywords=ordered[:count],
        curve=curve,
        stated=recall,
        recall=float(kept.mean()),
        recall_lower=_lower(int(kept.sum()), len(kept)),
        recall_lower_by_company=_lower_by_company(kept, companies, seed),
        pass_rate=float(passed.mean()),
        events=len(kept),
        companies=len(np.unique(companies)),
        seed=seed,
    )


def losses(keywords: Sequence[str], texts: Sequence[str], positive: Bools) -> Losses:
    """Which events are lost, and what each keyword lets in."""
    prefilter = Prefilter(keywords)
    rows, ids = prefilter.pairs(pa.array(texts, pa.large_string()))
    kept = np.zeros(len(texts), np.bool_)
    kept[rows] = True
    alone = np.bincount(rows, minlength=len(texts))[rows] == 1
    event, size = positive[rows], len(prefilter.keywords)
    columns = {"events": event, "others": ~event}
    counts = {name: np.bincount(ids[which], minlength=size) for name, which in columns.items()}
    counts |= {
        f"{name}_alone": np.bincount(ids[which & alone], minlength=size)
        for name, which in columns.items()
    }
    table = pa.table({"keyword": pa.array(prefilter.keywords, pa.string()), **counts})
    return Losses(np.flatnonzero(positive & ~kept), table)


def _shares(groups: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """For each row a number from 0 to 1 that its company alone decides."""
    key = seed.to_bytes(8, "little", signed=True)
    share = {
        g: int.from_bytes(hashlib.blake2b(g.encode(), key=key, digest_size=8).digest(), "little")
        / 2**64
        for g in set(groups)
    }
    return np.array([share[g] for g in groups])


def _sampled(part: Bools, positive: Bools, seed: int) -> Ints:
    """Rows to learn from, LEARN_ROWS with an event and as many without at most."""
    rng = np.random.default_rng(seed)
    kinds = (np.flatnonzero(part & positive), np.flatnonzero(part & ~positive))
    return np.sort(np.concatenate([rng.permutation(rows)[:LEARN_ROWS] for rows in kinds]))


def _chosen(rows: Ints, column: Any, positive: Bools, company: Ints, max_words: int) -> list[str]:
    """Candidates in the order a greedy choice takes them: most events for the fewest others."""
    truth = positive[rows]
    texts = cast("list[str | None]", column.take(pa.array(rows)).to_pylist())
    matrix, names = _candidates(texts, truth, company[rows], max_words)
    return [names[i] for i in _greedy(matrix[truth], matrix[~truth])]


def _candidates(
    texts: "list[str | None]", truth: Bools, company: Ints, max_words: int
) -> tuple[Any, list[str]]:
    """Rows times candidates (0 or 1), and the candidates: words, phrases and stems."""
    from scipy.sparse import hstack  # only learning needs it: every actor would import it

    words: dict[str, int] = {"": 0}  # 0 ends a phrase: punctuation, a number, the end of the text
    codes: list[int] = []
    counts = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        found = [t if t.isalpha() else "" for t in _TOKEN.findall((text or "").lower())]
        codes.extend(words.setdefault(t, len(words)) for t in [*found, ""])
        counts[i] = len(found) + 1
    spelled, token = list(words), np.array(codes, np.int64)
    row = np.repeat(np.arange(len(texts)), counts)
    blocks: list[Any] = []
    names: list[str] = []

    def add(keys: Ints, rows: Ints, name: Any) -> None:
        matrix, kept = _frequent(keys, rows, truth, company)
        blocks.append(matrix)
        names.extend(name(int(key)) for key in kept)

    size = len(spelled)
    for n in range(1, max_words + 1):
        at = np.arange(len(token) - n + 1)
        at = at[np.all([token[at + i] > 0 for i in range(n)], axis=0)]
        keys = sum((token[at + i] * size**i for i in range(n)), np.zeros(len(at), np.int64))
        add(
            keys,
            row[at],
            lambda key, n=n: " ".join(spelled[key // size**i % size] for i in range(n)),
        )
    for letters in STEMS:
        stems: dict[str, int] = {}
        stem = [
            stems.setdefault(w[:letters], len(stems)) if len(w) > letters else -1 for w in spelled
        ]
        keys = np.array(stem)[token]
        # A stem stands for the word it cuts too, as `acqui*` does in the prefilter.
        whole = np.array([stems.get(w, -1) if len(w) == letters else -1 for w in spelled])[token]
        keys = np.maximum(keys, whole)
        starts = list(stems)
        add(keys[keys >= 0], row[keys >= 0], lambda key, s=starts: s[key] + "*")
    return hstack(blocks, format="csr"), names


def _frequent(keys: Ints, rows: Ints, truth: Bools, company: Ints) -> tuple[Any, Ints]:
    """Rows times the keys that enough events of enough companies have, and these keys."""
    from scipy.sparse import csr_matrix

    distinct, ids = np.unique(keys, return_inverse=True)
    pairs = np.unique(ids * len(truth) + rows)
    ids, rows = np.divmod(pairs, len(truth))
    event = truth[rows]
    events = np.bincount(ids[event], minlength=len(distinct))
    span = int(company.max()) + 1
    spread = np.unique(ids[event] * span + company[rows[event]]) // span
    companies = np.bincount(spread, minlength=len(distinct))
    good = (events >= MIN_EVENTS) & (companies >= MIN_COMPANIES)
    number = np.cumsum(good) - 1
    use = good[ids]
    shape = (len(truth), int(good.sum()))
    ones = np.ones(int(use.sum()), np.float32)
    return csr_matrix((ones, (rows[use], number[ids[use]])), shape=shape), distinct[good]


def _greedy(events: Any, others: Any) -> list[int]:
    """Columns by what they newly cover; a covered event keeps REPEAT of its weight."""
    sides = [
        (m.tocsr(), m.tocsc(), np.ones(m.shape[0]), keep)
        for m, keep in ((events, REPEAT), (others, 0.0))
    ]
    gains = [np.asarray(m.sum(axis=0), np.float64).ravel() for m in (events, others)]
    free, order = np.ones(events.shape[1], np.bool_), list[int]()
    while free.any():
        score = np.where(free, gains[0] / (gains[1] + SMOOTHING), -1.0)
        best = int(score.argmax())
        if gains[0][best] < 1e-3:
            break
        order.append(best)
        free[best] = False
        for side, (by_row, by_column, weight, keep) in enumerate(sides):
            rows = by_column.indices[by_column.indptr[best] : by_column.indptr[best + 1]]
            rows = rows[weight[rows] > 1e-4]
            gains[side] -= by_row[rows].T @ (weight[rows] * (1 - keep))
            weight[rows] *= keep
    return order


def _curve(keywords: list[str], texts: Any, truth: Bools) -> list[tuple[int, float, float]]:
    """Recall and the share that passes for the first 1, 2, 3, ... keywords."""
    rows, ids = Prefilter(keywords).pairs(texts)
    first = np.full(len(truth), len(keywords))
    np.minimum.at(first, rows, ids)
    counts = np.arange(1, len(keywords) + 1)
    recall = np.searchsorted(np.sort(first[truth]), counts) / truth.sum()
    passed = np.searchsorted(np.sort(first), counts) / len(truth)
    return [(int(k), float(r), float(p)) for k, r, p in zip(counts, recall, passed, strict=True)]


def _lower(kept: int, events: int) -> float:
    """The one-sided Clopper-Pearson bound."""
    from scipy.special import betaincinv

    return float(betaincinv(kept, events - kept + 1, 1 - CONFIDENCE)) if kept else 0.0


def _lower_by_company(kept: Bools, companies: Ints, seed: int) -> float:
    """The same bound with whole companies resampled: events of one company are alike."""
    ids = np.unique(companies, return_inverse=True)[1]
    events, found = np.bincount(ids), np.bincount(ids, weights=kept)
    draws = np.random.default_rng(seed).integers(0, len(events), (2000, len(events)))
    return float(np.quantile(found[draws].sum(1) / events[draws].sum(1), 1 - CONFIDENCE))
