"""Plain text: hard-wrapped lines become paragraphs, paragraphs become sentences with offsets.

A line of the text is a paragraph, a heading or a table row: a sentence never crosses a line.
Everything here is linear in its input: a megabyte without a full stop costs a few milliseconds.
"""

import re
from dataclasses import dataclass, replace
from itertools import groupby

MAX_CHARS = 2000
"""A longer sentence is cut at a space: legal lists without a full stop outgrow any student."""

# It begins with a plain set of characters because only then does `re` skip quickly to the next.
_END = re.compile(
    r"""[\n.!?]
    (?:(?<=\n)                                          # a line ends,
    |(?<=[^\s.!?].)[.!?]*["'”’»)\]]*(?:\(\d{1,2}\))?    # or a mark, its quotes and a footnote,
    (?=\s+(?:[•◦▪●☐☒]|\([0-9A-Za-z.]{1,5}\)\s?[A-Z]    # before what may begin one
    |["'“‘«(\[]*(?:[^\sa-z"'“‘«(\[–—|-]|[a-z][A-Z]))))
    """,
    re.VERBOSE,
)
_NEXT = re.compile(r"\s+[\"'“‘«(\[]*([^\s.,;:]+)")
_ENUMERATOR = re.compile(
    r"\W*(?:(?:item|items|note|section|sec\.?|article|part|exhibit|schedule|rule|annex|appendix"
    r"|chapter|step|question)\s+)?(?:\(?[0-9]{1,3}(?:[.\-]?[0-9A-Z]{1,3})*\)?(?:\([a-z0-9]\))*|\(?[A-Za-z]\)?"
    r"|\(?[ivxlIVXL]{1,5}\)?)\.",
    re.IGNORECASE,
)
_ENUMERATOR_CHARS = 24
_WORD_CHARS = 24
"""No abbreviation is longer; looking no further back keeps the cost of each full stop constant."""
_ITEM_TITLE = re.compile(r"(?i)\bitem\s+\d{1,2}(?:\.\d\d)?[A-C]?$")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALWAYS_INSIDE = _words("v vs viz cf e.g i.e c.f approx")
"""These never close a sentence."""

_TITLES = _words(
    """mr mrs ms dr prof rev hon messrs mme gen col lt capt cmdr sgt maj adm gov sen rep pres supt
    sec secs art arts fig figs para pars ch ca est incl excl resp ed eds vol vols pp p tel fax ext
    attn acct adj aff govt intl natl assn assoc mfg mt ft st op reg"""
)
"""These stand before what they belong to; written small, some are words (`state of the art`)."""

_SELDOM = _words(
    """inc corp co cos ltd llc llp lp plc bros jr sr etc esq no nos dept div ave blvd rd hwy bldg
    ste al jan feb mar apr jun jul aug sept oct nov dec calif fla
    mich minn conn ariz colo tex okla tenn wis"""
)
"""These may close a sentence: like initials and `U.S.`, only before a word that often opens one."""

_OPENERS = _words(
    """the a an this that these those we our us it its he she they his her their i you your there
    in on at as if for from to by with under during after before since when while although because
    upon pursuant such each all any no not both some certain other others one however moreover
    furthermore additionally accordingly therefore thus then also further finally based subject
    except unless until following effective mr mrs ms dr what who which where how see about
    item"""
)

_SPECIAL = _ALWAYS_INSIDE | _TITLES | _SELDOM

_INVISIBLE = re.compile("[\x80-\x9f\u00ad\u200b-\u200f\u2060\ufeff]")
BREAK = "\x1c"
"""Begins a line that a bare line break set apart; it may go on with the one before."""

Span = tuple[int, int]
"""First and one-past-last character of a sentence."""


def sentences(text: str, max_chars: int = MAX_CHARS) -> list[Span]:
    """The sentences of `text` as character offsets: ordered, apart, stripped, never empty.

    Together they hold every character that is not white space. One longer than `max_chars`
    is cut at the last space before that many characters.
    """
    if max_chars < 1:
        raise ValueError("max_chars must be at least 1")
    spans: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        mark, end = match.span()
        if text[mark] == "." and not _ends(text, start, mark, end):
            continue
        _append(spans, text, start, end, max_chars)
        start = end
    _append(spans, text, start, len(text), max_chars)
    return spans


