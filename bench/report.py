"""A record of bench.json for a person: on a terminal, or as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.machine import BUSY
from bench.record import Key, is_busy, keyed, references, refusal
from deploy.system.machine import NO_FAST_INT8, lacks_fast_int8
from deploy.system.terminal import printable

Row = Sequence[str]
Runners = dict[Key, dict[str, Any]]
_TEXT_COLUMNS = {"model", "runtime", "delegate", "operator"}


def report(record: dict[str, Any], markdown: bool = False) -> str:
    """Return the machine, the tables of all runners, and what is to be known of them."""
    runners = keyed([record])[0]
    against = references(record)
    blocks = [
        lines(machine_lines(record), markdown),
        _latency(runners, record, markdown),
        lines([f"ratio: p50 against that of {against} on as many threads, with its 95% interval"]),
        _costs(runners, record, markdown),
        "decode to total: ms of a photo, from its bytes to scores",
        *(_operators(key, each, markdown) for key, each in runners.items() if each["operators"]),
        lines(notes(record), markdown),
    ]
    return ("\n\n" if markdown else "\n").join(block for block in blocks if block)


def render(rows: Sequence[Row], markdown: bool = False) -> str:
    """Return `rows`, the first being the names of columns, as text; figures to the right."""
    rows = [tuple(map(printable, row)) for row in rows]
    left = [name in _TEXT_COLUMNS for name in rows[0]]
    if markdown:
        rule = ["---" if each else "---:" for each in left]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    )


def lines(texts: Iterable[str], markdown: bool = False) -> str:
    """Return each text on a line of its own; of Markdown, which would join them, a list."""
    return "\n".join(f"- {printable(text)}" if markdown else printable(text) for text in texts)


def marked(runner: dict[str, Any]) -> str:
    """Return the p50, with a star if the machine was busy meanwhile."""
    return f"{'*' if is_busy(runner) else ''}{runner['ms']['p50']:.2f}"


def machine_lines(record: dict[str, Any]) -> list[str]:
    """Return what the figures hang on, in a few lines."""
    machine, settings, state = record["machine"], record["settings"], record["state"]
    before, after = state["before"], state["after"]
    hardware = [
        f"{machine['cpu']} ({machine['architecture']}), {machine['cores']} cores",
        _if(before["mhz"], "{:.0f} MHz"),
        _if(machine["governor"], "governor {}"),
        _if(machine["memory_bytes"] and machine["memory_bytes"] / 1e9, "{:.1f} GB"),
        _if(after["celsius"], "{:.0f} degrees"),
        _if(after["throttled"], "get_throttled {:#x}"),
    ]
    software = [machine["os"], f"Python {machine['python']}"]
    if before["load"] is not None:
        software.append(f"load {before['load']:.1f} before, {after['load']:.1f} after")
    peaks = ", ".join(
        f"{value:.0f} GMAC/s on {threads}" for threads, value in record["peak_gmacs"].items()
    )
    return [
        ", ".join(filter(None, hardware)),
        ", ".join(software),
        f"{settings['rounds']} rounds in random order, a new process each: warmed up, then "
        f"{settings['runs']} calls or {settings['seconds']:g} s, batch 1",
        f"the best of numpy's float32 products by threads: {peaks}",
    ]


def _if(value: Any, text: str) -> str:
    return "" if value is None else text.format(value)


def _latency(runners: Runners, record: dict[str, Any], markdown: bool) -> str:
    percentiles = ("p50", "p90", "p99", "mean")
    names = ("model", "runtime", "delegate", "threads", "runs", *(f"{p} ms" for p in percentiles))
    rows: list[Row] = [(*names, "ratio", "95%", "per s", "GMAC/s", "of numpy")]
    for key, each in runners.items():
        runs = sum(len(turn["samples_ns"]) for turn in each["rounds"])
        low, high = each["ratio_interval95"]
        rows.append(
            (
                each["model"],
                _runtime(key, each, record),
                each["delegate"] or "-",
                str(each["threads"]),
                str(runs),
                marked(each),
                *(f"{each['ms'][name]:.2f}" for name in percentiles[1:]),
                f"{each['ratio_p50']:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{each['per_second']:.1f}",
                _number(each["gmacs"], "{:.1f}"),
                _number(each["share_of_peak"], "{:.0%}"),
            )
        )
    return render(rows, markdown)


def _costs(runners: Runners, record: dict[str, Any], markdown: bool) -> str:
    steps = ("decode", "preprocess", "invoke", "total")
    names = ("model", "runtime", "threads", "accuracy", "MB", "load s", "first ms", "RSS MB")
    rows: list[Row] = [(*names, *steps)]
    for key, each in runners.items():
        rows.append(
            (
                each["model"],
                _runtime(key, each, record),
                str(each["threads"]),
                _number(each["accuracy"], "{:.1%}"),
                f"{each['size_bytes'] / 1e6:.2f}",
                f"{each['load_s']:.3f}",
                f"{each['first_ms']:.1f}",
                f"{each['peak_rss_bytes'] / 1e6:.0f}",
                *(_number(each["photo_ms"].get(step), "{:.2f}") for step in steps),
            )
        )
    return render(rows, markdown)


def _operators(key: Key, runner: dict[str, Any], markdown: bool) -> str:
    rows: list[Row] = [("operator", "count", "ms", "share")]
    whole = sum(each["ms"] for each in runner["operators"])
    for each in runner["operators"][:10]:
        share = f"{each['ms'] / whole:.0%}"
        rows.append((each["kind"], str(each["count"]), f"{each['ms']:.3f}", share))
    title, shown = printable(f"{key}: by operators"), render(rows, markdown)
    return f"{title}\n\n{shown}" if markdown else f"\n{title}\n{shown}"


def notes(record: dict[str, Any]) -> Iterable[str]:
    """Yield what is to be known of the figures: what did not run, and what disturbed the rest."""
    yield from dict.fromkeys(map(refusal, record["not_run"]))
    rounds = [turn for each in record["runners"] for turn in each["rounds"]]
    marks = "(marked *), when repeated too"
    busy = [turn["others"] for turn in rounds if turn["bad"] and (turn["others"] or 0) > BUSY]
    if busy:
        yield (
            f"Warning: the machine was busy in {len(busy)} of {len(rounds)} rounds {marks}: "
            f"others took up to {max(busy):.0%} of the CPU (more than {BUSY:.0%})"
        )
    throttled = sum(turn["bad"] and turn["throttled"] for turn in rounds)
    if throttled:
        yield f"Warning: the CPU was throttled in {throttled} of {len(rounds)} rounds {marks}"
    if all(turn["others"] is None for turn in rounds):
        yield "this system does not tell what others took of the CPU: busy rounds are not marked"
    restless = sum(not turn["steady"] for turn in rounds)
    if restless:
        seconds = record["rules"]["warm"]["seconds"]
        share = f"{restless} of {len(rounds)} rounds"
        yield f"Warning: not steady after {seconds:g} s of warm-up: {share}"
    if record["settings"]["profile"]:
        yield from dict.fromkeys(
            _silent(each) for each in record["runners"] if each["operators"] is None
        )
    yield from dict.fromkeys(
        _slow_int8(each, record) for each in record["runners"] if _is_slow_int8(each, record)
    )


def _silent(runner: dict[str, Any]) -> str:
    if runner["runtime"] == "TensorFlow":
        return f"{runner['model']}: not profiled: only frozen graphs are, in TensorFlow"
    return (
        f"{runner['runtime']} does not tell the times of operators to Python: none are shown for it"
    )


def _is_slow_int8(runner: dict[str, Any], record: dict[str, Any]) -> bool:
    real = _float32(runner, record)
    return (
        runner["input"] in ("uint8", "int8")
        and lacks_fast_int8(runner["runtime"], record["machine"]["architecture"])
        and (real is None or runner["ms"]["p50"] > real["ms"]["p50"])
    )


def _slow_int8(runner: dict[str, Any], record: dict[str, Any]) -> str:
    text = (
        f"{runner['model']} on tflite-runtime {runner['version']}, threads {runner['threads']}: "
        f"{NO_FAST_INT8}"
    )
    if real := _float32(runner, record):
        times = runner["ms"]["p50"] / real["ms"]["p50"]
        text += f": {times:.1f} times the time of {real['model']}"
    return text


def _float32(runner: dict[str, Any], record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first that is given float32, on the same runtime and as many threads."""
    where = runner["runtime"], runner["threads"]
    for each in record["runners"]:
        if each["input"] == "float32" and (each["runtime"], each["threads"]) == where:
            return dict(each)
    return None


def _runtime(key: Key, runner: dict[str, Any], record: dict[str, Any]) -> str:
    python = key.python
    if runner["python"] != record["machine"]["python"]:
        python = python or f"Python {runner['python']}"
    return ", ".join(filter(None, (f"{runner['runtime']} {runner['version']}", python)))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
