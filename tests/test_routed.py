"""A release of specialists: trained, published, asked by every way in, refused where it is odd."""

import json
import shutil
from dataclasses import asdict

import pytest

from raydistill import dataset, evaluate, pipeline, publish, registry, release, train
from raydistill.chunk import marked
from raydistill.errors import AnswerError, SetupError
from raydistill.pipeline import PARTS, Cascade
from raydistill.proof import model_card
from raydistill.proof.judge import judge, sentences
from raydistill.scale import PARTS as POOLS
from raydistill.serve.answerers import Answerers
from raydistill.specialists import Specialists
from raydistill.stages.routed import Routed
from raydistill.student.fit import FitConfig
from raydistill.student.folder import card
from raydistill.student.masters import Extractor
from raydistill.student.shape import Kind, Shape
from raydistill.tokenizer import Tokenizer
from tests.tiny import MAX_INPUT, MAX_OUTPUT

PEOPLE = ["director_resigned", "amended_bylaws", "adopted_rights_plan", "regained_compliance"]
VALUES = {"people": PEOPLE, "rest": []}


def _train(tiny, out, shape, *, steps, **settings):
    return train.run(
        train.Config(
            dataset=str(tiny.dataset.folder), out=str(out), workers=0, threads=1, student=shape,
            fit=FitConfig(steps=steps, batch_tokens=3000, bf16=False), **settings,
        )
    )  # fmt: skip


def _encoder(layers=1):
    return Shape(kind=Kind.encoder, width=64, layers=layers, heads=2, max_input=MAX_INPUT)


@pytest.fixture(scope="module")
def students(tiny, tmp_path_factory):
    """The folders of a classifier of three classes and of one specialist; the rest is tiny's."""
    folder = tmp_path_factory.mktemp("specialists")
    extractor = Shape(
        kind=Kind.seq2seq, width=64, layers=1, decoder_layers=1, heads=2,
        max_input=MAX_INPUT, max_output=MAX_OUTPUT,
    )  # fmt: skip
    return {
        "skip": _train(tiny, folder / "skip", _encoder(), steps=80, specialists=VALUES),
        "people": _train(tiny, folder / "people", extractor, steps=120, only=PEOPLE),
        "rest": tiny.folder / "extractor",
    }


def _publish(tiny, students, out, **settings):
    config = publish.Config(
        dataset=str(tiny.dataset.folder), skip=str(students["skip"]), extractor="", out=str(out),
        extractors={name: str(students[name]) for name in ("people", "rest")}, label="parts",
        parity=0.5, parity_rows=100, glance=None, threads=1,
    )  # fmt: skip
    for name, value in settings.items():
        setattr(config, name, value)
    return publish.run(config)


@pytest.fixture(scope="module")
def made(tiny, students, tmp_path_factory):
    return _publish(tiny, students, tmp_path_factory.mktemp("routed") / "release")


def test_a_classifier_of_specialists_keeps_what_it_says_and_knows_whose_a_sentence_is(
    tiny, students
):
    training = card(students["skip"]).training
    assert training["specialists"] == VALUES
    assert training["recall"] >= 0.99
    assert 0 < training["route"] <= 0.5
    assert training["route_recall"] >= 0.99
    assert 1 <= training["asked"] < 1.7
    rows = tiny.dataset.table("val")
    parts = Specialists.of(tiny.dataset.task, VALUES)
    wanted = [parts.classes(tiny.dataset.task.parse(one)) for one in rows["answer"].to_pylist()]
    from raydistill.student.masters import Skip

    shares = Skip(students["skip"]).shares(rows["text"].to_pylist())
    right = [
        1 + max((0, 1), key=lambda at: row[1 + at]) in classes
        for row, classes in zip(shares, wanted, strict=True)
        if classes != [0]
    ]
    assert sum(right) > 0.9 * len(right) > 50