def _append(spans: list[Span], text: str, start: int, end: int, max_chars: int) -> None:
    piece = text[start:end]
    end = start + len(piece.rstrip())
    start += len(piece) - len(piece.lstrip())
    while end - start > max_chars:
        cut = text.rfind(" ", start + 1, start + max_chars + 1)
        cut = cut if cut > start else start + max_chars
        head = text[start:cut].rstrip()
        spans.append((start, start + len(head)))
        while cut < end and text[cut].isspace():
            cut += 1
        start = cut
    if start < end:
        spans.append((start, end))


def _ends(text: str, start: int, mark: int, end: int) -> bool:
    """Whether the full stop at `mark` closes a sentence that began at `start`."""
    if end - start <= _ENUMERATOR_CHARS and _ENUMERATOR.fullmatch(text[start:end].strip()):
        return False
    word = _word_before(text, start, mark)
    lowered = word.lower()
    if len(word) > 1 and word.isalpha() and lowered not in _SPECIAL:
        return True
    if lowered in _ALWAYS_INSIDE or (lowered in _TITLES and word.istitle()):
        return False
    following = _NEXT.match(text, end)
    first = following.group(1) if following else ""
    if word == "SEC":  # the Commission, or a section in a heading
        return not first[:1].isdigit()
    short = lowered in _SELDOM or lowered in _TITLES or (len(word) == 1 and word.isalpha())
    dotted = "." in word and all(part.isalpha() and len(part) <= 2 for part in word.split("."))
    item = word[:1].isdigit() and _ITEM_TITLE.search(text, max(start, mark - _WORD_CHARS), mark)
    return first.lower() in _OPENERS if short or dotted or item else True


def _word_before(text: str, start: int, mark: int) -> str:
    """The word that a full stop follows, without brackets, quotes and a prefix such as `non-`."""
    low = max(start, mark - _WORD_CHARS)
    word = text[max(text.rfind(" ", low, mark) + 1, low) : mark]
    if word.isalpha():
        return word
    word = word.rpartition(")")[2].rpartition("]")[2].lstrip("\"'“‘«([|—–/\n\t ")
    prefix, _, rest = word.rpartition("-")
    return rest if prefix.isalpha() and "." in rest else word


_GAP = re.compile(r" {4,}")
# `(?:- )?[-_=]{4,}`, said so that `re` skips to the first of its characters.
_RULE = re.compile(r"[-_=](?:(?<=-) [-_=]{4,}|[-_=]{3,})")
_TABLE_GAP = re.compile(r" {2,}")
_HANGING = _words("the a an of and or to in as by with for from on at that which its their our")
"""No line ends for good in one of these."""

_MARKER = re.compile(
    r"(?i)(?:[•●▪■◦·*o§☐☒–—-]|\(?[0-9]{1,3}[.)]|\([a-z0-9]{1,4}\)|[a-z]\.?|[ivx]{1,5}[.)]"
    r"|(?:item|section|exhibit|note|article|part)s?\s+[0-9ivx]+[a-z]?(?:\.\d+)?[.:)]?)"
)
_BULLET = re.compile(r"(?i)[•●▪■◦·*§☐☒¨]|(?:o|-|–|—|--)\s|\|_\||\[\s?x?\s?\]")
_LIST_START = re.compile(
    _BULLET.pattern + r"|\(?[0-9]{1,2}[.)]\s|\([a-z0-9]{1,4}\)"
    r"|(?:[a-z]|[ivx]{1,5})[.)]\s|(?:item|exhibit|section|article|note)\s+[0-9]"
)
# No list begins with these letters, but for a single one of them: of `item`, `ii.`, `o` and so on.
_NO_LIST = frozenset("bcdfghjklmpqrtuwyzBCDFGHJKLMPQRTUWYZ")
_PAGE_TAG = re.compile(r"<PAGE>[ \t]*(?:[-\w]{1,6}[ \t]*(?=\n))?", re.IGNORECASE)
_TABLE_TAG = re.compile(r"</?(?:TABLE|CAPTION|S|C|FN|F\d+|BTB)>", re.IGNORECASE)
_PAGE_LINE = re.compile(
    r"(?i)[\W_]*|[\s\-–—_=*|]*(?:(?:(?:page|p\.)\s*)?(?:[A-Z]{1,2}-)?(?:\d{1,4}|[ivx]{1,5})"
    r"(?:\s*(?:of|/)\s*\d{1,4})?|(?:back to |return to )?(?:table of contents|top)"
    r"|index to (?:consolidated )?financial statements"
    r"|[^|]{2,60}\|\s*(?:\d{4}\s+)?form\s+10-[kq]\S*\s*\|\s*\d{1,3}"
    r"|[^|]{2,80}\|\s*[A-Z]{1,2}-\d{1,3})[\s\-–—_=*|]*"
)
_NO_NUMBER = frozenset("acdefghijklmopqrstuvwyzACDEFGHIJKLMOPQRSTUVWYZ")
"""No number begins with these, nor with a word: `n/a` does."""
_NUMBER = re.compile(r"(?i)[\s$€£¥()\[\],.%\d—–\-*†+/x:]*(?:n/?a|n/?m|bps|nil)?[\s)%*]*")


