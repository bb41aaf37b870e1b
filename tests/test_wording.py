"""Amounts and ranges of dates, as people write them."""

from datetime import date

import pytest

from raydistill.wording import amounts, ranges

TODAY = date(2019, 7, 4)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("a fine of $ 250,000 in May", [("250000", "USD")]),
        ("sold 5.1 million shares for $2bn", [("2000000000", "USD")]),
        ("the c $ 300 million charge", [("300000000", "CAD")]),
        ("about 48.5 MGBP already paid", [("48500000", "GBP")]),
        ("a 12-cent-a-share dividend", [("0.12", "USD")]),
        ("470 pence a share", [("4.7", "GBP")]),
        ("received five million yen and 10 €", [("5000000", "JPY"), ("10", "EUR")]),
        ("half million usd, or 35 lakh rupees", [("500000", "USD"), ("3500000", "INR")]),
        ("1,015 francs, a 20 % stake and 40 employees", []),
    ],
)
def test_amounts_have_a_number_and_a_currency(text, stated):
    assert amounts.stated(text) == stated


@pytest.mark.parametrize(
    ("phrase", "start", "end"),
    [
        ("Q1 2019", "2019-01-01", "2019-04-01"),
        ("the second half of fiscal 2018", "2018-07-01", "2019-01-01"),
        ("FY18", "2018-01-01", "2019-01-01"),
        ("last quarter", "2019-04-01", "2019-07-01"),
        ("the previous three quarters", "2018-10-01", "2019-07-01"),
        ("the last two years", "2017-07-04", "2019-07-04"),
        ("next 3 days", "2019-07-05", "2019-07-08"),
        ("year to date", "2019-01-01", "2019-07-04"),
        ("October", "2018-10-01", "2018-11-01"),
        ("from May to Oct 2020", "2020-05-01", "2020-10-01"),
        ("from Nov to March", "2018-11-01", "2019-03-01"),
        ("between 2015 and the end of 2018", "2015-01-01", "2019-01-01"),
        ("since March 5, 2014", "2014-03-05", None),
        ("before 2010", None, "2010-01-01"),
        ("after 2016", "2017-01-01", None),
        ("mid 1989", "1989-05-01", "1989-09-01"),
        ("the last four months of 2021", "2021-09-01", "2022-01-01"),
        ("the nineties", "1990-01-01", "2000-01-01"),
    ],
)
def test_ranges_are_resolved_against_the_day_of_asking(phrase, start, end):
    edges = tuple(date.fromisoformat(day) if day else None for day in (start, end))
    assert ranges.read(phrase, TODAY) == edges


@pytest.mark.parametrize("phrase", ["31 June 2019", "the 2026 notes", "week 60 of 2019", "soon"])
def test_what_is_no_range_is_not_read(phrase):
    assert ranges.read(phrase, TODAY) is None


def test_a_relative_range_without_a_day_of_asking_is_not_read():
    assert ranges.read("last quarter") is None
    assert ranges.read("Q1 2019") is not None


def test_the_longest_phrase_at_a_place_is_the_one_that_is_stated():
    text = ranges.asked("How did sales develop from May to Oct 2020, and last quarter?", TODAY)
    assert ranges.stated(text) == [
        (date(2020, 5, 1), date(2020, 10, 1)),
        (date(2019, 4, 1), date(2019, 7, 1)),
    ]


def test_every_mention_reads_as_what_it_is_a_mention_of():
    text = ranges.asked("Did Acme earn $5 million in May 2019 or by end of this month?", TODAY)
    for start, end in ranges.mentions(text):
        assert ranges.read(text[start:end], TODAY) is not None
    for start, end in amounts.mentions(text):
        assert amounts.read(text[start:end]) is not None
