"""evaluate: how far a release agrees with its teacher on companies kept back, and where not.

Agreement is counted on whole records, all fields, both ways: an invented record costs precision, an
omitted one recall. Beside the release stand its high-precision master, a baseline of keywords and
rules, and whatever other readings of the same sentences there are. Every rate has its interval.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from raydistill import dataset, keywords, release
from raydistill.answer import Answer
from raydistill.dataset import Dataset
from raydistill.errors import AnswerError, SetupError
from raydistill.pipeline import step
from raydistill.progress import table
from raydistill.proof import baseline, calibration, cost, disagree, report, slices
from raydistill.proof.compare import MEASURES, Answers, measured, scores, side, versus
from raydistill.proof.cost import Config as CostConfig
from raydistill.proof.judge import Judged, judge
from raydistill.proof.waterfall import prefilter_losses, skip_curve, waterfall
from raydistill.questions import report as tasks_report
from raydistill.questions.answering import Answerer
from raydistill.release import Release
from raydistill.score import Scored, tally
from raydistill.stages.routed import place
from raydistill.task import Task

BASELINE_ROWS = 100_000


@dataclass(kw_only=True, slots=True)
class Config:
    """What evaluate reads.

    `slices` is Parquet of (id, slice); agreement is given for each slice. `master` is the student
    folder of the extractor, `masters` are those of specialists by name. `readings` names files
    (Parquet or JSONL) of (id, answer): a second reading by the teacher, a human's answers, a model
    without training. `ceiling` states how far the teacher agrees with himself, by field (and
    `skip`, `whole record`), where that was measured elsewhere: no student can honestly beat it.
    `curve` is a curve.json to draw.
    """

    root: str = "runs"
    dataset: str
    release: str
    out: str
    split: str = "test"
    slices: str | None = None
    master: str | None = None
    masters: dict[str, str] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)
    curve: str | None = None
    baseline: bool = True
    draws: int = 1000
    worst: int = 50
    threads: int = 2
    cost: CostConfig = field(default_factory=CostConfig)


def run(config: Config) -> dict[str, Any]:
    """Writes report.json, .md and .html to `config.out`; prints and gives the report."""
    data = dataset.open_(Path(config.dataset))
    opened = release.verify(Path(config.release), expected=data.task)
    if only := opened.manifest.extra.get("only"):
        data = dataset.open_(data.folder, only=only)
    if data.others:
        answerer = Answerer(opened, threads=config.threads)
        return tasks_report.evaluate(data, answerer, config.split, Path(config.out))
    rows = data.table(config.split)
    if not len(rows):
        raise SetupError(
            f"the {config.split} split is empty", todo="raise split.test or add companies"
        )
    judged = judge(rows, opened, threads=config.threads)
    others = answerers(config, data, opened, judged)
    made = figures(config, data, opened, judged, others)
    report.write(Path(config.out), made)
    _print(made)
    print(f"report: {Path(config.out) / 'report.html'}")
    return made


def answerers(
    config: Config, data: Dataset, opened: Release, judged: Judged
) -> dict[str, dict[str, Answer | AnswerError]]:
    """The other answers to the judged rows, by name; a file may cover a part of them."""
    out: dict[str, dict[str, Answer | AnswerError]] = {}
    if folders := _folders(config, opened):
        out["student, before quantisation"] = _master(folders, opened, judged, config.threads)
    for name, file in config.readings.items():
        out[name] = readings(Path(file), opened.task, judged)
    if config.baseline:
        out["keywords and rules"] = _baseline(data, opened.task, judged)
    return out


def _folders(config: Config, opened: Release) -> dict[str, Path]:
    """The masters' folders by their places in the release; none where none are named."""
    given = {place(name): folder for name, folder in config.masters.items()}
    given |= {"extractor": config.master} if config.master is not None else {}
    wanted = set(opened.manifest.shapes) - {"skip"}
    if given and set(given) != wanted:
        raise SetupError(
            f"masters of {', '.join(given)}",
            expected=f"those of {opened.name}: {', '.join(sorted(wanted))}",
            todo="set master= for one extractor, masters={NAME: FOLDER} for specialists",
        )
    return {name: Path(folder) for name, folder in given.items()}


