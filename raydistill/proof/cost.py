"""Cost: what teacher and student take per sentence, filing and million tokens, and the payback.

The student's rates are measured in the run that asks; the teacher's rates and every price come from
the configuration, where each says what it stands for. Shares of sentences that reach each
stage are those of production (`mix`), not those of a test split rich in events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raydistill.errors import SetupError

CHARACTERS_PER_TOKEN = 4.0  # of English prose, for tokenizers of large models
STAGES = ("prefilter", "glance", "skip", "extract")


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    """The teacher's measured rates on one accelerator and its prices; token prices beat hours."""

    name: str = "7B teacher on one RTX 3090"
    input_tokens_per_s: float = 4000.0
    output_tokens_per_s: float = 1000.0
    usd_per_hour: float = 0.30
    usd_per_million_input: float = 0.0
    usd_per_million_output: float = 0.0
    reads_all: bool = False  # false: it sits behind the same prefilter


@dataclass(kw_only=True, slots=True)
class MixConfig:
    """Shares of production sentences that reach the skip classifier and the extractor."""

    candidates: float = 0.10
    kept: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.kept <= self.candidates <= 1:
            raise SetupError(
                f"cost.mix.kept={self.kept}, cost.mix.candidates={self.candidates}",
                expected="0 <= kept <= candidates <= 1",
            )


@dataclass(kw_only=True, slots=True)
class Config:
    """Prices, the production mix, and what the student cost to make (`made_usd`, once)."""

    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    usd_per_core_hour: float = 0.04
    cores: int = 16
    sentences_per_filing: int = 10_000
    filings_per_day: float = 1000.0
    made_usd: float = 100.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question to a live teacher took, on average: tokens read and written, seconds.

    Seconds are of the wall, with as many questions under way as the run kept.
    """

    input_tokens: float
    output_tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Core-seconds per sentence that reaches each stage, mean characters; the teacher's own rates
    where they were measured. Of the candidates that skip drops, `passes` get past the glance."""

    seconds: Mapping[str, float]
    text: float
    prompt: float
    answer: float
    asked: Asked | None = None
    passes: float = 1.0


def rates(
    seconds: Mapping[str, float],
    rows: Mapping[str, int],
    *,
    threads: int,
    texts: Sequence[str],
    prompts: Sequence[str],
    answers: Sequence[str],
    asked: Asked | None = None,
) -> Rates:
    """The rates of a run: wall seconds on `threads` threads and rows, both by stage."""
    each = {stage: seconds[stage] * threads / max(1, rows[stage]) for stage in STAGES}
    dropped = rows["glance"] - rows["extract"]
    passes = (rows["skip"] - rows["extract"]) / dropped if dropped > 0 else 1.0
    return Rates(each, _mean(texts), _mean(prompts), _mean(answers), asked, passes)


def _mean(some: Sequence[str]) -> float:
    return sum(map(len, some)) / max(1, len(some))


def account(measured: Rates, config: Config) -> dict[str, Any]:
    """Both sides per sentence, per filing and per million tokens of text; ratios, payback."""
    teacher, mix = config.teacher, config.mix
    read = measured.text / CHARACTERS_PER_TOKEN
    given = measured.prompt / CHARACTERS_PER_TOKEN
    written = measured.answer / CHARACTERS_PER_TOKEN
    share = 1.0 if teacher.reads_all else mix.candidates
    asked_s = given / teacher.input_tokens_per_s + written / teacher.output_tokens_per_s
    if measured.asked is not None:
        given, written = measured.asked.input_tokens, measured.asked.output_tokens
        asked_s = measured.asked.seconds
    if teacher.usd_per_million_input or teacher.usd_per_million_output:
        asked_usd = (
            given * teacher.usd_per_million_input + written * teacher.usd_per_million_output
        ) / 1e6
    else:
        asked_usd = asked_s * teacher.usd_per_hour / 3600
    glanced = mix.kept + (mix.candidates - mix.kept) * measured.passes
    reaching = {
        "prefilter": 1.0, "glance": mix.candidates, "skip": glanced, "extract": mix.kept,
    }  # fmt: skip
    core_s = {stage: measured.seconds[stage] * reaching[stage] for stage in STAGES}
    student_s = sum(core_s.values())
    sides = {
        "teacher": _side(share * asked_s, share * asked_usd, read, config),
        "student": _side(student_s, student_s * config.usd_per_core_hour / 3600, read, config),
    }
    sides["teacher"] |= {"input_tokens": given, "output_tokens": written, "share_read": share}
    sides["teacher"] |= {"usd_per_question": asked_usd, "measured": measured.asked is not None}
    sides["student"] |= {"core_seconds_by_stage": core_s, "cores": config.cores}
    saved = sides["teacher"]["usd_per_filing"] - sides["student"]["usd_per_filing"]
    filings = config.made_usd / saved if saved > 0 else None
    return {
        **sides,
        "teacher_name": teacher.name,
        "faster_one_core": _over(sides["teacher"]["seconds"], student_s),
        "faster_machine": _over(sides["teacher"]["seconds"], student_s / config.cores),
        "cheaper": 1 - _over(sides["student"]["usd"], sides["teacher"]["usd"]),
        "payback_filings": filings,
        "payback_days": None if filings is None else filings / config.filings_per_day,
        "made_usd": config.made_usd,
    }


def _side(seconds: float, usd: float, tokens: float, config: Config) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "usd": usd,
        "seconds_per_filing": seconds * config.sentences_per_filing,
        "usd_per_filing": usd * config.sentences_per_filing,
        "usd_per_million_tokens": usd / max(1e-9, tokens) * 1e6,
        "hours_per_million_filings": seconds * config.sentences_per_filing * 1e6 / 3600,
    }


def _over(above: float, below: float) -> float:
    return above / below if below > 0 else 0.0


def promises(costs: Mapping[str, Any], quality: Mapping[str, float]) -> list[dict[str, Any]]:
    """Three promises of a distilled student and what was measured; `kept` by the lower bound."""
    faster, cheaper = float(costs["faster_machine"]), float(costs["cheaper"])
    return [
        {
            "promise": "5-7x faster than the teacher",
            "measured": f"{faster:,.1f}x ({costs['faster_one_core']:,.1f}x a core)",
            "kept": faster >= 5,
        },
        {"promise": "90% cheaper", "measured": f"{cheaper:.1%} cheaper", "kept": cheaper >= 0.9},
        {
            "promise": "95%+ of the teacher's quality",
            "measured": (
                f"{quality['value']:.1%} ({quality['low']:.1%} to {quality['high']:.1%})"
                " whole records"
            ),
            "kept": quality["low"] >= 0.95,
        },
    ]
