"""EDGAR files as they are served -> text -> sentences with offsets: where a corpus enters.

A file is a full SGML submission, one of its documents, or a bare HTML or text document.
`read` never guesses over an unreadable file: it raises a `FilingError` whose code is counted.
"""

import datetime
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import PurePosixPath
from typing import cast

import fsspec
import numpy as np
import pyarrow as pa

from raydistill.errors import FilingError, SetupError
from raydistill.markup import entities, html_text
from raydistill.sentences import clean_lines, sentences, unwrapped

SENTENCES = pa.schema(
    [
        pa.field("filing_id", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""One row a sentence; `start` and `end` are characters of `Filing.text`."""

_OTHER_FILES = """.json .jsonl .jpg .jpeg .gif .png .bmp .zip .pdf .xsd .xml .xlsx .xls .css .js
.csv .tsv .parquet .idx .md .py .yaml .yml .ipynb"""
SKIPPED_SUFFIXES = frozenset(_OTHER_FILES.split())
"""Files beside filings in a folder of EDGAR's that hold no document of words."""


@dataclass(frozen=True, slots=True)
class Filing:
    """One filing: who filed what and when, and its cleaned text, a paragraph a line."""

    filing_id: str
    cik: str | None
    company: str | None
    form: str | None
    filed_at: datetime.date | None
    item: tuple[str, ...]
    text: str


def find(path: str) -> dict[str, int]:
    """The filings under a folder, a file or any fsspec URL, sorted: names and sizes in bytes.

    Raises SetupError when there is nothing at `path` or its file system cannot be opened.
    """
    try:
        system, root = cast("tuple[fsspec.AbstractFileSystem, str]", fsspec.core.url_to_fs(path))
        if system.isfile(root):
            return {path: int(system.size(root) or 0)}
        there = system.isdir(root)
        found = cast("dict[str, dict[str, int]]", system.find(root, detail=True)) if there else None
    except (ImportError, ValueError, OSError) as problem:
        raise _no_source(path, str(problem)) from problem
    if found is None:
        raise _no_source(path, "nothing is there")
    local = "file" in ([system.protocol] if isinstance(system.protocol, str) else system.protocol)
    kept = sorted(name for name in found if _is_filing(name.removeprefix(root)))
    whole = {name: name if local else str(system.unstrip_protocol(name)) for name in kept}
    return {whole[name]: int(found[name].get("size") or 0) for name in kept}


def _no_source(path: str, problem: str) -> SetupError:
    return SetupError(
        f"no filings at {path!r}: {problem}",
        expected="a folder of EDGAR files, one file, or an fsspec URL",
        todo="set source.path=<folder>",
    )


def _is_filing(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and PurePosixPath(name.lower()).suffix not in SKIPPED_SUFFIXES


def open_bytes(name: str) -> bytes:
    """The content of one name that `find` gave, unpacked when it is a .gz.

    Raises FilingError `unreadable` when the file is gone, forbidden or a broken archive.
    """
    try:
        opened = cast("fsspec.core.OpenFile", fsspec.open(name, "rb", compression="infer"))
        with opened as file:
            return file.read()
    except (FileNotFoundError, PermissionError, gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise FilingError("unreadable", f"{name}: {problem}") from problem


# ---------------------------------------------------------------- one file -> Filing

_BINARY_STARTS = (b"%PDF", b"PK\x03\x04", b"GIF8", b"\xff\xd8\xff", b"\x89PNG", b"\x1f\x8b")
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\f\r") + b"\x7f"
_NO_WORDS = re.compile(r"\s*(?:<PDF>|<XML>|BEGIN)", re.IGNORECASE)
_DOCUMENT = re.compile(r"<DOCUMENT>[ \t]*\r?\n")
_DOCUMENT_TYPE = re.compile(r"<TYPE>([^\r\n<]*)", re.IGNORECASE)
_DOCUMENT_NAME = re.compile(r"<FILENAME>([^\r\n<]*)", re.IGNORECASE)
_HEADER_LINE = re.compile(r"^[ \t]*(?:<([A-Z-]+)>|([A-Z][A-Z ]+):)[ \t]*(\S[^\r\n]*)", re.MULTILINE)
_HEADER_NAMES = {
    "accession": ("ACCESSION NUMBER", "ACCESSION-NUMBER"),
    "form": ("CONFORMED SUBMISSION TYPE", "TYPE", "FORM TYPE", "FORM-TYPE"),
    "filed_at": ("FILED AS OF DATE", "FILING-DATE"),
    "company": ("COMPANY CONFORMED NAME", "CONFORMED-NAME"),
    "cik": ("CENTRAL INDEX KEY", "CIK"),
}
_ITEM_NAMES = ("ITEM INFORMATION", "ITEMS")
_ACCESSION = re.compile(r"(?<!\d)(\d{10})-(\d{2})-(\d{6})(?!\d)")
_FOLDER_ACCESSION = re.compile(r"(?<!\d)(\d{10})-?(\d{2})-?(\d{6})/")
_NAME_CIK = re.compile(r"(?:edgar/data/|^(?=\d{1,10}_))0*(\d{1,10})")
_NAME_FORM = re.compile(r"_(10-?K|10-?Q|8-?K|6-?K|20-?F|DEF ?14A|S-?[134])(?:-?(A))?(?=_)", re.I)
_TEXT_FORM = re.compile(
    r"^(?:FORM )?(10-K(?:405|SB)?|10-Q(?:SB)?|8-K|6-K|20-F|40-F|S-[134])(?:/(A))?$", re.I | re.M
)
_TEXT_COMPANY = re.compile(r"^(\S[^\n]{1,120})\n\(?exact name of (?:the )?registrant", re.I | re.M)
_XBRL_FACT = re.compile(
    r"name=[\"']dei:(EntityRegistrantName|EntityCentralIndexKey|DocumentType)[\"'][^<>]{0,2000}>"
    r"(?:<[^<>]{0,2000}>){0,50}([^<>]+)<"
)
_XBRL_NAMES = {
    "company": "EntityRegistrantName",
    "cik": "EntityCentralIndexKey",
    "form": "DocumentType",
}
# From a plain line break on, `re` skips quickly to the next; from a `^` it does not.
_TEXT_ITEM = re.compile(r"\n[Ii][Tt][Ee][Mm][Ss]?\s+(\d{1,2}(?:\.\d{2})?)(?!\d)")
_HTML = re.compile(r"<(?:html|body|div|p|td|br|font|pre)[\s/>]", re.IGNORECASE)
_HEAD_CHARS = 400_000


def read(path_or_name: str, data: bytes) -> Filing:
    """The filing in one file's bytes; the name only helps to tell accession, CIK and form.

    Raises FilingError: `empty`, `binary`, `no_text` (no document of words, as in an XML form).
    """
    raw = _decoded(data)
    name = path_or_name.replace("\\", "/")
    header, documents = _submission(raw)
    known = _header(header)
    if not known.keys() >= _XBRL_NAMES.keys():
        known = _facts(raw[:_HEAD_CHARS]) | known
    told = _known_part(name)
    named_cik, named_form = _NAME_CIK.search(told), _NAME_FORM.search(told)
    form = known.get("form") or (documents[0][0] if documents else None) or _form(named_form)
    bodies = _chosen(documents, form) if documents else iter([raw])
    text = "\n\n".join(filter(None, map(_document_text, bodies)))
    if not any(character.isalpha() for character in text[:10_000]):
        raise FilingError("no_text", f"{path_or_name} holds no document of words")
    form = form or _form(_TEXT_FORM.search(text[:5_000]))
    company = known.get("company") or _first(_TEXT_COMPANY.search(text[:10_000]))
    cik = known.get("cik") or _first(named_cik)
    return Filing(
        filing_id=_filing_id(name, known.get("accession")),
        cik=(cik or "").lstrip("0") or None,
        company=company.strip() if company else None,
        form=form.upper() if form else None,
        filed_at=_date(known.get("filed_at")),
        item=_items(header, text) if form and form.upper().startswith("8-K") else (),
        text=text,
    )


def _decoded(data: bytes) -> str:
    if not data.strip(b" \t\r\n\x00"):
        raise FilingError("empty")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", errors="replace").encode()
    clean = data.translate(None, _CONTROL)
    if data.startswith(_BINARY_STARTS) or len(data) - len(clean) > len(data) // 50:
        raise FilingError("binary", f"{len(data) - len(clean)} control bytes of {len(data)}")
    try:
        return clean.decode("utf-8-sig")
    except UnicodeDecodeError:  # EDGAR served Windows text for decades
        return clean.decode("cp1252", errors="replace")


def _submission(raw: str) -> tuple[str, list[tuple[str, str, str]]]:
    """The SGML header and each document as (type, file name, content); no documents if bare."""
    starts = list(_document_starts(raw))
    documents: list[tuple[str, str, str]] = []
    for start, limit in zip(starts, [*starts[1:], len(raw)], strict=False):
        text_at = raw.find("<TEXT>", start, min(start + 4_000, limit))
        head = raw[start : text_at if text_at >= 0 else min(start + 4_000, limit)]
        end = raw.find("</TEXT>", start, limit)
        body = raw[text_at + 6 if text_at >= 0 else start : end if end >= 0 else limit]
        kind, name = _first(_DOCUMENT_TYPE.search(head)), _first(_DOCUMENT_NAME.search(head))
        documents.append(((kind or "").strip().upper(), (name or "").strip().lower(), body))
    return (raw[: starts[0]] if starts else ""), documents


def _document_starts(raw: str) -> Iterator[int]:
    at = raw.find("<DOCUMENT>")
    while at >= 0:
        match = _DOCUMENT.match(raw, at)
        if match:
            yield match.end()
        at = raw.find("<DOCUMENT>", at + 1)


def _header(header: str) -> dict[str, str | None]:
    """The first value of each header field; co-registrants come later and are not read."""
    found: dict[str, str] = {}
    for tag, label, value in _HEADER_LINE.findall(header):
        found.setdefault(tag or label, value.strip())
    values = {
        field: next((found[name] for name in names if name in found), None)
        for field, names in _HEADER_NAMES.items()
    }
    return {field: value for field, value in values.items() if value}


def _facts(head: str) -> dict[str, str | None]:
    """The header fields that facts of inline XBRL state."""
    told = {key: unescape(value).strip() for key, value in _XBRL_FACT.findall(head)}
    return {field: told[fact] for field, fact in _XBRL_NAMES.items() if fact in told}


def _chosen(documents: list[tuple[str, str, str]], form: str | None) -> Iterator[str]:
    """The main document, and of current reports the EX-99 press releases."""
    main = (form or documents[0][0]).upper()
    current = main.startswith(("8-K", "6-K"))
    texts = [
        (kind, body)
        for kind, name, body in documents
        if _is_filing(name) and not _NO_WORDS.match(body)
    ]
    wanted = [
        body for kind, body in texts if kind == main or (current and kind.startswith("EX-99"))
    ]
    yield from wanted or [body for _, body in texts[:1]]


def _filing_id(name: str, accession: str | None) -> str:
    """The accession number; of one document out of a submission's folder, with its stem."""
    base = name.rsplit("/", 1)[-1]
    in_name = _ACCESSION.search(base)
    if accession or in_name:
        return accession or "-".join(cast("re.Match[str]", in_name).groups())
    stem = re.sub(r"(?i)\.(?:txt|html?|nc)(?:\.gz)?$", "", base)
    folder = _FOLDER_ACCESSION.search(name)
    return f"{'-'.join(folder.groups())}:{stem}" if folder else stem


def _items(header: str, text: str) -> tuple[str, ...]:
    """The 8-K items as numbers where the text heads them so, else as the header names them."""
    numbers = _TEXT_ITEM.findall(f"\n{text}")
    named = [value.strip() for tag, label, value in _HEADER_LINE.findall(header)
             if (tag or label) in _ITEM_NAMES]  # fmt: skip
    return tuple(dict.fromkeys(numbers or named))


def _known_part(name: str) -> str:
    return name if "edgar/data/" in name else name.rsplit("/", 1)[-1]


def _first(match: re.Match[str] | None) -> str | None:
    return match.group(1) if match else None


def _form(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    letters = re.sub(r"(?i)^(10|8|6|20|S|40)-?(?=[A-Z0-9])", r"\1-", match.group(1).upper())
    return letters + ("/A" if match.group(2) else "")


def _date(value: str | None) -> datetime.date | None:
    digits = (value or "")[:8]
    try:
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _document_text(body: str) -> str:
    """The clean text of one document, a paragraph a line."""
    if _HTML.search(body):
        return html_text(body)
    return clean_lines(unwrapped(entities(body.replace("\x0c", "<PAGE>"))))


def sentence_table(filing: Filing) -> pa.Table:
    """The sentences of one filing in order, with the schema SENTENCES."""
    spans = sentences(filing.text)
    text, name = filing.text, filing.filing_id
    columns = [
        pa.array([name] * len(spans), pa.string()),
        pa.array([f"{name}#{position}" for position in range(len(spans))], pa.string()),
        pa.array(np.arange(len(spans), dtype=np.int32)),
        pa.array([start for start, _ in spans], pa.int32()),
        pa.array([end for _, end in spans], pa.int32()),
        pa.array([text[start:end] for start, end in spans], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SENTENCES)
