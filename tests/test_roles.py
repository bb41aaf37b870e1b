"""The roles of docs/cluster/roles.sql can do what their verbs do, and nothing else."""

import secrets
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from raydistill import events, postgres
from raydistill.demo.world import world, write
from raydistill.errors import SetupError
from raydistill.tasks import TASKS

SQL = Path(__file__).parents[1] / "docs" / "cluster" / "roles.sql"
pytestmark = pytest.mark.postgres


@pytest.fixture
def logins(database):
    """DSNs of a reader and a writer; the roles are the script's, under names of this test's own."""
    write(world(seed=2, filings=2, companies=2, sentences_per_filing=5), database)
    mark = secrets.token_hex(4)
    names = [f"{kind}_{mark}" for kind in ("raydistill_reader", "raydistill_writer")]
    script = SQL.read_text()
    for kind, name in zip(("raydistill_reader", "raydistill_writer"), names, strict=True):
        script = script.replace(kind, name)
    password = secrets.token_hex(8)
    with postgres.connect(database) as connection:
        connection.autocommit = True
        postgres.script(connection, script)
        for name in names:
            postgres.script(
                connection,
                f"CREATE ROLE {name}_login LOGIN PASSWORD '{password}' IN ROLE {name};"
                f"ALTER ROLE {name}_login SET role = {name}",
            )
        try:
            yield [make_conninfo(database, user=f"{n}_login", password=password) for n in names]
        finally:
            for name in (*(f"{n}_login" for n in names), *reversed(names)):
                postgres.script(connection, f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def _refused(dsn, statement):
    with pytest.raises((SetupError, psycopg.Error)), postgres.connect(dsn) as connection:
        postgres.script(connection, statement)


def test_a_reader_reads_and_writes_nothing(logins):
    reader, _ = logins
    assert postgres.fetch(reader, "SELECT count(*) > 0 FROM kee.sentences") == [(True,)]
    _refused(reader, "DELETE FROM kee.events")
    _refused(reader, "CREATE TABLE raydistill.mine (a int)")
    _refused(reader, "CREATE TABLE public.mine (a int)")


def test_a_writer_prepares_and_writes_output_but_not_the_teachers_tables(logins):
    reader, writer = logins
    task = TASKS["filing_events"]
    events.prepare(writer, task)
    events.prepare(writer, task)
    with postgres.connect(writer) as connection:
        postgres.script(
            connection, "INSERT INTO raydistill.runs VALUES ('one', 'release', 'print', '{}')"
        )
    assert postgres.fetch(reader, "SELECT run FROM raydistill.runs") == [("one",)]
    _refused(reader, "DELETE FROM raydistill.runs")
    _refused(writer, "UPDATE kee.sentences SET sentence = ''")
    _refused(writer, "CREATE SCHEMA another")
