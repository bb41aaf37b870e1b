"""The loops of trie.py over the bytes of texts, compiled by numba.

64 bytes at once become one bit each, whether they belong to a word. Where a word starts, its first
eight bytes are looked up in tables of hashes small enough for the innermost cache. The places where
a keyword may stand are gathered and looked up again by their first two words; what is left goes
byte by byte through the trie, which is exact. Of 8.3 M words in 53 MB of filings, for 499 keywords,
0.76 M are looked up again and 0.07 M walked: it is branches that cost, so the first loop has none
but its own.

Memory is given by addresses: numba counts references to arrays at every call, which took nine
tenths of the time. All compiled code is in this file: numba compiles again where the file changed
that holds a function, not where one that it calls has changed. What is compiled is kept beside this
file or, where that cannot be written, in the user's cache folder (`NUMBA_CACHE_DIR`), each part
written under another name and renamed, so processes that start at once do no harm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types

intrinsic: Any = extending.intrinsic

BLOCK = 64  # bytes that are read at once, of which the last eight are the next round's, too
STEP = 56
AHEAD = BLOCK  # how far behind the end of a text is read
FIRST = 8  # bytes of a keyword that are looked up
LONG = 15  # bytes that are looked up again
PLACES = 4096  # gathered until then
SPACES = np.uint64(0x2020202020202020)  # folds letters, and some signs: the trie is exact
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio: the upper bits are a hash
SECOND = np.uint64(0xC2B2AE3D27D4EB4F)  # a prime, for the second eight bytes
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
ONE = np.uint64(1)
DEAD, CLOSED, OPEN = 0, 1, 2  # nodes: none, the start of whole words, that of `*ware`
WORD_END, ANY_END = 1, 2  # what makes a node final
WHITE_SPACE = 1  # the symbol for a run of white space; 0 is a byte of no keyword


class Trie(NamedTuple):
    """Keywords as addresses of arrays, and numbers; tables are of hashes, a bit for each."""

    nodes: int  # the next node, by node and symbol
    symbols: int  # of each byte
    final: int  # of each node: WORD_END, ANY_END or both
    starts: int  # table of the first FIRST bytes, or of a whole first word that is shorter
    exact: int  # table of the first LONG bytes of what is in `starts`, up to its second word's end
    stems: int  # table of the first bytes of what else starts as a word
    firsts: int  # table of first words, where white space behind them lies within FIRST bytes
    anywhere: int  # table of the first bytes of what may start within a word, or with a sign
    letters: int  # where ranges of letters beyond ASCII start and end
    white: int  # the same of white space
    width: int  # of `nodes`
    shift: int  # what makes a hash as short as the tables need
    stem_mask: int  # how many bytes are in `stems`, as a mask; 0 for none
    anywhere_mask: int
    shortest: int  # letters of a first word
    letter_bounds: int  # how many there are
    white_bounds: int


def _compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled at its first call, or read from the cache."""
    try:
        return numba.njit(nogil=True, cache=True, forceinline=True)(function)
    except RuntimeError:  # neither this folder nor the user's can be written
        return numba.njit(nogil=True)(function)


def _loaded(kind: Any) -> Any:
    """A function of an address and an index: the number of this kind that is there."""

    @intrinsic
    def load(typing: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], kind.as_pointer())
            found = builder.load(builder.gep(pointer, [args[1]]), align=1)
            return found if kind.width == 64 else builder.zext(found, ir.IntType(64))

        return types.int64(types.int64, types.int64), code

    return load


_byte, _node, _long = _loaded(ir.IntType(8)), _loaded(ir.IntType(32)), _loaded(ir.IntType(64))


