"""The glance before the skip classifier: what it drops, that it says so, and that it is the same
everywhere."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from raydistill import evaluate, glancing, publish, release
from raydistill.chunk import marked
from raydistill.config import compose
from raydistill.errors import SetupError
from raydistill.pipeline import Cascade
from raydistill.proof import before
from raydistill.proof.before import Before
from raydistill.proof.judge import judge, sentences
from raydistill.proof.waterfall import skip_curve
from raydistill.stages import pieces
from raydistill.stages.glance import BITS, FILE, Glance, features
from tests import backfills
from tests.tiny import tiny_publish


def _column(texts):
    return pa.array(texts, pa.large_string())


def _glance(threshold=0.0, seed=0):
    dice = np.random.default_rng(seed)
    return Glance(dice.normal(size=2**BITS).astype(np.float32), 0.25, threshold)


def _rows(count, seed):
    """Sentences of random words; `merged` before `with` makes an event."""
    dice = np.random.default_rng(seed)
    words = [f"word{n}" for n in range(300)]
    keep = dice.random(count) < 0.3
    texts = []
    for event in keep:
        some = dice.choice(words, dice.integers(1, 30)).tolist()
        place = int(dice.integers(0, len(some) + 1))
        some[place:place] = ["merged", "with"] if event else ["with", "merged"]
        texts.append(" ".join(some))
    return pa.table({"text": pa.array(texts, pa.string()), "keep": pa.array(keep)})


def _columns(text):
    found = features(_column([text]))
    return set(found.columns.tolist()), found.pair_columns.tolist()


@pytest.fixture(scope="module")
def looking(tiny, tmp_path_factory):
    """The tiny students, published with a glance."""
    out = tmp_path_factory.mktemp("looking") / "release"
    return tiny_publish(tiny.folder, out, glance_shown=0.9)


def test_words_are_letters_digits_and_money_without_case_and_value():
    assert _columns("Paid $1,250 in MAY.") == _columns("paid   $9,999: in may")
    assert _columns("paid 1250") != _columns("paid $1250")
    assert _columns("the merger") != _columns("merger the")
    assert len(_columns("Café “quoted”—twice")[0]) == 3  # caf, quoted, twice
    assert _columns("") == _columns("… — !")


def test_long_words_differ_in_their_first_and_last_eight_letters():
    one, other, same = "internationalisation", "internationalisatiom", "internatixxxlisation"
    assert _columns(one) != _columns(other)
    assert _columns(one) == _columns(same)
    assert _columns("aaaaaaaa") != _columns("aaaaaaaaa")


def test_texts_that_lie_end_to_end_are_no_neighbours():
    apart = [_columns(text) for text in ("over", "time", "", "x")]
    found = features(_column(["over", "time", "", "x"]))
    assert [{one} for one in found.columns.tolist()] == [one for one, _ in apart if one]
    assert found.pair_columns.tolist() == []


def test_a_sentence_scores_the_same_to_the_last_bit_alone_and_among_others(monkeypatch):
    texts = [*_rows(40, 1)["text"].to_pylist(), "", "§", None, "ends with", "starts with"]
    made, column = _glance(), pa.array(texts, pa.string())
    together = made.scores(column)
    assert together.tolist() == [float(made.scores(column.slice(at, 1))[0]) for at in range(45)]
    monkeypatch.setattr(pieces, "ROWS", 7)
    parts = pa.chunked_array([column.slice(0, 10), column.slice(10, 0), column.slice(10)])
    assert made.scores(parts).tolist() == together.tolist()


def test_it_drops_rows_and_nothing_else():
    batch = pa.table({"id": ["a", "b", None], "text": pa.array(["one two", "three", None])})
    assert Glance(np.zeros(2**BITS, np.float32), -1.0, 0.0)(batch)["id"].to_pylist() == [None]
    assert Glance(np.zeros(2**BITS, np.float32), 0.0, 0.0)(batch) == batch
    empty = batch.slice(0, 0)
    assert _glance()(empty) == empty


def test_where_it_is_sure_it_says_how_likely_an_event_is():
    texts = ["one two", "three", "four five six", None]
    batch = pa.table({"id": ["a", "b", "c", None], "text": pa.array(texts)})
    made = _glance(threshold=-100.0)
    scores = made.scores(batch["text"])
    sure = replace(made, sure=float(np.sort(scores[:3])[1]))
    found = sure(batch)
    assert found.drop_columns(["skip_score"]) == batch
    for score, said in zip(scores[:3], found["skip_score"].to_pylist(), strict=False):
        expected = None if score < sure.sure else pytest.approx(1 / (1 + np.exp(-score)), rel=1e-6)
        assert said == expected
    assert found["skip_score"][3].as_py() is None
    assert sure(batch.slice(0, 0)).schema == found.schema


def test_it_is_sure_from_where_validation_shows_that_the_classifier_keeps_enough():
    scores = np.repeat(np.arange(1000.0, 0.0, -1), 2)
    kept = np.ones(2000, bool)
    kept[1500:] = False
    found = glancing.sure(scores, kept, shown=0.99, least=-np.inf)
    assert found.low >= 0.99 > glancing.sure(scores, kept, shown=0.98, least=0.0).low
    assert found.sentences == (scores >= found.threshold).sum()  # sentences of one score together
    assert found.kept == pytest.approx(kept[: found.sentences].mean())
    assert found.spared == found.sentences / 2000
    assert glancing.sure(scores, kept, shown=0.99, least=400.0).threshold == 400.0
    assert glancing.sure(scores, ~kept, shown=0.99, least=0.0) is None
    few = glancing.sure(scores, kept, shown=0.99, least=700.0)
    assert few.spared > glancing.SPARES
    assert glancing.sure(scores, kept, shown=0.99, least=900.0) is None  # too few to be worth it


def test_the_classifier_is_not_asked_where_the_glance_is_sure(looking, tiny):
    chunk = marked(sentences(tiny.dataset.table("test").slice(0, 1500)))
    asked = Cascade(looking, threads=1)
    glance, skip = (step.stage for step in asked.steps[1:3])
    scores = np.sort(glance.scores(asked.steps[0].stage(chunk)["text"]))
    spared = Cascade(looking, threads=1)
    spared.steps[1] = replace(
        spared.steps[1], stage=replace(glance, sure=float(np.quantile(scores[scores > 0], 0.3)))
    )
    spared.part.steps = spared.steps
    one, other = asked(chunk), spared(chunk)
    assert 0 < spared.steps[2].stage.recent.asked < skip.recent.asked
    answers = {row["id"]: row["answer"] for row in one.to_pylist()}
    passed = [row for row in other.to_pylist() if row["id"]]
    sure = [row for row in passed if row["skip_score"] == pytest.approx(_likely(glance, row))]
    assert len(sure) > 20
    shared = [row for row in passed if row["id"] in answers]
    assert len(shared) > 0.9 * len(passed)
    assert all(row["answer"] == answers[row["id"]] for row in shared)


def _likely(glance, row):
    return 1 / (1 + np.exp(-glance.scores(pa.array([row["text"]]))[0]))


@pytest.mark.parametrize(("threshold", "least"), [(0.0, -np.inf), (1.0, np.inf), (0.5, 0.0)])
def test_a_threshold_that_saturated_is_odds_without_end(threshold, least):
    assert before._odds(threshold) == least


def test_a_skip_curve_counts_what_the_classifier_is_not_asked_about(looking, tiny):
    found = judge(tiny.dataset.table("val"), looking, threads=1)
    taken, scores = found.sample, found.cascade
    plain = skip_curve(taken, found.skip_scores, scores, 0.5)
    best = set(sorted(found.skip_scores, key=found.skip_scores.__getitem__)[-20:])
    rest = {id: score for id, score in found.skip_scores.items() if id not in best}
    with_sure = skip_curve(taken, rest, scores, 0.5, best)
    everything = [max(curve["points"], key=lambda p: p["events"]) for curve in (plain, with_sure)]
    assert everything[0]["events"] == pytest.approx(everything[1]["events"])
    assert everything[0]["extracted"] == pytest.approx(everything[1]["extracted"])
    least = min(point["extracted"] for point in with_sure["points"])
    assert least >= 20 / len(taken.ids)


def test_publish_says_from_where_on_it_is_sure(tiny, tmp_path):
    made = tiny_publish(tiny.folder, tmp_path / "r", glance_shown=0.9, glance_sure=0.8)
    told, thresholds = made.manifest.metrics["glance"], made.manifest.thresholds
    assert told["sure"] == thresholds["sure"] > thresholds["glance"]
    assert told["sure_kept_low"] >= 0.8
    assert Cascade(made, threads=1).steps[1].stage.sure == told["sure"]
    never = tiny_publish(tiny.folder, tmp_path / "n", glance_shown=0.9, glance_sure=None)
    assert "sure" not in never.manifest.thresholds


def test_it_learns_pairs_of_words_and_keeps_what_it_says():
    train, held_out = _rows(1500, 1), _rows(1000, 2)
    made = glancing.learned(train, held_out, recall=0.99)
    keep = np.asarray(held_out["keep"])
    passed = np.asarray(made.glance.keep(held_out["text"]))
    assert made.recall == pytest.approx(passed[keep].mean())
    assert made.recall >= 0.99
    assert made.recall_low < made.recall
    assert made.events == keep.sum()
    assert made.passes == pytest.approx(passed[~keep].mean())
    assert made.passes < 0.1
    assert made.glance.threshold <= 0
    assert made.left_out(0.95) == ""
    assert "does not show a recall of 99.90%" in made.left_out(0.999)
    assert "would not pay" in replace(made, passes=0.9).left_out(0.95)


def test_one_kind_of_sentences_teaches_nothing():
    rows = _rows(50, 1)
    events = rows.filter(rows["keep"])
    assert glancing.learned(events, rows, recall=0.999) is None
    assert glancing.learned(rows, events, recall=0.999) is None


def test_a_release_says_what_its_glance_keeps(looking, tiny):
    manifest = looking.manifest
    told = manifest.metrics["glance"]
    assert manifest.thresholds["glance"] == told["threshold"] <= 0
    assert FILE in manifest.files
    assert manifest.metrics["recall"]["glance"]["value"] >= 0.9
    found = judge(tiny.dataset.table("val"), looking, threads=1)
    positive = {id for id, truth in found.sample.truths.items() if truth.records}
    candidates, left = (found.kept[name] & positive for name in ("candidates", "glanced"))
    assert told["events"] == len(candidates)
    assert told["recall"] == pytest.approx(len(left) / len(candidates))
    assert found.rows["skip"] < found.rows["glance"]


def test_it_changes_nothing_but_what_it_drops(looking, tiny):
    chunk = marked(sentences(tiny.dataset.table("test").slice(0, 1500)))
    plain, looked = (Cascade(one, threads=1)(chunk) for one in (tiny.release, looking))
    rows = {row["id"]: row for row in plain.to_pylist() if row["id"]}
    passed = [row for row in looked.to_pylist() if row["id"]]
    assert len(passed) > 100
    for row in passed:
        assert row["answer"] == rows[row["id"]]["answer"]
    counts = ("candidates", "glanced", "kept")
    sums = [sum(filter(None, looked[name].to_pylist())) for name in counts]
    assert sums[0] > sums[1] > sums[2] == len(passed)
    glanced = sum(filter(None, plain["glanced"].to_pylist()))
    assert glanced == sum(filter(None, plain["candidates"].to_pylist()))


@pytest.mark.postgres
def test_a_backfill_counts_what_it_lets_through_and_its_seconds(looking, database):
    corpus = backfills.fill(database)
    work = backfills.work(corpus, looking)
    lines = backfills.finish(work, corpus)
    backfills.assert_undisturbed(corpus, looking)
    sums = {name: sum(line[name] for line in lines) for name in ("candidates", "glanced", "kept")}
    assert sums["candidates"] > sums["glanced"] > sums["kept"] > 10
    assert sum(line["glance_s"] for line in lines) > 0


def test_a_report_has_its_row_and_its_share_of_the_cost(looking, tiny, tmp_path):
    made = evaluate.run(
        evaluate.Config(
            dataset=str(tiny.dataset.folder), release=str(looking.folder), out=str(tmp_path),
            draws=20, baseline=False, threads=1,
        )
    )  # fmt: skip
    fall = made["waterfall"]["all"]
    assert fall["candidates"] >= fall["glanced"] >= fall["kept"]
    seconds = made["cost"]["student"]["core_seconds_by_stage"]
    assert 0 < seconds["glance"] < seconds["skip"]
    assert "prefilter and glance, validation" in (tmp_path / "report.html").read_text()
    assert "| prefilter | glance | skip |" in (tmp_path / "report.md").read_text()


def test_one_by_one_is_decided_as_in_a_batch(looking, tiny):
    texts = tiny.dataset.table("test")["text"].to_pylist()[:300]
    cascade = Cascade(looking, threads=1)
    together = cascade.decide(texts)
    dropped = [one for one in together if one.decision == "skip" and one.skip_score is None]
    assert dropped
    for text, decision in zip(texts[:60], together, strict=False):
        (alone,) = cascade.decide([text])
        assert (alone.decision, alone.answer) == (decision.decision, decision.answer)


def test_it_is_left_out_where_validation_cannot_show_it_and_where_it_is_not_wanted(tiny, tmp_path):
    told = tiny.release.manifest.metrics["glance"]
    assert "does not show a recall of 99.50%" in told["left_out"]
    assert told["recall_low"] < 0.995
    assert "glance" not in tiny.release.manifest.thresholds
    assert FILE not in tiny.release.manifest.files
    rows = tiny.dataset.table("val")
    nothing = Before(tmp_path, {}, 64, 1)
    assert nothing.look(rows, rows, recall=None, shown=0.9) == {"left_out": "not asked for"}
    assert nothing.spare(rows, shown=0.9) == {}
    with pytest.raises(SetupError, match="glance_shown=2"):
        compose("publish", publish.Config, ["glance_shown=2"])


def test_a_changed_or_missing_file_is_refused(looking, tmp_path):
    for spoil, message in ((_changed, "was changed after publishing"), (_gone, "is missing")):
        copy = shutil.copytree(looking.folder, tmp_path / spoil.__name__)
        spoil(copy / FILE)
        with pytest.raises(SetupError, match=message):
            release.verify(copy)
    broken = tmp_path / "broken"
    broken.write_bytes(b"no tensors")
    with pytest.raises(SetupError, match="no glance"):
        Glance.load(broken, threshold=0.0)


def _changed(file):
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def _gone(file):
    file.unlink()


def test_it_is_read_back_as_it_was_written(tmp_path):
    made = _glance(threshold=-0.5)
    made.save(tmp_path / FILE)
    back = Glance.load(tmp_path / FILE, threshold=-0.5)
    assert np.array_equal(back.weights, made.weights)
    assert (back.bias, back.threshold) == (0.25, -0.5)


def test_a_release_from_before_the_glance_lets_everything_pass(tiny, tmp_path):
    folder = shutil.copytree(tiny.release.folder, tmp_path / "release")
    manifest = json.loads((folder / release.MANIFEST).read_text())
    del manifest["metrics"]["glance"], manifest["metrics"]["recall"]["kept"]
    (folder / release.MANIFEST).write_text(json.dumps(manifest))
    texts = tiny.dataset.table("test")["text"].to_pylist()[:100]
    now, then = (Cascade(one, threads=1).decide(texts) for one in (tiny.release.folder, folder))
    assert now == then
