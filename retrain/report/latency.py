"""Show how long the files of a run take: what `retrain bench` and a device measured."""

from deploy.system.counts import with_noun
from retrain.report.bench_figures import runner_of
from retrain.report.page_values import LatencyRow
from retrain.report.run_inputs import RunInputs


def latency_rows(inputs: RunInputs) -> tuple[LatencyRow, ...]:
    """Return a row for each runner of the bench, and one for the device."""
    rows = []
    for record in inputs.bench:
        machine = f"{record.machine.cpu}, {with_noun(record.machine.cores, 'core')}"
        for runner in record.runners:
            ms = runner.ms
            threads = with_noun(runner.threads, "thread")
            where = f"{machine}, {runner.runtime} {runner.version}, {threads}"
            star = "*" if runner.is_busy else ""
            texts = (
                f"{star}{ms.p50:.2f}",
                f"{ms.p90:.2f}",
                f"{ms.p99:.2f}",
                megabytes(runner.size_bytes),
                f"{runner.peak_rss_bytes / 1e6:.0f} MB",
            )
            rows.append(LatencyRow(runner.model, where, texts))
    device_ms = call_on_device(inputs)
    if inputs.device and device_ms is not None:
        test = inputs.device.selftest
        runtime = f", {test.runtime.name} {test.runtime.version}" if test.runtime else ""
        size = megabytes(test.bytes) if test.bytes else ""
        where = f"{inputs.device.host}, {test.device.board or test.device.cpu}{runtime}"
        rows.append(LatencyRow("model.tflite", where, (f"{device_ms:.2f}", "", "", size, "")))
    return tuple(rows)


def call_on_device(inputs: RunInputs) -> float | None:
    """Return the milliseconds of the self-test's call of the network on the device, if measured."""
    return (inputs.device.selftest.ms or {}).get("invoke") if inputs.device else None


def time_of_call(inputs: RunInputs, digest: str) -> str:
    """Return the median time of a call of the file with the SHA-256 `digest`, as the bench has it.

    With several machines, the times of all are returned in one text.
    """
    runners = [runner_of(record, digest) for record in inputs.bench]
    measured = [
        f"{runner.ms.p50:.1f} ms" + " (busy machine)" * runner.is_busy
        for runner in runners
        if runner
    ]
    return " / ".join(measured) if measured else "not measured"


def megabytes(count: int) -> str:
    """Return `count` bytes in megabytes, in words."""
    return f"{count / 1e6:.1f} MB"
