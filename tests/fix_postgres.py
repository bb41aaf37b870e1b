"""A PostgreSQL server for the tests: the one in RAYDISTILL_TEST_DSN, else one of our own."""

import os
import secrets
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from raydistill import pgserver, postgres


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a server on which databases and roles may be made."""
    if given := os.environ.get("RAYDISTILL_TEST_DSN"):
        yield given
        return
    folder = tmp_path_factory.mktemp("postgres")
    try:
        yield pgserver.start(folder)
    finally:
        pgserver.remove(folder)


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[str]:
    """The DSN of an empty database, dropped after the test; so is a role NAME_reader."""
    name = f"raydistill_test_{secrets.token_hex(6)}"
    with postgres.connect(postgres_dsn) as connection:
        connection.autocommit = True
        postgres.script(connection, f"CREATE DATABASE {name}")
        try:
            yield make_conninfo(postgres_dsn, dbname=name)
        finally:
            postgres.script(connection, f"DROP DATABASE {name} WITH (FORCE)")
            postgres.script(connection, f"DROP ROLE IF EXISTS {name}_reader")
