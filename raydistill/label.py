"""label: sentences are read by a large model behind an endpoint; its answers join the teacher's.

Whole filings are asked in an order that the seed decides. Answers, valid or not, go to the ledger
`raydistill.labelled` in the transaction that writes their events, so a run that stops anywhere goes
on where it was; a filing of which every sentence has a valid answer becomes one that the teacher
has finished, and its other sentences negatives for `build`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from raydistill.dataset import share
from raydistill.endpoint import Endpoint, EndpointConfig, opened
from raydistill.errors import AnswerError, DataError, SetupError
from raydistill.lessons import labelled
from raydistill.lessons.labelled import Labelled, Sentence, Tables
from raydistill.lessons.teacher_answer import canonical
from raydistill.progress import Progress, duration
from raydistill.source import SourceConfig, dsn
from raydistill.task import Task
from raydistill.tasks import TASKS


@dataclass(kw_only=True, slots=True)
class PriceConfig:
    """What a million tokens cost, and what to assume of tokens before any were counted."""

    currency: str = "USD"
    input: float = 0.0
    output: float = 0.0
    characters_per_token: float = 4.0
    answer_tokens: float = 60.0

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """The money that these tokens cost."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(kw_only=True, slots=True)
class Config:
    """What to label, by whom, how fast, and for how much."""

    root: str = "runs"
    source: SourceConfig
    endpoint: EndpointConfig
    price: PriceConfig = field(default_factory=PriceConfig)
    task: str = "filing_events"
    columns: dict[str, str | None] = field(
        default_factory=lambda: {
            "event_id": "event_id",
            "model": "model",
            "created_at": "created_at",
            "raw": "raw",
        }
    )
    rows: int = 0
    plan: bool = False
    budget: float | None = None
    attempts: int = 2
    give_up: int = 50
    commit: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise SetupError(f"task={self.task}", expected=" | ".join(sorted(TASKS)))
        if self.commit < 1 or self.attempts < 1 or self.give_up < 1 or self.rows < 0:
            raise SetupError(
                f"commit={self.commit}, attempts={self.attempts}, give_up={self.give_up},"
                f" rows={self.rows}",
                expected="at least 1 each, and rows of at least 0 (0: all)",
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take; tokens are measured where earlier answers say, else assumed."""

    sentences: int
    filings: int
    input_tokens: float
    output_tokens: float
    cost: float
    hours_at_least: float
    measured: int


def run(config: Config, *, key: str | None = None) -> dict[str, Any]:
    """Labels what is not labelled yet, after printing its plan; gives counts, tokens and cost."""
    tables = Tables(
        dsn(config.source), config.source, TASKS[config.task], config.endpoint.model, config.columns
    )
    labelled.prepare(tables)
    left = _chosen(tables, config)
    plan = _plan(tables, left, config)
    _print_plan(plan, config)
    if config.budget is not None and plan.cost > config.budget:
        raise SetupError(
            f"the plan costs {plan.cost:,.2f} {config.price.currency}",
            expected=f"at most budget={config.budget:,.2f}",
            todo="raise budget=, or label fewer sentences: rows=N",
        )
    if config.plan:
        return {"plan": plan}
    account = Account(config)
    if left:
        asyncio.run(_label(tables, left, plan, config, key, account))
    _print_account(account)
    return account.told()


def _chosen(tables: Tables, config: Config) -> list[tuple[str, int]]:
    """Filings and how many of their sentences to ask now, in the order of the run."""
    left = labelled.remaining(tables, config.attempts)
    left.sort(key=lambda one: (share(one[0], config.seed), one[0]))
    chosen: list[tuple[str, int]] = []
    room = config.rows or sum(count for _, count in left)
    for filing, count in left:
        if room <= 0:
            break
        chosen.append((filing, min(count, room)))
        room -= count
    return chosen


def _plan(tables: Tables, left: Sequence[tuple[str, int]], config: Config) -> Plan:
    """Tokens by what earlier answers used; before there are any, by a sample of the sentences."""
    count = sum(one for _, one in left)
    answers, read, written = labelled.usage(tables)
    if not answers:
        some = [one[0] for one in left[:20]]
        sample = list(islice(labelled.sentences(tables, some, config.attempts), 1000))
        prompts = sum(len(tables.task.prompt(one.text)) for one in sample)
        read = prompts / max(1, len(sample)) / config.price.characters_per_token
        written = config.price.answer_tokens
    speeds = (
        (count, config.endpoint.requests_per_minute),
        (count * (read + written), config.endpoint.tokens_per_minute),
    )
    minutes = max((units / rate for units, rate in speeds if rate), default=0.0)
    cost = config.price.cost(count * read, count * written)
    return Plan(count, len(left), count * read, count * written, cost, minutes / 60, answers)


@dataclass(slots=True)
class Account:
    """What a run has done: answers by code (`valid` apart), events, filings finished, tokens."""

    config: Config
    codes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    filings: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failed_in_a_row: int = 0

    @property
    def cost(self) -> float:
        return self.config.price.cost(self.input_tokens, self.output_tokens)

    def add(self, one: Labelled) -> None:
        """Counts one answer; SetupError when nothing is answered any more, or money is spent."""
        self.codes[one.code or "valid"] += 1
        self.input_tokens += one.input_tokens
        self.output_tokens += one.output_tokens
        self.failed_in_a_row = 0 if one.asked else self.failed_in_a_row + 1
        if self.failed_in_a_row >= self.config.give_up:
            raise SetupError(
                f"{self.failed_in_a_row} requests in a row got no answer, the last: {one.code}"
                f" {one.answer}".rstrip(),
                expected=f"an endpoint that answers at {self.config.endpoint.url}",
                todo="see to the endpoint and run the same command again: it goes on from here",
            )
        if self.config.budget is not None and self.cost >= self.config.budget > 0:
            raise SetupError(
                f"the budget of {self.config.budget:,.2f} is spent",
                todo="raise budget= and run the same command again: it goes on from here",
            )

    def told(self) -> dict[str, Any]:
        """The account as plain values."""
        return {
            "codes": dict(self.codes),
            "events": self.events,
            "filings": self.filings,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
        }


async def _label(
    tables: Tables,
    left: Sequence[tuple[str, int]],
    plan: Plan,
    config: Config,
    key: str | None,
    account: Account,
) -> None:
    progress = Progress("label", plan.sentences, "sentences")
    ready: list[Labelled] = []
    failed: list[Labelled] = []  # the sentence's fault only if the endpoint answers others after it
    done = 0

    def write() -> None:
        nonlocal ready
        batch, ready = ready, []
        events, filings = labelled.commit(tables, batch)
        account.events += events
        account.filings += filings

    average = (plan.input_tokens + plan.output_tokens) / max(1, plan.sentences)
    rows = _sentences(tables, left, config.attempts)
    try:
        async with opened(config.endpoint, key) as endpoint:
            asked = _answers(endpoint, rows, tables.task, round(average), config)
            async with aclosing(asked) as answers:
                async for one in answers:
                    (ready if one.asked else failed).append(one)
                    if one.asked:
                        ready, failed = [*ready, *failed], []
                    account.add(one)
                    done += 1
                    if len(ready) >= config.commit:
                        await asyncio.to_thread(write)
                    progress.update(done, f"{account.cost:,.2f} {config.price.currency}")
    finally:
        if ready:
            write()
    account.filings += labelled.finish(tables)


def _sentences(
    tables: Tables, left: Sequence[tuple[str, int]], attempts: int
) -> Iterator[Sentence]:
    """The sentences to ask, read a few filings at a time in short transactions."""
    some: list[tuple[str, int]] = []
    for one in [*left, None]:
        if one is not None:
            some.append(one)
        if some and (one is None or sum(count for _, count in some) >= 5000):
            quota = dict(some)
            for sentence in labelled.sentences(tables, list(quota), attempts):
                if quota[sentence.filing_id] > 0:
                    quota[sentence.filing_id] -= 1
                    yield sentence
            some = []


async def _answers(
    endpoint: Endpoint, rows: Iterator[Sentence], task: Task, tokens: int, config: Config
) -> AsyncGenerator[Labelled, None]:
    """Every sentence's answer as it comes in, `concurrency` of them under way."""
    under_way: set[asyncio.Task[Labelled]] = set()
    more = True
    try:
        while more or under_way:
            while more and len(under_way) < config.endpoint.concurrency:
                sentence = await asyncio.to_thread(next, rows, None)
                if sentence is None:
                    more = False
                    break
                under_way.add(asyncio.create_task(_answer(endpoint, sentence, task, tokens)))
            if under_way:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    yield one.result()
    finally:
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _answer(endpoint: Endpoint, sentence: Sentence, task: Task, tokens: int) -> Labelled:
    """One sentence's answer; what cannot be had or read is a Labelled with its code."""
    try:
        message = {"role": "user", "content": task.prompt(sentence.text)}
        reply = await endpoint.ask([message], tokens=tokens)
    except DataError as problem:
        return Labelled(sentence, (), problem.code, problem.detail, 0, 0, asked=False)
    used = (reply.input_tokens, reply.output_tokens)
    try:
        answer = canonical(reply.text, task, sentence.text)
    except AnswerError as problem:
        return Labelled(sentence, (), problem.code, reply.text, *used)
    return Labelled(sentence, answer.records, None, reply.text, *used)


def _print_plan(plan: Plan, config: Config) -> None:
    basis = f"as {plan.measured:,} earlier answers" if plan.measured else "assumed; see price.*"
    print(
        f"plan: {plan.sentences:,} sentences of {plan.filings:,} filings by"
        f" {config.endpoint.model} at {config.endpoint.url}"
        f"\n      {plan.input_tokens:,.0f} tokens in, {plan.output_tokens:,.0f} out ({basis}):"
        f" {plan.cost:,.2f} {config.price.currency}"
        + (
            f", at least {duration(plan.hours_at_least * 3600)} by the rate limits"
            if plan.hours_at_least
            else ""
        ),
        flush=True,
    )


def _print_account(account: Account) -> None:
    told = account.told()
    wrong = {code: n for code, n in told["codes"].items() if code != "valid"}
    print(
        f"labelled {told['codes'].get('valid', 0):,} sentences, {told['events']:,} events,"
        f" {told['filings']:,} filings finished; {told['input_tokens']:,} tokens in,"
        f" {told['output_tokens']:,} out, {told['cost']:,.2f} {account.config.price.currency}"
    )
    if wrong:
        print("invalid:", ", ".join(f"{code} {count}" for code, count in sorted(wrong.items())))
