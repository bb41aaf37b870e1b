"""Consolidation of an open vocabulary: how often each value occurs, and which may be the same.

Teachers coin names: `dismissed_auditor`, `auditor_dismissed`, `dismised_auditors`. Suggestions are
for a person to read in types.csv and to move into the `merge` map; nothing is merged by itself.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import SetupError

_ENDINGS = ("ing", "ies", "ed", "es", "s", "e")
_MIN_TYPO = 7  # shorter names one letter apart are often different words


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`old` may be the same as the more frequent `new`."""

    old: str
    new: str
    why: str


def resolved(merge: Mapping[str, str]) -> dict[str, str]:
    """The merge map with chains followed to their end; SetupError where one goes in a circle."""
    out: dict[str, str] = {}
    for old in merge:
        seen, new = {old}, merge[old]
        while new in merge and new != merge[new]:
            if new in seen:
                raise SetupError(
                    f"merge goes in a circle: {' -> '.join(sorted(seen))}",
                    expected="old: new, where new is no old",
                    todo="correct merge in conf/build.yaml",
                )
            seen.add(new)
            new = merge[new]
        out[old] = new
    return out


def stem(word: str) -> str:
    """A word without its commonest endings, good enough to compare names."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
    return word


def suggestions(counts: Mapping[str, int]) -> dict[str, Suggestion]:
    """For each name that looks like a more frequent one, that one: linear in the names."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    found: dict[str, Suggestion] = {}
    by_words: dict[tuple[str, ...], str] = {}
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in ordered:
        words = tuple(sorted(stem(word) for word in name.split("_") if word))
        near = by_words.setdefault(words, name)
        if near != name:
            found[name] = Suggestion(name, near, "same words")
            continue
        if len(name) >= _MIN_TYPO:
            for form in _forms(name):
                typo = next((o for o in by_letters[form] if _one_apart(o, name)), None)
                if typo and name not in found:
                    found[name] = Suggestion(name, typo, "one letter apart")
                by_letters[form].append(name)
    return found


def _forms(name: str) -> list[str]:
    """The name, and the name without each letter: names one edit apart share one."""
    return [name, *dict.fromkeys(name[:at] + name[at + 1 :] for at in range(len(name)))]


def _one_apart(one: str, other: str) -> bool:
    """Whether one letter was added, lost or changed, or two neighbours swapped; digits count."""
    if any(c.isdigit() for c in one + other) or abs(len(one) - len(other)) > 1:
        return False
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    rest = one[at + 1 :], other[at + 1 :], one[at:], other[at:]
    swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return rest[0] == rest[1] or rest[0] == rest[3] or rest[2] == rest[1] or swapped


def head(counts: Mapping[str, int], size: int) -> list[str]:
    """The values that become single tokens: the `size` most frequent, those seen twice at least."""
    common = [(value, n) for value, n in counts.items() if n > 1]
    return [value for value, _ in sorted(common, key=lambda pair: (-pair[1], pair[0]))[:size]]


def write(
    file: Path, counts: Mapping[str, Counter[str]], heads: Mapping[str, list[str]]
) -> dict[str, dict[str, Suggestion]]:
    """Writes types.csv (one row a value, the frequent first) and gives the suggestions by field."""
    found: dict[str, dict[str, Suggestion]] = {}
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["field", "value", "count", "share", "token", "may_be", "why"])
        for field, values in counts.items():
            found[field] = suggestions(values)
            total, single = sum(values.values()), set(heads.get(field, ()))
            for value in sorted(values, key=lambda name: (-values[name], name)):
                near = found[field].get(value)
                share = f"{values[value] / total:.6f}"
                token = "yes" if value in single else "no"
                end = (near.new, near.why) if near else ("", "")
                table.writerow([field, value, values[value], share, token, *end])
    return found
