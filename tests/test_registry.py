import copy
import pickle
import shutil

import pytest

from raydistill import registry, release
from raydistill.answer import Answer
from raydistill.errors import SetupError
from raydistill.proof import model_card
from raydistill.proof.gates import Gates, refusals
from raydistill.shadow import CascadeStudent
from raydistill.task import task as made_task

GATES = Gates(max_parity=1.0)
INTERVAL = {"value": 0.97, "low": 0.95, "high": 0.98}


def _report(name, **changes):
    """A report that passes every gate, but for `changes`."""
    part = {"f1": 0.97, "agreement_low": 0.95, "agreement_high": 0.98, "truth": 900}
    fall = {"teacher": 900, "found": 890, "rates": {"found": INTERVAL}}
    made = {
        "release": name,
        "rows": 3000,
        "companies": 40,
        "extractor": {"all": part},
        "waterfall": {"all": fall},
        "invented_per_1000": 1.0,
        "slices": [{"kind": "form", "part": "10-K", "f1": dict(INTERVAL)}],
        "event_types": [{"part": "declared_dividend", "f1": dict(INTERVAL)}],
    }
    made = copy.deepcopy(made)
    for key, value in changes.items():
        if key in ("f1", "agreement_low"):
            made["extractor"]["all"][key] = value
        elif key == "found":
            made["waterfall"]["all"][key] = value
        elif key == "form":
            made["slices"][0]["f1"] = value
        else:
            made[key] = value
    return made


def _variant(tiny, folder, *, threshold=0.2, task=None, label="tiny", licence="MIT", **metrics):
    """Another release of the same models: another threshold, so other answers."""
    source, old = tiny.release.folder, tiny.release.manifest

    def fill(made):
        for name in old.files:
            if name != "task.json":
                (made / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / name, made / name)
        return {**old.metrics, **metrics}

    return release.write(
        folder, fill, task=task or tiny.release.task, label=label, dataset=old.dataset, base=None,
        adapter=None, quantisation=old.quantisation, shapes=old.shapes,
        thresholds={"skip": threshold}, licence=licence,
    )  # fmt: skip


REFUSED = (
    ({}, {"f1": 0.9}, "below min_agreement 95.0%"),
    ({}, {"agreement_low": 0.9}, "below min_agreement_low"),
    ({}, {"found": 700}, "below min_event_recall"),
    ({}, {"invented_per_1000": 9.0}, "above max_invented_per_1000"),
    ({"max_size_mib": 0.01}, {}, "above max_size_mib"),
    ({"max_parity": -1.0}, {}, "quantised and master differ"),
    ({}, {"form": {"value": 0.8, "low": 0.7, "high": 0.9}}, "form 10-K: at best 90.0%"),
    ({"slice": "unseen"}, {}, "no slice 'unseen'"),
)


@pytest.mark.parametrize(("gates", "changes", "reason"), REFUSED)
def test_each_gate_refuses_with_its_reason(tiny, gates, changes, reason):
    limits = Gates(**{"max_parity": 1.0, **gates})
    name = tiny.release.name
    found = refusals(tiny.release, _report(name, **changes), _report("other"), limits)
    assert len(found) == 1
    assert reason in found[0]


def test_a_good_report_passes_and_a_missing_one_does_not(tiny, tmp_path):
    name = tiny.release.name
    assert refusals(tiny.release, _report(name), _report("other"), GATES) == []
    assert "it has no report" in refusals(tiny.release, None, None, GATES)[0]
    bare = _variant(tiny, tmp_path / "bare", licence="")
    assert "no licence" in refusals(bare, _report(bare.name), None, GATES)[0]


@pytest.mark.postgres
def test_promotion_itself_is_refused_by_each_gate_and_moves_nothing(tiny, database, tmp_path):
    registry.prepare(database)
    name = tiny.release.name
    first = _variant(tiny, tmp_path / "first", threshold=0.3)
    registry.publish(database, first.folder, _report(first.name))
    for _ in range(2):
        registry.promote(database, first.name, GATES)
    for gates, changes, reason in REFUSED:
        registry.publish(database, tiny.release.folder, _report(name, **changes))
        with pytest.raises(SetupError) as refused:
            registry.promote(database, name, Gates(**{"max_parity": 1.0, **gates}))
        assert reason in str(refused.value)
        assert registry.entry(database, name).stage == "candidate"
    assert registry.production(database, "tiny").name == first.name


def test_noise_in_a_small_slice_refuses_nobody(tiny):
    wide = {"value": 0.8, "low": 0.5, "high": 0.99}
    report = _report(tiny.release.name, form=wide)
    assert refusals(tiny.release, report, _report("other"), GATES) == []


