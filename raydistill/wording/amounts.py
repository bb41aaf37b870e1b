"""Amounts of money as people write them: "$2 billion", "48.5 MGBP", "five million yen", "12-cent".

A reading is a number and the ISO 4217 code of its currency. A bare dollar is taken as USD, a pound
as GBP, a rupee as INR, cents and pence as hundredths of these. A franc without a country names no
one currency and is not read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

CURRENCIES = (
    *("USD", "EUR", "GBP", "JPY", "CNY", "CHF", "CAD", "AUD", "NZD", "HKD", "SGD", "INR", "MXN"),
    *("BRL", "KRW", "SEK", "NOK", "DKK", "RUB", "ZAR", "TRY", "ILS", "PLN", "THB", "IDR", "MYR"),
    *("PHP", "TWD", "SAR", "AED", "EGP", "QAR", "KWD", "LBP", "BGN", "UAH", "MNT", "LKR", "LAK"),
    *("GEL", "VND", "PKR", "BDT", "CLP", "COP", "ARS", "PEN", "CZK", "HUF", "RON", "BTC"),
)
_SYMBOLS = {
    "$": "USD", "us$": "USD", "u.s.$": "USD", "u.s$": "USD", "usd$": "USD", "c$": "CAD",
    "ca$": "CAD", "cad$": "CAD", "a$": "AUD", "au$": "AUD", "aud$": "AUD", "nz$": "NZD",
    "nzd$": "NZD", "hk$": "HKD", "s$": "SGD", "mex$": "MXN", "mxn$": "MXN", "r$": "BRL",
    "£": "GBP", "€": "EUR", "¥": "JPY", "₹": "INR", "元": "CNY", "₩": "KRW", "₭": "LAK",
    "₾": "GEL", "₽": "RUB", "₺": "TRY", "₪": "ILS", "฿": "THB", "₫": "VND", "rs.": "INR",
    "rs": "INR", "rm": "MYR", "ரூ": "LKR",
}  # fmt: skip
_NAMES = {
    "dollar": "USD", "buck": "USD", "us dollar": "USD", "u.s. dollar": "USD",
    "united states dollar": "USD", "american dollar": "USD", "canadian dollar": "CAD",
    "australian dollar": "AUD", "new zealand dollar": "NZD", "hong kong dollar": "HKD",
    "singapore dollar": "SGD", "euro": "EUR", "pound": "GBP", "pound sterling": "GBP",
    "british pound": "GBP", "sterling": "GBP", "yen": "JPY", "japanese yen": "JPY",
    "yuan": "CNY", "chinese yuan": "CNY", "renminbi": "CNY", "rmb": "CNY", "kuai": "CNY",
    "swiss franc": "CHF", "rupee": "INR", "indian rupee": "INR", "mexican peso": "MXN",
    "brazilian real": "BRL", "won": "KRW", "south korean won": "KRW", "swedish krona": "SEK",
    "swedish kronor": "SEK", "norwegian krone": "NOK", "danish krone": "DKK", "ruble": "RUB",
    "rouble": "RUB", "rand": "ZAR", "turkish lira": "TRY", "shekel": "ILS", "zloty": "PLN",
    "baht": "THB", "rupiah": "IDR", "ringgit": "MYR", "tugrik": "MNT", "bitcoin": "BTC",
    "saudi riyal": "SAR", "egyptian pound": "EGP", "kuwaiti dinar": "KWD",
}  # fmt: skip
_MINOR = {"cent": "USD", "pence": "GBP", "penny": "GBP", "pennies": "GBP"}
_SCALES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "k": 10**3, "m": 10**6, "mn": 10**6, "mm": 10**6, "mln": 10**6, "bn": 10**9, "b": 10**9,
    "lakh": 10**5, "crore": 10**7, "lakh crore": 10**12,
}  # fmt: skip
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: at for at, word in enumerate(_ONES)} | {
    word: 10 * at for at, word in enumerate(_TENS, 2)
}


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_WORD = _any(_WORDS)
_SIGN = "|".join(
    # "c $ 5" is Canadian, but "a $5 note" has an article.
    re.escape(sign).replace(r"\$", r"\$" if sign in ("a$", "s$", "r$") else r" ?\$")
    for sign in sorted(_SYMBOLS, key=len, reverse=True)
)
_CODE = f"(?:{_any(CURRENCIES)})"
_NUMBER = (
    rf"(?:\d[\d,]*(?:\.\d+)?|(?:(?:{_WORD}|half|hundred|a|and)[ -]+)*(?:{_WORD}|half|hundred))"
)
_SCALED = rf"(?P<number>{_NUMBER})(?:[ -]?(?P<scale>{_any(_SCALES)})(?![a-z]))?"
_AMOUNT = re.compile(
    rf"(?<![\w.,])(?P<before>{_CODE}|{_SIGN})? ?(?P<core>{_SCALED})"
    rf"(?(before)|(?:[ -]?(?P<after>[MBK]?{_CODE}(?![a-z])|[$£€¥₹元₩₭₾]|ரூ"
    rf"|(?:{_any(_NAMES)})(?:s|es)?(?![a-z])|(?:{_any(_MINOR)})s?(?![a-z])))?)"
    rf"(?:,? (?:and )?(?P<minor>{_NUMBER}) ?(?:c|cents?|pence|pennies)(?![a-z]))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in a text: its characters, those of its number alone, and what it says."""

    start: int
    end: int
    core: tuple[int, int]
    number: str
    currency: str | None


