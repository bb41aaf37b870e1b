"""How fast EDGAR files become text and sentences, beside what parsing their HTML alone costs.

MB of the file for each CPU second of one process, median of several passes over each kind of file.
Busy neighbours slow a CPU second, too; the last column, times a bare parse, moves least with them.
A submission's exhibits are skipped, which is why it is faster than its pages are.
"""

import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from raydistill import filings, markup
from raydistill.errors import FilingError

PASSES = 7
KINDS = ("submission", "html", "text")
_HTML = re.compile(rb"(?i)<(?:html|body|div|p|td|br|font|pre)[\s/>]")

File = tuple[str, bytes, filings.Filing]
"""Its name, its bytes and what they read as."""


def run(corpus: Path | None = None, passes: int = PASSES) -> dict[str, float]:
    """The figures, after printing them; without the folder `corpus` over synthetic files."""
    files = _read(_real(corpus) if corpus is not None else synthetic())
    print(f"{'MB/s of':12}   MB    read   split    both   parse  ratio")
    made: dict[str, float] = {}
    for kind in KINDS:
        if kind in files:
            figures = _figures(files[kind], passes, with_html=kind != "text")
            print(f"{kind:10}" + "".join(f"{figure:8,.1f}" for figure in figures.values()))
            made |= {f"{kind}_{name}": figure for name, figure in figures.items()}
    return made


def _figures(files: list[File], passes: int, with_html: bool) -> dict[str, float]:
    """MB, and MB/s of reading, splitting, both and parsing; then both's time over parsing's."""
    mb = sum(len(data) for _, data, _ in files) / 1e6
    ways: list[Callable[[File], object]] = [
        lambda file: filings.read(file[0], file[1]),
        lambda file: filings.sentence_table(file[2]),
        lambda file: markup.parsed(file[1].decode("cp1252", "replace")),
    ]
    taken = [[_seconds(way, files) for way in ways] for _ in range(passes)]  # in turn
    read_s, split_s, parse_s = (statistics.median(each) for each in zip(*taken, strict=True))
    figures = {
        "mb": mb,
        "read_mb_per_s": mb / read_s,
        "split_mb_per_s": mb / split_s,
        "mb_per_s": mb / (read_s + split_s),
    }
    if with_html:
        figures |= {"parse_mb_per_s": mb / parse_s, "vs_parse": (read_s + split_s) / parse_s}
    return figures


def _seconds(act: Callable[[File], object], files: list[File]) -> float:
    """CPU seconds of a pass over the files."""
    began = time.process_time()
    for file in files:
        act(file)
    return time.process_time() - began


def _real(folder: Path) -> dict[str, bytes]:
    return {name: filings.open_bytes(name) for name in filings.find(str(folder))}


def _read(contents: dict[str, bytes]) -> dict[str, list[File]]:
    """The files that hold words, by kind."""
    files: dict[str, list[File]] = {}
    for name, data in contents.items():
        try:
            filing = filings.read(name, data)
        except FilingError:  # a form in XML
            continue
        html = _HTML.search(data) is not None
        kind = "text" if not html else "submission" if b"<SEC-HEADER>" in data else "html"
        files.setdefault(kind, []).append((name, data, filing))
    return files


def synthetic(count: int = 12) -> dict[str, bytes]:
    """As many files of each kind, with about as much markup around the words as EDGAR's have."""
    dice = random.Random(0)
    files: dict[str, bytes] = {}
    for number in range(count):
        page = _page(dice)
        files[f"{number}.htm"] = page.encode()
        exhibits = "".join(_document(f"EX-10.{part}", _page(dice)) for part in range(3))
        files[f"full{number}.txt"] = (
            "<SEC-DOCUMENT>\n<SEC-HEADER>\nCONFORMED SUBMISSION TYPE:\t8-K\n</SEC-HEADER>\n"
            + _document("8-K", page) + exhibits
        ).encode()  # fmt: skip
        lines = (" ".join(_words(dice, 11)) for _ in range(400))
        typed = "\n".join(line + ("." + "\n" if dice.random() < 0.2 else "") for line in lines)
        files[f"typed{number}.txt"] = typed.encode()
    return files


def _document(kind: str, body: str) -> str:
    return f"<DOCUMENT>\n<TYPE>{kind}\n<FILENAME>a.htm\n<TEXT>\n{body}\n</TEXT>\n</DOCUMENT>\n"


def _page(dice: random.Random) -> str:
    font = '<font style="font-family:Times New Roman;font-size:10pt" color="#{:06x}">{}</font>'
    cell = '<td valign="bottom" style="padding:2pt;width:{}%"><p align="right">{}</p></td>'
    blocks: list[str] = []
    for _ in range(30):
        sentence = " ".join(_words(dice, 25)).capitalize()
        text = font.format(dice.randrange(9), f"{sentence} of Acme&nbsp;Inc. and <b>others</b>.")
        blocks.append(f'<p style="margin:0pt 0pt 12pt;text-indent:24pt">{text}</p>\n')
        if dice.random() < 0.2:
            cells = "".join(cell.format(dice.randrange(90), word) for word in _words(dice, 6))
            blocks.append(f'<table cellspacing="0" width="100%"><tr>{cells}</tr>\n</table>\n' * 5)
    return f"<html><head><title>8-K</title></head><body>\n{''.join(blocks)}</body></html>"


def _words(dice: random.Random, count: int) -> list[str]:
    return ["".join(dice.choices("aeilnorstcdpmu", k=dice.randint(2, 10))) for _ in range(count)]
