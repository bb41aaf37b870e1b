"""Ten faults are planted, each alone in a setup that is otherwise well; doctor finds each."""

import shutil
from dataclasses import replace

import pytest

from raydistill import doctor, postgres
from raydistill.backfill import ScaleConfig
from raydistill.checks.finding import Health
from raydistill.checks.machine import GIB, Machine
from raydistill.demo.world import world, write
from raydistill.on_ray.survey import Node
from raydistill.source import SourceConfig

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def sentences(postgres_dsn):
    """A database with a small world in it."""
    from psycopg.conninfo import make_conninfo

    with postgres.connect(postgres_dsn) as connection:
        connection.autocommit = True
        postgres.script(connection, "CREATE DATABASE raydistill_doctor")
        dsn = make_conninfo(postgres_dsn, dbname="raydistill_doctor")
        write(world(seed=2, filings=6, companies=3, sentences_per_filing=30), dsn)
        yield dsn
        postgres.script(connection, "DROP DATABASE raydistill_doctor WITH (FORCE)")


@pytest.fixture
def machine(tmp_path):
    """A machine that is well: its files say so."""
    for name in ("proc", "cgroup", "shm"):
        (tmp_path / name).mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nflags : fpu sse avx2 avx512_vnni\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 16777216 kB\n")
    (tmp_path / "shm/size").write_text(str(4 * GIB))
    return Machine(proc=tmp_path / "proc", cgroup=tmp_path / "cgroup", shm=tmp_path / "shm")


@pytest.fixture
def config(sentences, tiny, tmp_path):
    return doctor.Config(
        root=str(tmp_path),
        source=SourceConfig(dsn=sentences),
        release=str(tiny.release.folder),
        scale=ScaleConfig(threads=1),
        disk_gib=0.001,
        speed_s=0.1,
        slow=1,
        ray=False,
    )


def _table(config: SourceConfig, name: str, **changes) -> SourceConfig:
    return replace(config, **{name: replace(getattr(config, name), **changes)})


def _bad(config, machine):
    """The names of what is not well, with what to do."""
    found = [f for f in doctor.run(config, machine) if f.health in (Health.fail, Health.warn)]
    return {one.name: one for one in found}


def test_a_setup_that_is_well_has_no_findings(config, machine, capsys):
    assert _bad(config, machine) == {}
    assert "0 failed, 0 warnings" in capsys.readouterr().out


def _no_avx2(config, machine, tmp_path):
    (machine.proc / "cpuinfo").write_text("flags : fpu sse sse4_2\n")
    return config, machine


def _little_memory(config, machine, tmp_path):
    (machine.cgroup / "memory.max").write_text(str(GIB))
    return config, machine


def _few_cores(config, machine, tmp_path):
    (machine.cgroup / "cpu.max").write_text("50000 100000\n")
    return config, machine


def _small_shm(config, machine, tmp_path):
    (machine.shm / "size").write_text(str(64 * 2**20))
    return config, machine


def _no_disk(config, machine, tmp_path):
    return replace(config, disk_gib=1e9), machine


def _old_python(config, machine, tmp_path):
    return config, replace(machine, python=(3, 9, 1))


def _database_down(config, machine, tmp_path):
    down = replace(config.source, dsn="postgresql://me@127.0.0.1:9/none")
    return replace(config, source=down), machine


def _column_renamed(config, machine, tmp_path):
    columns = {**config.source.sentences.columns, "text": "body"}
    return replace(config, source=_table(config.source, "sentences", columns=columns)), machine


def _changed_release(config, machine, tmp_path):
    shutil.copytree(config.release, tmp_path / "release")
    (tmp_path / "release/keywords.txt").write_text("another\n")
    return replace(config, release=str(tmp_path / "release")), machine


def _another_task(config, machine, tmp_path):
    return replace(config, task="query_kind", source=replace(config.source, dsn=None)), machine


FAULTS = {
    "processor": _no_avx2,
    "memory": _little_memory,
    "threads": _few_cores,
    "shm": _small_shm,
    "disk": _no_disk,
    "python": _old_python,
    "postgres": _database_down,
    "sentences": _column_renamed,
    "release": _changed_release,
    "release ": _another_task,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_alone_with_what_to_do(name, config, machine, tmp_path):
    config, machine = FAULTS[name](config, machine, tmp_path)
    bad = _bad(config, machine)
    assert list(bad) == [name.strip()]
    assert bad[name.strip()].todo
    assert "\n" not in bad[name.strip()].line()


def test_tables_without_index_rows_or_a_finished_reading_are_found(config, machine, database):
    write(world(seed=2, filings=3, companies=3, sentences_per_filing=5, unread=1.0), database)
    with postgres.connect(database) as connection:
        indexes = postgres.fetch(
            connection,
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisprimary"
            " AND indrelid = 'kee.sentences'::regclass",
        )
        for (name,) in indexes:
            postgres.script(connection, f"DROP INDEX {name}")
        postgres.script(connection, "DELETE FROM kee.events")
    config.source.dsn = database
    assert {"index", "events", "negatives"} <= set(_bad(config, machine))


def test_a_password_in_the_dsn_is_found_and_not_repeated(config, machine):
    config.source.dsn = "postgresql://me:secret@127.0.0.1:9/none"
    finding = _bad(config, machine)["postgres"]
    assert "secret" not in finding.line()
    assert ".pgpass" in finding.line()


def test_a_cluster_with_missing_nodes_or_other_versions_is_found():
    one = Node("10.0.0.1:1", 16, 3, "3.11.7", "2.60.0", "0.1.0")
    two = replace(one, address="10.0.0.2:1", gpus=0, ray="2.59.0")
    found = list(doctor.judged([one, two], nodes=3, gpus=3))
    assert [f.name for f in found if f.health is Health.fail] == ["ray", "versions"]
    assert "2.59.0 on 10.0.0.2:1" in found[-1].found
    assert {f.health for f in doctor.judged([one, one], nodes=2, gpus=3)} == {Health.ok}


def test_the_job_exits_with_one_where_something_failed(monkeypatch, tmp_path):
    import sys

    from raydistill.__main__ import main

    words = ["doctor", f"root={tmp_path}", "release=nowhere", "ray=false", "disk_gib=0.001"]
    monkeypatch.setattr(sys, "argv", ["raydistill", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