def test_a_release_says_whom_it_asks_about_what(made, tiny):
    manifest = made.manifest
    assert manifest.extra["specialists"] == VALUES
    assert set(manifest.shapes) == {"skip", "specialists/people", "specialists/rest"}
    assert set(manifest.thresholds) == {"skip", "route"}
    assert "specialists/people/model.bin" in manifest.files
    assert release.verify(made.folder).name == made.name
    told = model_card.markdown(manifest, None)
    assert f"| specialist: people | {', '.join(PEOPLE)} |" in told
    assert "| specialist: rest | all other types |" in told


def test_answers_are_those_of_the_specialists_that_were_asked(made, tiny):
    texts = tiny.dataset.table("test")["text"].to_pylist()[:150]
    stage = pipeline.step(made, "extract", threads=1).stage
    assert isinstance(stage, Routed)
    routes = stage.routes(texts)
    assert {len(one) for one in routes} == {1, 2}
    assert {name for one in routes for name in one} == {"people", "rest"}
    alone = {name: one.answers(texts) for name, one in stage.stages.items()}
    for at, one in enumerate(stage.answers(texts)):
        said = {name: alone[name][at] for name in ("people", "rest") if name in routes[at]}
        wanted = stage.specialists.joined({name: each.answer for name, each in said.items()})
        assert str(one.answer) == str(wanted)
        assert one.tokens == sum(each.tokens for each in said.values())
        assert one.score == pytest.approx(sum(each.score for each in said.values()), abs=1e-3)


def test_a_sentences_route_does_not_depend_on_those_beside_it(made, tiny):
    texts = tiny.dataset.table("test")["text"].to_pylist()[:40]
    router = pipeline.step(made, "extract", threads=2).stage
    ids = Tokenizer.load(made.folder / "skip").batch_ids(texts)
    together = router.router.shares(ids)
    assert [row.tolist() for row in together] == [
        router.router.shares([one])[0].tolist() for one in ids
    ]
    assert together.sum(1).tolist() == pytest.approx([1.0] * 40, abs=1e-5)
    scores = router.router(ids).tolist()
    assert together[:, 1:].sum(1).tolist() == pytest.approx(scores, abs=0.02)
    assert router.routes([]) == []


def test_pools_backfill_and_service_give_the_same_answers(made, tiny):
    rows = tiny.dataset.table("test").slice(0, 400)
    chunk = marked(sentences(rows))
    whole = Cascade(made, threads=1)(chunk)
    table = chunk
    assert set(POOLS) == set(PARTS)
    for name in POOLS:
        table = pipeline.part(made, name, threads=1)(table)
    answers = dict(zip(whole["id"].to_pylist(), whole["answer"].to_pylist(), strict=True))
    assert dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True)) == answers
    assert sum(one is not None for one in answers.values()) > 30
    assert whole["agreement_probability"].null_count < len(whole)
    texts = dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    served = Answerers([str(made.folder)], threads=1)
    decided = served.decide("filing_events", list(texts.values())).rows
    for id, one in zip(texts, decided, strict=True):
        assert one.answer == answers.get(id)
        assert (one.decision == "extract") == (answers.get(id) is not None)


def test_it_is_evaluated_beside_its_masters(made, students, tiny, tmp_path):
    config = evaluate.Config(
        dataset=str(tiny.dataset.folder), release=str(made.folder), out=str(tmp_path / "report"),
        split="val", masters={name: str(students[name]) for name in ("people", "rest")},
        baseline=False, draws=20, threads=1,
    )  # fmt: skip
    report = evaluate.run(config)
    found = judge(tiny.dataset.table("val"), made, threads=1)
    assert report["extractor"]["all"]["truth"] > 50
    assert report["against"]["student, before quantisation"]["rows"] == report["rows"]
    kept = sum(not isinstance(one, AnswerError) for one in found.answers.values())
    assert kept > 0.8 * len(found.answers)
    right = [one.exact for id, one in found.alone.items()]
    assert 0 < sum(right) <= len(right)
    config.masters = {"people": str(students["people"])}
    with pytest.raises(SetupError, match="masters of specialists/people"):
        evaluate.run(config)