def _master(
    folders: Mapping[str, Path], opened: Release, judged: Judged, threads: int
) -> dict[str, Answer | AnswerError]:
    """The masters behind the release's own stages and route: they alone differ."""
    from raydistill.proof.students import masters  # it brings torch along

    ids = [id for id in judged.sample.ids if id in judged.kept["kept"]]
    texts = judged.sample.text_of()
    stage: Any = step(opened, "extract", threads=threads).stage
    found = masters(folders, stage, [texts[id] for id in ids], threads=threads)
    empty: dict[str, Answer | AnswerError] = {id: Answer() for id in judged.sample.ids}
    return empty | dict(zip(ids, found, strict=True))


def readings(file: Path, task: Task, judged: Judged) -> dict[str, Answer | AnswerError]:
    """The answers in a Parquet or JSONL file of (id, answer in the task's JSON form)."""
    if not file.is_file():
        raise SetupError(f"readings: {file} is missing", expected="Parquet or JSONL of id, answer")
    if file.suffix == ".parquet":
        found = pq.read_table(file, columns=["id", "answer"]).to_pylist()
    else:
        found = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    texts = judged.sample.text_of()
    out: dict[str, Answer | AnswerError] = {}
    for row in found:
        if row["id"] not in texts:
            continue
        try:
            out[row["id"]] = task.parse(str(row["answer"]), texts[row["id"]])
        except AnswerError as problem:
            out[row["id"]] = problem
    if not out:
        raise SetupError(f"readings: {file} speaks of no row of this split", todo="check its ids")
    return out


def _baseline(data: Dataset, task: Task, judged: Judged) -> dict[str, Answer | AnswerError]:
    train = data.table("train").slice(0, BASELINE_ROWS)
    answers = [task.parse(one) for one in train["answer"].to_pylist()]
    rules = baseline.learn(task, train["text"].to_pylist(), answers)
    return {
        id: rules.answer(text)
        for id, text in zip(judged.sample.ids, judged.sample.texts, strict=True)
    }


def figures(
    config: Config,
    data: Dataset,
    opened: Release,
    judged: Judged,
    others: Mapping[str, Answers],
) -> dict[str, Any]:
    """Everything the report says, as JSON."""
    task, taken = opened.task, judged.sample
    groups, named = taken.group_of(), _slices(config)
    names = sorted({named[id] for id in judged.alone if id in named})
    parts = {"all": list(judged.alone)} | {
        name: [id for id in judged.alone if named.get(id) == name] for name in names
    }
    by = slices.rows_by(taken, known=_companies(data), named=named)
    sides = {"student": side(judged.cascade, groups, draws=config.draws)}
    against: dict[str, Any] = {}
    for name, answers in others.items():
        theirs = scores(task, taken.truths, answers)
        sides[name] = side(theirs, groups, draws=config.draws)
        against[name] = versus(judged.cascade, theirs, groups, draws=config.draws)
    costs = _costs(config, judged, opened.task)
    extractor = {n: _part(some, judged.alone, groups, config.draws) for n, some in parts.items()}
    cascade = {n: _part(some, judged.cascade, groups, config.draws) for n, some in parts.items()}
    quality = extractor.get("seen phrasings", extractor["all"])["f1_interval"]
    return {
        "release": opened.name,
        "task": task.name,
        "dataset": data.fingerprint,
        "split": config.split,
        "rows": len(taken.ids),
        "companies": len(set(taken.groups)),
        "extractor": extractor,
        "cascade": cascade,
        "waterfall": {
            n: waterfall(some, judged.kept, judged.cascade, groups, draws=config.draws)
            for n, some in parts.items()
        },
        "sides": sides,
        "against": against,
        "slices": slices.parts(by, judged.cascade, groups, draws=config.draws),
        "event_types": slices.event_types(task, taken, judged.answers, judged.cascade),
        "skip_curve": skip_curve(
            taken, judged.skip_scores, judged.cascade, opened.manifest.thresholds["skip"],
            judged.sure,
        ),
        "calibration": calibration.reported(judged, opened, costs, config.cost),
        "prefilter": prefilter_losses(keywords.read(opened.keywords), taken),
        "disagreements": disagree.worst(
            task, taken, judged.answers, judged.cascade, judged.certainty, most=config.worst
        ),
        "invented_per_1000": sides["student"]["invented_per_1000"]["value"],
        "negatives": sides["student"]["rows_without_events"],
        "skip_agreement": sides["student"]["skip_agreement"],
        "ceiling": dict(config.ceiling),
        "curve": _curve(config.curve),
        "cost": costs,
        "promises": cost.promises(costs, quality),
        "manifest": {"quantisation": opened.manifest.quantisation, "shapes": opened.manifest.shapes,
                     "thresholds": opened.manifest.thresholds, "code": opened.manifest.code,
                     "recall": opened.manifest.metrics.get("recall"),
                     "skip": opened.manifest.metrics.get("skip", {}),
                     "dataset": opened.manifest.dataset},
    }  # fmt: skip


