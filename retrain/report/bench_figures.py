"""Read from bench.json what was measured of the files that a run has now."""

from dataclasses import replace
from hashlib import sha256

from bench import record as bench_record
from bench.record import BenchRecord, RunnerRecord
from retrain.run_folder import RunFolder


def read_bench(run: RunFolder) -> tuple[BenchRecord, ...]:
    """Return the records in bench.json, without the figures of files that `run` no longer has.

    The files are the graph, the model, and the models of recipes. A record that is left without
    figures is left out; without a bench.json there is none. Raises BadData if it is damaged.
    """
    if not run.bench.exists():
        return ()
    records = bench_record.read(run.bench, f"run `{run.command('bench')}`")
    recipes = run.recipe("any").parent.glob("*.tflite")
    paths = [path for path in (run.graph, run.model, *recipes) if path.is_file()]
    digests = {sha256(path.read_bytes()).hexdigest() for path in paths}
    present = (
        replace(record, runners=tuple(item for item in record.runners if item.sha256 in digests))
        for record in records
    )
    return tuple(record for record in present if record.runners)


def runner_of(record: BenchRecord, digest: str) -> RunnerRecord | None:
    """Return the figures of the file with the SHA-256 `digest` on the fewest threads.

    Of several runtimes the first of the record is taken; None without figures of the file.
    """
    runners = [runner for runner in record.runners if runner.sha256 == digest]
    return min(runners, key=lambda runner: runner.threads, default=None)