_PAGE_CHARS = 60
_RULED = "-–—_=*| "
# No page mark begins with these letters, but for the short name of a part: `F-3`.
_NO_PAGE_MARK = frozenset("acdefghjklmnoqsuwyzACDEFGHJKLMNOQSUWYZ")


def _is_page_mark(line: str) -> bool:
    """Whether a line holds no more than a page number, a rule, a bullet or a contents link."""
    if "|" not in line:  # what no page mark is, without the pattern: it took a fifth of the time
        if line[:1] in _NO_PAGE_MARK and "-" not in line[1:3]:
            return False
        if (
            len(line) > _PAGE_CHARS
            and line[0].isalnum()
            and line[-1] not in _RULED
            and "   " not in line
            and "\t" not in line
        ):
            return False
    return _PAGE_LINE.fullmatch(line) is not None


def row_text(cells: list[str]) -> str:
    """One table row as one line: cells joined by ` | `, a bullet or an item number by a space."""
    kept: list[str] = []
    glue = False
    for cell in cells:
        if not cell:
            continue
        if kept and (glue or cell in {")", "%", ")%", "*"}):
            kept[-1] += cell
        else:
            kept.append(cell)
        glue = cell[-1] in "$€£(" and len(cell) <= 3
    if len(kept) > 1 and _MARKER.fullmatch(kept[0]):
        kept[:2] = [f"{kept[0]} {kept[1]}"]
    return " | ".join(kept)


def is_numeric(rows: list[str]) -> bool:
    """Whether most cells of a table are numbers, its first column left out: that one names."""
    cells = [cell for row in rows for cell in row.split(" | ")[1:]]
    numbers = sum(
        cell[:1] not in _NO_NUMBER and _NUMBER.fullmatch(cell) is not None for cell in cells
    )
    return 2 * numbers > len(cells)


def _continues(before: str, after: str) -> bool:
    """Whether a line that was broken off goes on in the next."""
    if not before or before[-1] in ".!?:;|":
        return False
    return after[:1].islower() or before.rsplit(" ", 1)[-1] in _HANGING


@dataclass(slots=True)
class _Line:
    """One physical line of hard-wrapped text and what stood before it."""

    text: str
    indent: int
    edge: int
    cells: list[str]
    last_column: int
    blank: int = 0
    broken: bool = False
    table: int = 0


def unwrapped(text: str) -> str:
    """Typewriter text with each paragraph on a line of its own.

    Page marks, rules and tables of numbers are dropped; the columns of other tables are joined
    by ` | `.
    """
    lines = _physical_lines(text)
    width = _wrap_width(lines)
    out: list[str] = []
    for table, group in groupby(lines, key=lambda line: line.table):
        rows: list[list[str]] = []
        previous: _Line | None = None
        for line in group:
            if previous is not None and _joins(previous, line, width):
                last = rows[-1][-1]
                hyphen = last[-1] == "-" and last[-2:-1].isalpha() and line.text[0].islower()
                rows[-1].append(("" if hyphen else " ") + row_text(line.cells))
                if _aligned(previous, line):  # a cell goes on: the row stays open at its column
                    line = replace(
                        line,
                        indent=previous.indent,
                        cells=previous.cells,
                        last_column=previous.last_column,
                    )
            else:
                rows.append([row_text(line.cells)])
            previous = line
        whole = ["".join(pieces) for pieces in rows]
        out.extend([] if table and is_numeric(whole) else whole)
    return "\n".join(line for line in out if line)


