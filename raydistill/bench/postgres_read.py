"""How fast a large table is read into Arrow, beside `psql COPY ... (FORMAT binary)` to nothing.

Makes a table shaped like the teacher's events on a server of its own, reads all block ranges in
one process, reads them through Ray Data by two, and lets psql copy out the same columns, by turns.
"""

import multiprocessing
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import ray

from raydistill import pgread, pgserver, postgres
from raydistill.on_ray import cluster
from raydistill.on_ray.tables import table_dataset

# Some 735 bytes a row: a sentence of 300 characters, the answer's fields, and the raw answer.
_TABLE = """
CREATE SCHEMA kee;
CREATE TABLE kee.events (
    event_id bigint PRIMARY KEY, sentence_id text, filing_id text, sentence text, event_type text,
    subject text, object text, magnitude_class text, timing text, sentiment text,
    materiality text, confidence int, date_confidence int, event_date text, model text,
    created_at timestamptz, raw jsonb)"""

_FILL = """
INSERT INTO kee.events
SELECT i, 's' || i, 'f' || i / 40,
    left(repeat('Acme Holdings ' || i || ' agreed to acquire ' || md5(i::text) || ' for cash. ', 6),
        260 + (i % 80)::int),
    'acquisition_announced', 'Acme Holdings ' || i, CASE WHEN i % 4 > 0 THEN md5(i::text) END,
    'large', 'future', 'positive', 'high', (i % 10)::int + 1, (i % 11)::int,
    '2024-0' || i % 9 + 1 || '-15', 'teacher-7b', timestamptz '2024-01-01' + i * interval '1 s',
    jsonb_build_object('event_type', 'acquisition_announced', 'subject', 'Acme Holdings ' || i,
        'object', md5(i::text), 'timing', 'future', 'sentiment', 'positive', 'confidence', i % 10)
FROM generate_series(1, {rows}) AS i"""


READERS = 2


def run(rows: int = 3_000_000, rounds: int = 3) -> dict[str, float]:
    """Medians of `rounds`: `rows_per_second`, its `ratio_plain` to psql's, `peak_rss_mib`, and
    `ratio_ray`, that of READERS read tasks of Ray Data at a time, Ray's start apart.

    The peak is that of a process that does nothing but read (its imports included): a fresh one,
    or one of Ray's workers, whichever is larger.
    """
    with tempfile.TemporaryDirectory(prefix="raydistill-bench-") as folder:
        try:
            dsn = pgserver.start(Path(folder) / "pg")
            row_bytes = _fill(dsn, rows)
            reads: list[tuple[int, float, float]] = []
            rays: list[tuple[int, float, float]] = []
            plain: list[float] = []
            cluster.start(cpus=READERS)
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                for _ in range(rounds):
                    reads.append(pool.apply(_read, (dsn,)))
                    plain.append(_psql(dsn))
                    rays.append(_ray(dsn))
        finally:
            ray.shutdown()
            pgserver.remove(Path(folder) / "pg")
    if any(read[0] != rows for read in [*reads, *rays]):
        raise AssertionError(f"read {[read[0] for read in [*reads, *rays]]} rows of {rows}")
    ours_s, psql_s = statistics.median(r[1] for r in reads), statistics.median(plain)
    ray_s = statistics.median(r[1] for r in rays)
    found = {
        "rows": float(rows),
        "bytes_per_row": row_bytes,
        "rows_per_second": rows / ours_s,
        "psql_rows_per_second": rows / psql_s,
        "mib_per_second": rows * row_bytes / ours_s / 2**20,
        "ray_rows_per_second": rows / ray_s,
        "ratio_plain": psql_s / ours_s,
        "ratio_ray": psql_s / ray_s,
        "peak_rss_mib": max(read[2] for read in [*reads, *rays]),
    }
    for name, value in found.items():
        print(f"{name:22}{value:14,.2f}")
    return found


def _fill(dsn: str, rows: int) -> float:
    """Make the table; the mean size of a row in bytes."""
    with postgres.connect(dsn) as connection:
        postgres.script(connection, _TABLE)
        postgres.script(connection, _FILL.replace("{rows}", str(rows)))
        connection.commit()
        connection.autocommit = True
        postgres.script(connection, "VACUUM ANALYZE kee.events")
        query = "SELECT pg_relation_size('kee.events') / count(*)::float8 FROM kee.events"
        return postgres.fetch(connection, query)[0][0]


def _columns(dsn: str) -> dict[str, str]:
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = 'kee.events'::regclass AND attnum > 0"
    )
    return {name: name for (name,) in postgres.fetch(dsn, f"{query} ORDER BY attnum")}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ray(dsn: str) -> tuple[int, float, float]:
    """The same through Ray Data: every row reaches a task that counts it, as a stage would."""

    def count(batch: pa.Table) -> pa.Table:
        return pa.table({"rows": [batch.num_rows], "peak": [_peak_mib()]})

    columns = _columns(dsn)
    started = time.perf_counter()
    with pgread.snapshot(dsn, "kee.events") as name:
        rows = table_dataset(dsn, "kee.events", columns, snapshot=name, connections=READERS)
        counted = rows.map_batches(count, batch_size=None, batch_format="pyarrow").to_pandas()
    seconds = time.perf_counter() - started
    return int(counted["rows"].sum()), seconds, float(counted["peak"].max())


def _read(dsn: str) -> tuple[int, float, float]:
    """Rows read, seconds, and this process's peak in MiB."""
    columns = _columns(dsn)
    started, rows = time.perf_counter(), 0
    with pgread.snapshot(dsn, "kee.events") as name:
        for each in pgread.ranges(dsn, "kee.events"):
            for batch in pgread.read_range(dsn, "kee.events", columns, each, snapshot=name):
                rows += batch.num_rows
    return rows, time.perf_counter() - started, _peak_mib()


def _psql(dsn: str) -> float:
    """Seconds that psql takes for the same columns, thrown away."""
    copy = "COPY (SELECT * FROM kee.events) TO STDOUT (FORMAT binary)"
    command = [str(pgserver.binaries() / "psql"), "-qXd", dsn, "-c", copy]
    started = time.perf_counter()
    with Path(os.devnull).open("wb") as nothing:
        subprocess.run(command, stdout=nothing, check=True)
    return time.perf_counter() - started