def _curve(file: str | None) -> list[dict[str, Any]] | None:
    if file is None:
        return None
    if not Path(file).is_file():
        raise SetupError(f"no curve at {file}", expected="curve.json", todo="run curve")
    return json.loads(Path(file).read_text())["points"]


def _companies(data: Dataset) -> set[str]:
    known: set[str] = set()
    for batch in data.batches("train"):
        known.update(batch.column("group").to_pylist())
    return known


def _slices(config: Config) -> dict[str, str]:
    if config.slices is None:
        return {}
    found = pq.read_table(config.slices, columns=["id", "slice"])
    return dict(zip(found["id"].to_pylist(), found["slice"].to_pylist(), strict=True))


def _part(
    ids: list[str], some: Mapping[str, Scored], groups: Mapping[str, str], draws: int
) -> dict[str, Any]:
    """A slice's tally; `agreement_low` and `_high` bound whole-record F1, companies resampled."""
    picked = [some[id] for id in ids]
    f1 = measured(picked, [groups[id] for id in ids], MEASURES["f1"], draws=draws)
    bounds = {"agreement_low": f1["low"], "agreement_high": f1["high"], "f1_interval": f1}
    return {**tally(picked).to_dict(), **bounds}


def _costs(config: Config, judged: Judged, task: Task) -> dict[str, Any]:
    taken = judged.sample
    # The prompt's fixed part is the same in every sentence; its length is what matters here.
    prompts = [task.prompt(text) for text in taken.texts[:1000]]
    answers = [task.render(taken.truths[id]) for id in taken.ids[:1000]]
    measured_rates = cost.rates(
        judged.seconds,
        judged.rows,
        threads=config.threads,
        texts=taken.texts[:1000],
        prompts=prompts,
        answers=answers,
    )
    return cost.account(measured_rates, config.cost)


def _print(made: Mapping[str, Any]) -> None:
    lines: list[tuple[str, ...]] = []
    stages = [name for name in report.STAGES if name in made["waterfall"]["all"]][:-1]
    for name, part in made["extractor"].items():
        fall = made["waterfall"][name]
        recall = fall["rates"]["found"]
        lines.append(
            (
                name,
                f"{part['truth']:,}",
                f"{part['f1']:.1%}",
                f"{part['agreement_low']:.1%}-{part['agreement_high']:.1%}",
                f"{part['precision']:.1%}",
                f"{part['recall']:.1%}",
                *(f"{fall[stage]:,}" for stage in stages),
                f"{recall['value']:.1%}",
                f"{recall['low']:.1%}-{recall['high']:.1%}",
            )
        )
    head = ("slice", "events", "agreement", "95 %", "precision", "recall")
    names = (report.STAGES[stage].partition(":")[0] for stage in stages)
    print(table(lines, (*head, *names, "event recall", "95 %")))
    for name, one in made["against"].items():
        print(
            f"against {name}: {one['difference']:+.1%} F1"
            f" ({one['low']:+.1%} to {one['high']:+.1%}),"
            f" McNemar p {one['p']:.2g}, on {one['rows']:,} sentences"
        )
    fields = made["extractor"]["all"]["fields"]
    print("equal values: " + ", ".join(f"{n} {one['agreement']:.1%}" for n, one in fields.items()))
    student = made["sides"]["student"]
    print(
        f"{_calibrated(made['calibration'])}"
        f"skip/extract agreement {made['skip_agreement']:.1%}; {student['omitted']:,} omitted,"
        f" {student['invented']:,} invented, {student['wrong_value']:,} with a wrong value;"
        f" {made['invented_per_1000']:.2f} invented events per 1,000 sentences without one"
    )


def _calibrated(found: Mapping[str, Any]) -> str:
    test = found["test"]
    if found["kind"] is None or test is None:
        return ""
    return (
        f"agreement_probability: ECE {test['ece']:.1%} on {test['answers']:,} answers"
        f" ({test['ece_of_chance']:.1%} by chance alone)\n"
    )