@pytest.mark.postgres
def test_a_release_is_promoted_replaced_and_rolled_back_with_the_same_answers(
    tiny, database, tmp_path
):
    registry.prepare(database)
    first, second = tiny.release, _variant(tiny, tmp_path / "second", threshold=0.9)
    link = tmp_path / "production"
    rows = tiny.dataset.table("test").slice(0, 150)
    before = CascadeStudent(first, threads=1)(rows)
    for one in (first, second):
        registry.publish(database, one.folder, _report(one.name))
        registry.promote(database, one.name, GATES, link=str(link))
        assert registry.promote(database, one.name, GATES, link=str(link)).stage == "production"
    stages = {one.name: one.stage for one in registry.entries(database, "tiny")}
    assert stages == {first.name: "retired", second.name: "production"}
    other = CascadeStudent(release.verify(link.resolve()), threads=1)(rows)
    assert [str(one) for one in other] != [str(one) for one in before]

    back = registry.rollback(database, "tiny", reason="too few events", link=str(link))
    assert back.name == first.name
    again = CascadeStudent(release.verify(link.resolve()), threads=1)(rows)
    assert [str(one) for one in again] == [str(one) for one in before]
    assert any(isinstance(one, Answer) and one.records for one in again)
    with pytest.raises(SetupError, match="nothing to roll back"):
        registry.rollback(database, "tiny")


@pytest.mark.postgres
def test_promotion_is_refused_for_what_the_files_say(tiny, database, tmp_path):
    registry.prepare(database)
    one = _variant(tiny, tmp_path / "one", threshold=0.5)
    registry.publish(database, one.folder, _report(one.name, f1=0.5, invented_per_1000=50))
    with pytest.raises(SetupError, match="min_agreement") as refused:
        registry.promote(database, one.name, GATES)
    assert "max_invented_per_1000" in str(refused.value)
    with pytest.raises(SetupError, match="promote it to canary first"):
        registry.promote(database, one.name, GATES, to="production")
    with pytest.raises(SetupError, match="the report is of"):
        registry.publish(database, one.folder, _report("somebody-else"))
    registry.publish(database, one.folder, _report(one.name))
    with (one.folder / "keywords.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(SetupError, match="changed after publishing"):
        registry.promote(database, one.name, GATES)
    with pytest.raises(SetupError, match="no release nobody"):
        registry.promote(database, "nobody", GATES)


@pytest.mark.postgres
def test_a_release_of_another_task_cannot_replace_production(tiny, database, tmp_path):
    registry.prepare(database)
    name = tiny.release.name
    registry.publish(database, tiny.release.folder, _report(name))
    for _ in range(2):
        registry.promote(database, name, GATES)
    fields = tiny.release.task.spec()
    other = made_task(fields | {"fields": fields["fields"][:-1]})
    foreign = _variant(tiny, tmp_path / "foreign", task=other)
    registry.publish(database, foreign.folder, _report(foreign.name))
    with pytest.raises(SetupError, match="expected: that of production"):
        registry.promote(database, foreign.name, GATES)
    with pytest.raises(SetupError, match="answers task"):
        release.verify(foreign.folder, expected=tiny.release.task)


@pytest.mark.postgres
def test_two_releases_are_compared_by_what_differs(tiny, database, tmp_path):
    registry.prepare(database)
    counts = {"train": {"rows": 7, "events": 3, "companies": 2}}
    other = _variant(tiny, tmp_path / "other", threshold=0.4, data=counts)
    registry.publish(database, tiny.release.folder, _report(tiny.release.name))
    registry.publish(database, other.folder, _report(other.name, f1=0.96))
    names = (tiny.release.name, other.name)
    found = registry.diff(*(registry.entry(database, name) for name in names))
    assert ("thresholds.skip", 0.2, 0.4) in found
    assert ("metrics.f1", 0.97, 0.96) in found
    assert ("licence", "Apache-2.0", "MIT") in found
    rows = tiny.dataset.manifest["counts"]["train"]["rows"]
    assert ("data.train.rows", rows, 7) in found
    assert "calibration.ece" in {one[0] for one in found}  # the other has no calibration
    assert not [one for one in found if one[0].startswith("shapes")]
    assert not [one for one in found if isinstance(one[1], list | dict)]


def test_pickles_are_refused_whatever_their_name(tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    folder = tmp_path / "copy"
    shutil.copytree(tiny.release.folder, folder)
    (folder / "extra.json").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SetupError, match=r"extra\.json is of an unsafe format"):
        release.verify(folder)
    (folder / "extra.json").rename(folder / "extra.PKL")
    with pytest.raises(SetupError, match="unsafe format"):
        release.verify(folder)


def test_a_card_states_terms_quality_and_every_hash(tiny):
    card = model_card.markdown(tiny.release.manifest, _report(tiny.release.name))
    assert "Apache-2.0" in card
    assert "97.0%" in card
    assert all(digest in card for digest in tiny.release.manifest.files.values())
    assert "Not evaluated." in model_card.markdown(tiny.release.manifest, None)