def plain(number: Decimal) -> str:
    """A number as its shortest plain text."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(words: str) -> Decimal | None:
    """The number that digits or number words say: "1,015", "twenty-five", "half"; or None."""
    written = words.strip().casefold()
    try:
        return Decimal(written.replace(",", ""))
    except InvalidOperation:
        pass
    if written in ("half", "half a"):
        return Decimal("0.5")
    total, seen = 0, False
    for word in re.split(r"[\s-]+", written):
        if word == "hundred":
            total = max(total, 1) * 100
        elif word in _WORDS:
            total += _WORDS[word]
        elif word not in ("and", "a"):
            return None
        seen = seen or word in _WORDS or word == "hundred"
    return Decimal(total) if seen else None


@lru_cache(maxsize=1 << 12)
def found(text: str) -> tuple[Amount, ...]:
    """Every number of a text that may be an amount, with its currency where one is said."""
    out: list[Amount] = []
    for match in _AMOUNT.finditer(text):
        value = number(match["number"])
        if value is None:
            continue
        code = _currency(match["before"])
        after = stem = (match["after"] or "").casefold()
        value *= _SCALES.get((match["scale"] or "").casefold(), 1)
        if after and code is None:
            stem = after if after in _MINOR else after.removesuffix("s")
            if stem in _MINOR:
                code, value = _MINOR[stem], value / 100
            elif len(after) == 4 and after[1:].upper() in CURRENCIES:
                code, value = after[1:].upper(), value * _SCALES[after[0]]
            else:
                code = _currency(after) or _NAMES.get(after) or _NAMES.get(stem)
        minor = number(match["minor"] or "")
        if minor is not None and code is not None and stem not in _MINOR:
            value += minor / 100  # "20 dollars and 43 cents"
        out.append(Amount(match.start(), match.end(), match.span("core"), plain(value), code))
    return tuple(out)


def _currency(written: str | None) -> str | None:
    if not written:
        return None
    if written.upper() in CURRENCIES:
        return written.upper()
    return _SYMBOLS.get(written.casefold().replace(" ", ""))


def read(phrase: str) -> str | None:
    """The number that a phrase which is an amount from end to end says, or None."""
    for one in found(phrase.strip()):
        if one.start == 0 and one.end == len(phrase.strip()):
            return one.number
    return None


def mentions(text: str) -> Iterator[tuple[int, int]]:
    """Characters of phrases that may state an amount: the number alone, then all of it."""
    for one in found(text):
        if one.core != (one.start, one.end):
            yield one.core
        yield one.start, one.end


def stated(text: str) -> list[tuple[str, str]]:
    """The (number, currency) pairs that a text states, by rules alone."""
    pairs = [(one.number, one.currency) for one in found(text) if one.currency is not None]
    return list(dict.fromkeys(pairs))
