"""Show one record of `retrain bench`, or several side by side, as text or Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.machine import BUSY_SHARE
from bench.match_runners import Key, runners_by_key
from bench.record import BenchRecord, RunnerRecord
from deploy.system.counts import with_noun
from deploy.system.machine import NO_FAST_INT8, lacks_fast_int8
from deploy.system.terminal import align, printable

Row = Sequence[str]
Runners = Mapping[Key, RunnerRecord]
_TEXT_COLUMNS = {"model", "runtime", "delegate", "operator"}
_MAX_OPERATORS = 10


def report(record: BenchRecord, markdown: bool = False) -> str:
    """Return the machine, the tables of all runners, and remarks."""
    runners = runners_by_key([record])[0]
    blocks = [
        lines(machine_lines(record), markdown),
        _latency_table(runners, record, markdown),
        lines(
            [
                f"ratio: p50 against that of {record.references} on as many threads, "
                "with its 95% interval"
            ]
        ),
        _cost_table(runners, record, markdown),
        "decode to total: ms of a photo, from its bytes to scores",
        *(
            _operator_table(key, runner, markdown)
            for key, runner in runners.items()
            if runner.operators
        ),
        lines(remarks(record), markdown),
    ]
    return ("\n\n" if markdown else "\n").join(block for block in blocks if block)


def side_by_side(records: Sequence[BenchRecord], markdown: bool = False) -> str:
    """Return a table with columns of p50 and ratio for each record, and their machines."""
    matched = runners_by_key(records)
    head = ["model", "runtime", "threads"]
    for i in range(len(records)):
        head += [f"[{i + 1}] p50 ms", f"[{i + 1}] ratio"]
    rows = [head]
    for key in dict.fromkeys(key for runners in matched for key in runners):
        cells = [key.model, key.where, str(key.threads)]
        for runners in matched:
            runner = runners.get(key)
            cells += [marked_p50(runner), f"{runner.ratio_p50:.2f}"] if runner else ["-", "-"]
        rows.append(cells)
    legend = [
        f"[{i + 1}] ratio: p50 against that of {record.references} on as many threads"
        for i, record in enumerate(records)
    ]
    machines = []
    for i, record in enumerate(records):
        first, *rest = machine_lines(record)
        machines.append(lines((f"[{i + 1}] {first}", *rest, *remarks(record)), markdown))
    footer = lines([*legend, *_differing_files(matched)], markdown)
    return "\n\n".join([*machines, render(rows, markdown), footer])


def render(rows: Sequence[Row], markdown: bool = False) -> str:
    """Return `rows`, the first with the names of columns, as text; figures are right-aligned."""
    rows = [tuple(map(printable, row)) for row in rows]
    is_text = [name in _TEXT_COLUMNS for name in rows[0]]
    if markdown:
        rule = ["---" if text else "---:" for text in is_text]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
    return "\n".join(align(rows, [i for i, text in enumerate(is_text) if text]))


def lines(texts: Iterable[str], markdown: bool = False) -> str:
    """Return a line for each text; in Markdown, which would join them, a list."""
    return "\n".join(f"- {printable(text)}" if markdown else printable(text) for text in texts)


def marked_p50(runner: RunnerRecord) -> str:
    """Return the p50, with a star if the machine was busy meanwhile."""
    return f"{'*' if runner.is_busy else ''}{runner.ms.p50:.2f}"


def machine_lines(record: BenchRecord) -> list[str]:
    """Return lines on the machine, the system and the settings."""
    machine, settings = record.machine, record.settings
    before, after = record.state.before, record.state.after
    memory_gb = machine.memory_bytes and machine.memory_bytes / 1e9
    hardware = [
        f"{machine.cpu} ({machine.architecture}), {with_noun(machine.cores, 'core')}",
        _format(before.mhz, "{:.0f} MHz", ""),
        _format(machine.governor, "governor {}", ""),
        _format(memory_gb, "{:.1f} GB", ""),
        _format(after.celsius, "{:.0f} degrees", ""),
        _format(after.throttled, "get_throttled {:#x}", ""),
    ]
    software = [machine.os, f"Python {machine.python}"]
    if before.load is not None and after.load is not None:
        software.append(f"load {before.load:.1f} before, {after.load:.1f} after")
    peaks = ", ".join(
        f"{gmacs:.0f} GMAC/s on {threads}" for threads, gmacs in record.peak_gmacs.items()
    )
    return [
        ", ".join(filter(None, hardware)),
        ", ".join(software),
        f"{with_noun(settings.rounds, 'round')} in random order, a new process each: warmed up, "
        f"then {with_noun(settings.runs, 'call')} or {settings.seconds:g} s, batch 1",
        f"the best of numpy's float32 products by threads: {peaks}",
    ]


def remarks(record: BenchRecord) -> Iterable[str]:
    """Yield what did not run, what disturbed the rounds, and what explains slow figures."""
    yield from dict.fromkeys(map(str, record.not_run))
    rounds = [one_round for runner in record.runners for one_round in runner.rounds]
    marks = "(marked *), when repeated too"
    shares = [one_round.others_share or 0 for one_round in rounds if one_round.bad]
    every = with_noun(len(rounds), "round")
    busy = [share for share in shares if share > BUSY_SHARE]
    if busy:
        yield (
            f"Warning: the machine was busy in {len(busy)} of {every} {marks}: others "
            f"took up to {max(busy):.0%} of the CPU (more than {BUSY_SHARE:.0%})"
        )
    throttled = sum(one_round.bad and one_round.throttled for one_round in rounds)
    if throttled:
        yield f"Warning: the CPU was throttled in {throttled} of {every} {marks}"
    if all(one_round.others_share is None for one_round in rounds):
        yield "this system does not report what others took of the CPU: busy rounds are not marked"
    unsteady = sum(not one_round.steady for one_round in rounds)
    if unsteady:
        yield (
            f"Warning: not steady after {record.rules.warm.seconds:g} s of warm-up: "
            f"{unsteady} of {every}"
        )
    if record.settings.profile:
        yield from dict.fromkeys(
            _not_profiled(runner) for runner in record.runners if runner.operators is None
        )
    yield from dict.fromkeys(
        _slow_int8(runner, record) for runner in record.runners if _is_slow_int8(runner, record)
    )


def _latency_table(runners: Runners, record: BenchRecord, markdown: bool) -> str:
    names = ("model", "runtime", "delegate", "threads", "runs")
    figures = ("p50 ms", "p90 ms", "p99 ms", "mean ms", "ratio", "95%", "per s", "GMAC/s")
    rows: list[Row] = [(*names, *figures, "of numpy")]
    for key, runner in runners.items():
        low, high = runner.ratio_interval95
        rows.append(
            (
                runner.model,
                _runtime(key, runner, record),
                runner.delegate or "-",
                str(runner.threads),
                str(sum(map(len, runner.samples_ns))),
                marked_p50(runner),
                f"{runner.ms.p90:.2f}",
                f"{runner.ms.p99:.2f}",
                f"{runner.ms.mean:.2f}",
                f"{runner.ratio_p50:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{runner.per_second:.1f}",
                _format(runner.gmacs, "{:.1f}"),
                _format(runner.share_of_peak, "{:.0%}"),
            )
        )
    return render(rows, markdown)


def _cost_table(runners: Runners, record: BenchRecord, markdown: bool) -> str:
    steps = ("decode", "preprocess", "invoke", "total")
    names = ("model", "runtime", "threads", "accuracy", "MB", "load s", "first ms", "RSS MB")
    rows: list[Row] = [(*names, *steps)]
    for key, runner in runners.items():
        rows.append(
            (
                runner.model,
                _runtime(key, runner, record),
                str(runner.threads),
                _format(runner.accuracy, "{:.1%}"),
                f"{runner.size_bytes / 1e6:.2f}",
                f"{runner.load_s:.3f}",
                f"{runner.first_ms:.1f}",
                f"{runner.peak_rss_bytes / 1e6:.0f}",
                *(_format(runner.photo_ms.get(step), "{:.2f}") for step in steps),
            )
        )
    return render(rows, markdown)


def _operator_table(key: Key, runner: RunnerRecord, markdown: bool) -> str:
    rows: list[Row] = [("operator", "count", "ms", "share")]
    operators = runner.operators or ()
    total_ms = sum(operator.ms for operator in operators)
    for operator in operators[:_MAX_OPERATORS]:
        share = f"{operator.ms / total_ms:.0%}"
        rows.append((operator.kind, str(operator.count), f"{operator.ms:.3f}", share))
    title, table = printable(f"{key}: by operators"), render(rows, markdown)
    return f"{title}\n\n{table}" if markdown else f"\n{title}\n{table}"


def _differing_files(matched: Sequence[Runners]) -> list[str]:
    digests: dict[str, set[str]] = {}
    for runners in matched:
        for key, runner in runners.items():
            digests.setdefault(key.model, set()).add(runner.sha256)
    return [
        f"{model}: not the same file everywhere"
        for model, digests_of_model in digests.items()
        if len(digests_of_model) > 1
    ]


def _not_profiled(runner: RunnerRecord) -> str:
    if runner.runtime == "TensorFlow":
        return f"{runner.model}: not profiled: only frozen graphs are, in TensorFlow"
    return f"{runner.runtime} does not report the times of operators to Python: none are shown"


def _is_slow_int8(runner: RunnerRecord, record: BenchRecord) -> bool:
    float32 = _float32_runner(runner, record)
    return (
        runner.input in ("uint8", "int8")
        and lacks_fast_int8(runner.runtime, record.machine.architecture)
        and (float32 is None or runner.ms.p50 > float32.ms.p50)
    )


def _slow_int8(runner: RunnerRecord, record: BenchRecord) -> str:
    text = (
        f"{runner.model} on tflite-runtime {runner.version}, threads {runner.threads}: "
        f"{NO_FAST_INT8}"
    )
    if float32 := _float32_runner(runner, record):
        times = runner.ms.p50 / float32.ms.p50
        text += f": {times:.1f} times the time of {float32.model}"
    return text


def _float32_runner(runner: RunnerRecord, record: BenchRecord) -> RunnerRecord | None:
    """Return the first runner with float32 input on the same runtime and as many threads."""
    where = ("float32", runner.runtime, runner.threads)
    return next(
        (other for other in record.runners if (other.input, other.runtime, other.threads) == where),
        None,
    )


def _runtime(key: Key, runner: RunnerRecord, record: BenchRecord) -> str:
    python = key.python
    if runner.python != record.machine.python:
        python = python or f"Python {runner.python}"
    return ", ".join(filter(None, (f"{runner.runtime} {runner.version}", python)))


def _format(value: Any, form: str, missing: str = "-") -> str:
    """Return `value` in the format `form`, or `missing` for None."""
    return missing if value is None else form.format(value)
