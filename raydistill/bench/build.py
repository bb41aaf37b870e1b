"""What building a dataset costs a row, for two sizes of the teacher's table.

Makes tables like a production teacher's on a server of its own: `rows` events on five sixths as
many sentences, and as many sentences again without one. Seconds and memory are those of build
alone, in processes of its own.
"""

import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

from raydistill import build, pgserver, postgres
from raydistill.source import SourceConfig

# Every fifth event stands on the sentence of another; 40 sentences a filing, 5 filings a company.
# Twenty words of a vocabulary of 4,096, so that texts are neither copies nor near-duplicates.
_TABLES = r"""
CREATE SCHEMA kee;
CREATE UNLOGGED TABLE kee.filings (filing_id text, cik text, form text, filed_at date,
    teacher_done_at timestamptz);
CREATE UNLOGGED TABLE kee.sentences (sentence_id text, filing_id text, position int, sentence text);
CREATE UNLOGGED TABLE kee.events (event_id bigint, sentence_id text, filing_id text, sentence text,
    event_type text, subject text, object text, magnitude_class text, timing text, sentiment text,
    materiality text, confidence int, date_confidence int, event_date text, model text,
    created_at timestamptz, raw jsonb);
CREATE FUNCTION pg_temp.words(seed bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(translate(md5(seed::text) || md5((seed * 7)::text), '0123456789',
        'ghijklmnop'), '(...)', '\1 ', 'g') $$;
INSERT INTO kee.filings SELECT 'f' || i, 'c' || i / 5, '8-K', date '2015-01-01' + i % 3650,
    CASE WHEN i % 10 > 0 THEN now() END FROM generate_series(0, {rows} / 24 + 1) AS i;
INSERT INTO kee.sentences SELECT 's' || i, 'f' || i / 40, i % 40,
    CASE WHEN i % 2 = 0 THEN 'On March ' || i % 28 + 1 || ', 2024 Acme Holdings ' || i
        || ' announced that it acquired the business of ' || md5(i::text) || ' with '
        || pg_temp.words(i)
    ELSE 'The Company may ' || (ARRAY['at times', 'announced', 'in general', 'as noted'])[i % 4 + 1]
        || ' ' || pg_temp.words(i) END || '.'
    FROM generate_series(0, {rows} * 5 / 3) AS i;
INSERT INTO kee.events SELECT i, 's' || s, 'f' || s / 40,
    'On March ' || s % 28 + 1 || ', 2024 Acme Holdings ' || s
        || ' announced that it acquired the business of ' || md5(s::text) || ' with '
        || pg_temp.words(s) || '.',
    (ARRAY['completed_acquisition', 'acquired_assets', 'announced_acquisition'])[i % 3 + 1],
    'Acme Holdings ' || s, md5(s::text), (ARRAY['minor', 'moderate', 'major'])[i % 3 + 1],
    'definitive', 'neutral', 'material', i % 10 + 1, 10,
    '2024-03-' || lpad((s % 28 + 1)::text, 2, '0'),
    'teacher-7b', timestamptz '2024-01-01', jsonb_build_object('confidence', i % 10)
    FROM (SELECT i, 2 * (i - i / 6) AS s FROM generate_series(0, {rows} - 1) AS i) AS each"""


def run(rows: tuple[int, int] = (300_000, 3_000_000)) -> dict[str, float]:
    """`growth` of seconds a row from the first size to the second; of the second, its
    `rows_per_second` and `peak_rss_mib`, the largest process's."""
    seconds: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for size in rows:
        with tempfile.TemporaryDirectory(prefix="raydistill-bench-") as folder:
            try:
                dsn = pgserver.start(Path(folder) / "pg")
                _fill(dsn, size)
                seconds[size], peaks[size] = _build(dsn, Path(folder))
            finally:
                pgserver.remove(Path(folder) / "pg")
        print(f"{size:,} rows: {seconds[size]:.1f} s, {peaks[size]:,.0f} MiB at most", flush=True)
    small, large = rows
    return {
        "growth": (seconds[large] / large) / (seconds[small] / small),
        "rows_per_second": large / seconds[large],
        "peak_rss_mib": peaks[large],
        "seconds": seconds[large],
        "seconds_small": seconds[small],
    }


def _fill(dsn: str, rows: int) -> None:
    with postgres.connect(dsn) as connection:
        postgres.script(connection, _TABLES.replace("{rows}", str(rows)))
        connection.commit()
        connection.autocommit = True
        postgres.script(connection, "VACUUM ANALYZE kee.events")
        postgres.script(connection, "VACUUM ANALYZE kee.sentences")


def _build(dsn: str, folder: Path) -> tuple[float, float]:
    """Seconds of a build in a fresh process, and the peak of it and of its workers in MiB."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(dsn, str(folder)))
    began = time.perf_counter()
    process.start()
    peak = _Peak(process.pid or 0)
    process.join()
    seconds = time.perf_counter() - began
    if process.exitcode:
        raise AssertionError(f"build ended with {process.exitcode}")
    return seconds, peak.stop()


def _run(dsn: str, folder: str) -> None:
    source = SourceConfig(dsn=dsn)  # confidences of 1 to 10 in equal parts, and every row is built
    out = f"{folder}/dataset"
    build.run(build.Config(source=source, out=out, negatives=1.0, confidence=0))


class _Peak:
    """Watches a process and its children (Linux): the largest VmHWM of any, in MiB."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peaks, self.done = pid, dict[int, float](), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self) -> float:
        """The peak so far; ends the watch."""
        self.done.set()
        self.thread.join()
        return max(self.peaks.values(), default=0.0)

    def _watch(self) -> None:
        while not self.done.wait(0.2):
            for pid in _family(self.pid):
                try:
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except OSError:
                    continue
                found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
                self.peaks[pid] = max(self.peaks.get(pid, 0.0), *[n / 1024 for n in found], 0.0)


def _family(pid: int) -> list[int]:
    """The process and all below it."""
    parents: dict[int, int] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                stat = (each / "stat").read_text()
            except OSError:
                continue
            parents[int(each.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found