def _physical_lines(text: str) -> list[_Line]:
    lines: list[_Line] = []
    blank, broken, table, tables = 0, False, 0, 0
    for raw in _PAGE_TAG.sub("\n\f\n", text.replace("\r", "")).split("\n"):
        if "<" in raw:
            upper = raw.upper()
            opens = "<TABLE" in upper
            tables += opens
            table = tables if opens else 0 if "</TABLE" in upper else table
            raw = _TABLE_TAG.sub("", raw)
        raw = _RULE.sub(lambda match: " " * len(match.group()), raw)
        stripped = raw.strip()
        if not stripped and "\f" not in raw:
            blank += 1
        elif _is_page_mark(stripped) and (blank or broken or not stripped.isdigit()):
            broken = True  # a number right below a line may be its last word: "October 24,/2008"
        else:
            lines.append(_line(raw.expandtabs().rstrip(), blank, broken, table))
            blank, broken = 0, False
    return lines


def _line(raw: str, blank: int, broken: bool, table: int) -> _Line:
    body = raw.lstrip()
    indent = len(raw) - len(body)
    if ("  " if table else "    ") not in body:
        text = one_line(body)
        return _Line(text, indent, len(raw), [text], indent, blank, broken, table)
    cells = (_TABLE_GAP if table else _GAP).split(body)
    last_column = len(raw) - len(cells[-1])
    cells = [one_line(cell) for cell in cells]
    if len(cells) == 2 and _MARKER.fullmatch(cells[0]):
        cells = [" ".join(cells)]
    return _Line(one_line(body), indent, len(raw), cells, last_column, blank, broken, table)


def _wrap_width(lines: list[_Line]) -> int:
    """The column at which most full lines end."""
    edges = sorted(line.edge for line in lines if len(line.cells) == 1 and line.edge > 50)
    return min(edges[int(len(edges) * 0.9)], 100) if edges else 72


def _aligned(previous: _Line, line: _Line) -> bool:
    """Whether `line` stands below the last cell of a row and goes on with it."""
    below = line.indent > 4 and abs(line.indent - previous.last_column) <= 2
    return below and previous.last_column > previous.indent and line.blank == 0


def _starts_list(text: str) -> bool:
    """Whether a bullet, a number or a letter of a list begins the line."""
    prose = text[:1] in _NO_LIST and text[1:2] not in ".)"
    return not prose and _LIST_START.match(text) is not None


def _joins(previous: _Line, line: _Line, width: int) -> bool:
    """Whether `line` goes on with what `previous` began."""
    if len(line.cells) > 1:
        return False
    if _aligned(previous, line):
        return True
    if len(previous.cells) > 1:
        return False
    first_word = line.text.partition(" ")[0]
    full = previous.edge + 1 + len(first_word) > width - 10
    ended = previous.text[-1] in ".!?:;"
    loose = ended or not full or previous.text.endswith((",", " and", " or"))
    if line.table or (_starts_list(line.text) and (loose or _BULLET.match(line.text))):
        return False
    if previous.text.isupper() != line.text.isupper() and not (full and line.edge < width - 20):
        return False
    if line.blank == 0 and not line.broken:
        if _continues(previous.text, line.text):
            return True
        indented = line.indent > previous.indent + 2 and previous.indent < 20
        indented = indented and not _starts_list(previous.text)
        long = not ended and len(previous.text) > 0.6 * width and line.indent == previous.indent
        return (full or long) and not indented
    if _continues(previous.text, line.text):
        return line.broken or previous.edge >= 50
    # Double-spaced text: a full line, one empty line, and on at the same indent.
    doubled = line.blank == 1 and not line.broken and line.indent == previous.indent
    return doubled and full and not ended and line.edge >= 20 and not previous.text.isupper()


def one_line(text: str) -> str:
    """The text stripped, and each run of white space in it as one space."""
    line = text.strip()
    if line.isprintable() and "  " not in line:  # no other white space is printable
        return line
    return " ".join(line.split())


def clean_lines(text: str) -> str:
    """Lines without page marks and needless space; one broken off by a page or a <br> goes on."""
    out: list[list[str]] = []
    broken = False
    for raw in text.split("\n"):
        if not raw or raw.isspace():  # most are, where tags were
            continue
        visible = raw if raw.isascii() else _INVISIBLE.sub("", raw)
        line = one_line(visible)
        if not line:
            continue
        if _is_page_mark(line):
            broken = True
            continue
        if (broken or visible.startswith(BREAK)) and out and _continues(out[-1][-1], line):
            out[-1].append(line)
        else:
            out.append([line])
        broken = False
    return "\n".join(" ".join(pieces) for pieces in out)
