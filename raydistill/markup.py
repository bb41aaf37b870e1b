"""HTML as filers write it -> lines of text: a parser mends and prunes, one split does the rest.

Nine bytes in ten are markup. Attributes and inline tags go before the parser sees them, so that
everything after it works on a third of the page; each distinct tag is looked at once.
"""

import re
from itertools import accumulate, repeat

from selectolax.lexbor import LexborHTMLParser, LexborNode

from raydistill.sentences import BREAK, clean_lines, is_numeric, one_line, row_text, unwrapped

_ROW, _CELL, _TABLE, _BREAK = "\x1e", "\x1f", "\x1d", "\n" + BREAK
_BLOCKS = """address article aside blockquote body caption center dd div dl dt fieldset figure
footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol option p page section select tbody
tfoot thead ul"""
_MARKS = (
    {slash + tag: "\n" for tag in _BLOCKS.split() for slash in ("", "/")}
    | {"br": _BREAK, "tr": _ROW, "/tr": _ROW, "/td": _CELL, "/th": _CELL}
    | {"table": _TABLE, "/table": _TABLE}
)
"""What a tag turns into; others into nothing."""

_FORMATTING_NAMES = "font b i u em strong small big tt strike s nobr code a"
_FORMATTING = {slash + tag for tag in _FORMATTING_NAMES.split() for slash in ("", "/")}
_SPANS = ("span", "/span")
_HEADERS = ("ix:header", "/ix:header")
_WITHOUT_CONTENT = ("title", "script", "style", "textarea", "iframe")
_EACH_TAG = re.compile("(<[^>]*>)")
_NAME = re.compile(r"<(/?[a-zA-Z][\w:.-]*)(?=[\s/>])", re.ASCII)
_EMPTY_CELLS = (("<td></td>", ""), ("<td>&nbsp;</td>", " "), ("<td>&#160;</td>", " "))
"""A third of the cells: of the columns of spaces and of currency signs beside figures."""
_HIDES = re.compile("display: ?none")
_NESTING = re.compile(
    r"<(/?)(?:div|ul|ol|li|dl|blockquote|center|section|pre|article|main|nav|fieldset|header|footer"
    r"|aside|DIV|UL|OL|LI|DL|BLOCKQUOTE|CENTER|PRE)(?=[\s>])"
)
_MAX_DEPTH = 2_000
_DROPPED = (
    "head,script,style,title,iframe,noframes,noembed,template,textarea,xmp,plaintext,ix\\:header,"
    '[style*="display:none" i],[style*="display: none" i]'
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PRE = re.compile(r"<pre(?:\s[^>]*)?>|</pre>")
_TAG = re.compile(r"<(/?[a-z!][^\s<>/]*)[^<>\"]*(?:\"[^\"]*\"[^<>\"]*)*>")
_CONTROL_ENTITY = re.compile(r"&#(?:0*(?:[12]?[0-9]|3[01])|[xX]0*1?[0-9a-fA-F])(?![0-9a-fA-F]);?")
_LONG_CELL_CHARS = 300


def html_text(html: str) -> str:
    """The lines of a page: its paragraphs, headings, and rows of tables that are not of numbers."""
    slim = _shallow(_slim(html))
    tree = parsed(_CONTROL_ENTITY.sub(" ", slim) if "&#" in slim else slim)
    dropped: dict[int, LexborNode] = {node.mem_id: node for node in tree.css(_DROPPED)}
    for node in reversed(dropped.values()):  # children first: a node dies with its parent
        node.decompose()
    mended = tree.html or ""
    mended = _COMMENT.sub("", mended) if "<!--" in mended else mended
    parts = _PRE.split(mended) if "<pre" in mended else [mended]
    flows = (
        clean_lines(unwrapped(entities(_TAG.sub("", part)))) if odd else _flow_text(part)
        for odd, part in zip([False, True] * len(parts), parts, strict=False)
    )
    return "\n".join(flow for flow in flows if flow)


def parsed(html: str) -> LexborHTMLParser:
    """The tree of a page; to parse alone is what any way through HTML costs at least."""
    return LexborHTMLParser(html)


def entities(text: str) -> str:
    """Text with its characters instead of the entities that every page has."""
    if "&" not in text:
        return text
    for entity, character in (("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"')):
        text = text.replace(entity, character)
    return text.replace("&amp;", "&")


class _Tags(dict[str, str]):
    """What the parser gets for each tag: blocks bare, what is inline not at all.

    Inline tags carry no text, and an HTML5 parser repeats unclosed <font>s in each following
    paragraph: 137 kB of such a page grew to 171 MB in 15 s. A kind of them of which one hides its
    content is `kept`; formatting then becomes <span>, which is not repeated.
    """

    def __init__(self, kept: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.kept = kept
        self.hiding: set[str] = set()

    def __missing__(self, tag: str) -> str:
        before = tag.rfind("<")
        if before:  # a `<` of the text, as in `a < b <p>`
            made = self[tag[before:]]
            # Where the tag goes, the `<` must not become the beginning of one.
            made = tag[:before] + made if made else tag[:before].replace("<", "&lt;")
        else:
            match = _NAME.match(tag)
            made = tag if match is None or tag.endswith("-->") else self._bare(tag, match[1])
        self[tag] = made
        return made

    def _bare(self, tag: str, written: str) -> str:
        if written in _WITHOUT_CONTENT and tag.endswith("/>"):
            return ""  # XHTML: to an HTML parser they would hold the rest of the page
        name, lowered = written.lower(), tag.lower()
        hides = "display" in lowered and _HIDES.search(lowered) is not None
        if name in _FORMATTING:
            if hides:
                self.hiding |= {"formatting", "inline"}
            if "formatting" not in self.kept:
                return ""
            name = "/span" if name[0] == "/" else "span"
        # With an odd quote, or quotes in quotes, this `>` may stand inside a value.
        whole = tag.count('"') % 2 == 0 and "'" not in tag
        if name in _SPANS or (":" in name and name not in _HEADERS):
            if hides:
                self.hiding.add("inline")
            if whole and "inline" not in self.kept:
                return ""
        return f"<{name}>" if whole and not hides else f"<{name}{tag[1 + len(written) :]}"


def _slim(html: str) -> str:
    """HTML without attributes, inline tags and empty cells; what hides its content stays."""
    end = html.rfind(">") + 1  # behind it each `<` would look for one up to the end
    pieces = _EACH_TAG.split(html[:end])
    written = pieces[1::2]
    tags = _Tags()
    pieces[1::2] = map(tags.__getitem__, written)
    if tags.hiding:
        pieces[1::2] = map(_Tags(frozenset(tags.hiding)).__getitem__, written)
    slim = "".join(pieces) + html[end:]
    for cell, space in _EMPTY_CELLS:
        slim = slim.replace(cell, space)
    return slim


def _shallow(html: str) -> str:
    """The HTML, or flat where it nests absurdly: 100,000 open <div>s cost the parser 36 s."""
    if html.count("<") < 2 * _MAX_DEPTH:
        return html
    steps = accumulate(-1 if slash else 1 for slash in _NESTING.findall(html))
    return html if max(steps, default=0) < _MAX_DEPTH else _NESTING.sub("<br", html)


def _flow_text(html: str) -> str:
    pieces = _TAG.split(html.replace("\n", " "))
    pieces[1::2] = map(_MARKS.get, pieces[1::2], repeat(""))
    runs = entities("".join(pieces)).split(_TABLE)
    return clean_lines("\n".join(_rows(run) if _CELL in run else run for run in runs))


def _rows(run: str) -> str:
    """A table as lines: a row a line; a cell that stands alone or is long keeps its paragraphs."""
    rows: list[str] = []
    numeric: list[str] = []
    for row in run.split(_ROW):
        cells = [cell for cell in row.split(_CELL) if cell and not cell.isspace()]
        if len(cells) == 1:
            rows.append(cells[0])
        elif len(row) > _LONG_CELL_CHARS and any(
            len(cell) > _LONG_CELL_CHARS and "\n" in cell.strip() for cell in cells
        ):
            rows.extend(cells)
        elif cells:
            line = row_text([one_line(cell) for cell in cells])
            rows.append(line)
            numeric.append(line)
    if is_numeric(numeric):
        figures = set(numeric)
        rows = [row for row in rows if row not in figures and len(row) > _LONG_CELL_CHARS // 4]
    return "\n".join(rows)