def test_formats_are_measured_for_each_specialist_and_auto_takes_one_for_all(
    tiny, students, tmp_path, capsys
):
    wanted = ["int8", "float32", "safetensors"]
    out = tmp_path / "release"
    settings = {"formats": wanted, "quantisation": "auto", "validation_rows": 100}
    made = _publish(tiny, students, out, **settings)
    table = made.manifest.metrics["formats"]
    rows = {(row["specialist"], row["format"]): row for row in table}
    assert list(rows) == [(name, form) for name in VALUES for form in wanted]
    assert all((out.with_name("release.formats") / name / form).is_dir() for name, form in rows)
    whole = {
        form: sum(1 / rows[name, form]["sentences_per_second"] for name in VALUES)
        for form in wanted[:2]
        if all(rows[name, form]["master"] >= 0.5 for name in VALUES)
    }
    assert made.manifest.quantisation == min(whole, key=whole.__getitem__)
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["specialist", "format"] in lines
    assert all(list(one) in lines for one in rows)
    for name, only in VALUES.items():
        part = dataset.open_(tiny.dataset.folder, only=only).table("val").slice(0, 100)
        texts, answers = part["text"].to_pylist(), part["answer"].to_pylist()
        said = Extractor(students[name]).answers(texts)
        taught = [tiny.dataset.task.parse(*one) for one in zip(answers, texts, strict=True)]
        same = sum(a == b for a, b in zip(said, taught, strict=True))
        assert rows[name, "safetensors"]["teacher"] == same / 100


def test_two_releases_are_told_apart_by_their_specialists(made, tiny):
    sides = [
        registry.Entry(one.name, "", "", one.folder, asdict(one.manifest), None, "")
        for one in (tiny.release, made)
    ]
    differ = {name: (one, other) for name, one, other in registry.diff(*sides)}
    assert differ["extra.specialists.people"] == (None, PEOPLE)
    assert differ["shapes.specialists/rest.target"] == (None, "compact")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"extractors": {"people": "rest", "rest": "people"}}, r"only=all types"),
        ({"extractors": {"people": "people"}}, "extractors of people"),
        ({"extractors": {}, "extractor": "rest"}, "extractors of none"),
    ],
)
def test_students_that_do_not_fit_the_classifier_are_refused(
    tiny, students, tmp_path, settings, said
):
    named = {
        key: {name: str(students[one]) for name, one in value.items()}
        if key == "extractors"
        else str(students[value])
        if key == "extractor"
        else value
        for key, value in settings.items()
    }
    with pytest.raises(SetupError, match=said):
        _publish(tiny, students, tmp_path / "release", **named)
    assert not (tmp_path / "release").exists()


def test_a_classifier_that_tells_nobody_apart_has_no_specialists(tiny, students, tmp_path):
    with pytest.raises(SetupError, match="those of the skip classifier: none"):
        _publish(tiny, students, tmp_path / "release", skip=str(tiny.folder / "skip"))


def test_a_manifest_with_one_specialist_more_is_refused(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "release")
    file = tmp_path / "release/release.json"
    manifest = json.loads(file.read_text())
    manifest["extra"]["specialists"]["third"] = ["suspended_dividend"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(SetupError, match="tells 3 classes apart"):
        Cascade(tmp_path / "release", threads=1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"only": PEOPLE}, "specialists= with only="),
        ({"student": Shape(kind=Kind.seq2seq)}, "specialists= with an extractor"),
        ({"specialists": {"people": PEOPLE, "more": ["bankrupt"]}}, "specialists=bankrupt"),
    ],
)
def test_specialists_are_a_classifiers_and_of_the_whole_dataset(tiny, tmp_path, settings, said):
    wanted = {"student": _encoder(), "specialists": VALUES} | settings
    shape = wanted.pop("student")
    with pytest.raises(SetupError, match=said):
        _train(tiny, tmp_path / "skip", shape, steps=1, **wanted)