@intrinsic
def _put(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Writes a number of 64 bits at an address and index."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


def _bits(*ranges: str) -> Any:
    """A function of an address: a bit for each of 64 bytes there, whether it is in a range."""
    vector = ir.VectorType(ir.IntType(8), BLOCK)

    def all_(value: int) -> Any:
        return ir.Constant(vector, [value] * BLOCK)

    @intrinsic
    def bits(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found = builder.load(builder.inttoptr(args[0], vector.as_pointer()), align=1)
            inside = ir.Constant(ir.VectorType(ir.IntType(1), BLOCK), [False] * BLOCK)
            for low, high in ranges:
                above = builder.sub(found, all_(ord(low)))
                within = builder.icmp_unsigned("<=", above, all_(ord(high) - ord(low)))
                inside = builder.or_(inside, within)
            return builder.bitcast(inside, ir.IntType(64))

        return types.uint64(types.int64), code

    return bits


_word_bits = _bits("az", "AZ", "09", "__")
_space_bits = _bits("  ")
_odd_bits = _bits("\t\r", "\x80\xff")  # other white space of ASCII, and all that is beyond it


@intrinsic
def _zeros(typing: Any, bits: Any) -> Any:
    """How many bits are 0 before the first that is 1."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), code


@_compiled
def _hashed(key: Any, shift: int) -> Any:
    """A hash of as many bits as `shift` leaves of 64."""
    return key * FACTOR >> np.uint64(shift)


@_compiled
def _maybe(table: int, key: Any, shift: int) -> Any:
    """A number whose last bit is 1 where the key may be in the table."""
    number = _hashed(key, shift)
    return np.uint64(_long(table, number >> np.uint64(6))) >> (number & np.uint64(63))


@_compiled
def _within(bounds: int, count: int, code: int) -> bool:
    """Whether a code point lies in one of the ranges: between an even bound and an odd one."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if _long(bounds, middle) <= code:
            low = middle + 1
        else:
            high = middle
    return low & 1 == 1


@_compiled
def _character(at: int, stop: int) -> tuple[int, int]:
    """The code point at a byte beyond ASCII, and where the next one stands."""
    first = _byte(at, 0)
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if at + size > stop:  # not UTF-8
        return 0, stop
    code = first & (0x7F >> size)
    for i in range(1, size):
        code = code << 6 | _byte(at, i) & 0x3F
    return code, at + size


@_compiled
def _letter(trie: Trie, at: int, stop: int) -> bool:
    """Whether a word's character stands at `at`."""
    if at >= stop:
        return False
    byte = _byte(at, 0)
    if byte >= 128:
        return _within(trie.letters, trie.letter_bounds, _character(at, stop)[0])
    return 97 <= byte | 0x20 <= 122 or 48 <= byte <= 57 or byte == 95


@_compiled
def _letter_before(trie: Trie, start: int, at: int) -> bool:
    """Whether a word's character ends at `at`."""
    before = at - 1
    while before > start and _byte(before, 0) & 0xC0 == 0x80:
        before -= 1
    return before >= start and _letter(trie, before, at)


@_compiled
def _past_white(trie: Trie, at: int, stop: int) -> int:
    """Where the run of white space at `at` ends; `at` itself where there is none."""
    while at < stop:
        byte, after = _byte(at, 0), at + 1
        if byte >= 128:
            byte, after = _character(at, stop)
        if not _within(trie.white, trie.white_bounds, byte):
            break
        at = after
    return at


@_compiled
def _walked(trie: Trie, node: int, at: int, stop: int) -> bool:
    """Whether a keyword below a node stands at `at`."""
    while node != DEAD:
        final = _byte(trie.final, node)
        if final & ANY_END or (final and not _letter(trie, at, stop)):
            return True
        if at >= stop:
            return False
        symbol = _byte(trie.symbols, _byte(at, 0))
        node = _node(trie.nodes, node * trie.width + symbol)
        after = _past_white(trie, at, stop) if symbol == WHITE_SPACE and node else at + 1
        if after == at:
            return False
        at = after
    return False


@_compiled
def _words(at: int, stop: int) -> Any:
    """A bit for each of 64 bytes, whether it is a word's and before `stop`."""
    bits = _word_bits(at)
    return bits & ((ONE << np.uint64(stop - at)) - ONE) if stop - at < BLOCK else bits


@_compiled
def _maybe_exact(trie: Trie, at: int, size: Any) -> Any:
    """As `_maybe`, for up to LONG bytes, in the table of what keywords surely start with."""
    short = min(size, np.uint64(FIRST))
    key = (np.uint64(_long(at, 0)) | SPACES) & ALL >> (np.uint64(64) - np.uint64(8) * short)
    mask = (ONE << np.uint64(8) * (size - short)) - ONE
    more = (np.uint64(_long(at, 1)) | SPACES) & mask
    return _maybe(trie.exact, key * SECOND + more, trie.shift)


@_compiled
def _odd(at: int) -> Any:
    """Whether white space that may be more than a single space stands at `at`."""
    byte, after = _byte(at, 0), _byte(at, 1)
    odd_after = (after >= 128) | (after <= 32)
    return (byte >= 128) | (byte < 32) | (byte == 32) & odd_after


@_compiled
def _confirm(
    trie: Trie, body: int, offsets: int, found: Any, places: int, whose: int, count: int
) -> None:
    """Marks the rows where a keyword stands at a place; `whose` is twice the row, odd to walk."""
    kept = 0
    for i in range(count):
        at, row = _long(places, i), _long(whose, i)
        bits = _words(at, body + _long(offsets, (row >> 1) + 1))
        word = min(_zeros(~bits), np.uint64(LONG))
        second = _zeros(~(bits >> (word + ONE)))
        both = min(word + ONE + second, np.uint64(LONG))
        maybe = _maybe_exact(trie, at, np.uint64(FIRST)) | _maybe_exact(trie, at, word)
        maybe |= _maybe_exact(trie, at, both) | np.uint64(row)
        maybe |= np.uint64(_odd(at + np.int64(word)))
        _put(places, kept, at)
        _put(whose, kept, row >> 1)
        kept += np.int64(maybe & ONE)
    for i in range(kept):
        at, row = _long(places, i), _long(whose, i)
        start, stop = body + _long(offsets, row), body + _long(offsets, row + 1)
        if not found[row] and not _letter_before(trie, start, at):
            found[row] = _walked(trie, CLOSED, at, stop)


@_compiled
def _anywhere_found(trie: Trie, start: int, stop: int) -> bool:
    """Whether a text holds a keyword that may start within a word, or with a sign."""
    for at in range(start, stop):
        key = (np.uint64(_long(at, 0)) | SPACES) & np.uint64(trie.anywhere_mask)
        if _maybe(trie.anywhere, key, trie.shift) & ONE and (
            _walked(trie, OPEN, at, stop)
            or (not _letter_before(trie, start, at) and _walked(trie, CLOSED, at, stop))
        ):
            return True
    return False


@_compiled
def rows(trie: Trie, body: int, offsets: int, found: Any) -> None:
    """Marks the texts that hold a keyword; AHEAD bytes behind the last one are read, too."""
    gathered = np.empty(2 * PLACES, np.int64)
    places = gathered.ctypes.data
    whose = places + 8 * PLACES
    count = 0
    for row in range(len(found)):
        start, stop = body + _long(offsets, row), body + _long(offsets, row + 1)
        inside = np.uint64(0)  # 1 where the byte before is a word's
        for block in range(start, stop, STEP):
            if count > PLACES - BLOCK:
                _confirm(trie, body, offsets, found, places, whose, count)
                count = 0
            bits = _words(block, stop)
            begins = bits & ~(bits << ONE | inside) & (ALL >> np.uint64(BLOCK - STEP))
            inside = bits >> np.uint64(STEP - 1) & ONE
            for more in range(1, trie.shortest):
                begins &= bits >> np.uint64(more)
            spaces, odd = _space_bits(block), _odd_bits(block)
            odd |= spaces & (spaces | odd) >> ONE
            while begins:
                first = _zeros(begins)
                begins &= begins - ONE
                size = min(_zeros(~(bits >> first)), np.uint64(FIRST))
                at = block + np.int64(first)
                key = np.uint64(_long(at, 0)) | SPACES
                word = key & ALL >> (np.uint64(64) - np.uint64(8) * size)
                maybe = _maybe(trie.starts, key, trie.shift) | _maybe(trie.starts, word, trie.shift)
                other = np.uint64(0)
                if trie.stem_mask != 0:
                    other = _maybe(trie.stems, key & np.uint64(trie.stem_mask), trie.shift)
                if odd >> (first + size) & ONE:
                    other |= _maybe(trie.firsts, word, trie.shift)
                _put(places, count, at)
                _put(whose, count, row << 1 | np.int64(other & ONE))
                count += np.int64((maybe | other) & ONE)
    _confirm(trie, body, offsets, found, places, whose, count)
    if trie.anywhere_mask != 0:
        for row in range(len(found)):
            start, stop = body + _long(offsets, row), body + _long(offsets, row + 1)
            found[row] = found[row] or _anywhere_found(trie, start, stop)
