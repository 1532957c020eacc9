"""A record of bench.json for a person: on a terminal, or as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.machine import BUSY
from deploy.machine import NO_FAST_INT8, lacks_fast_int8

Row = Sequence[str]
_TEXT_COLUMNS = {"model", "runtime", "delegate", "operator"}


def report(record: dict[str, Any], markdown: bool = False) -> str:
    """Return the machine, the tables of all runners, and what is to be known of them."""
    blocks = [
        "\n".join(machine_lines(record)),
        _latency(record, markdown),
        "ratio: p50 against that of the first model on as many threads, with its 95% interval",
        _costs(record, markdown),
        "decode to total: ms of a photo, from its bytes to scores",
        *(_operators(each, markdown) for each in record["runners"] if each["operators"]),
        "\n".join(_notes(record)),
    ]
    return ("\n\n" if markdown else "\n").join(block for block in blocks if block)


def side_by_side(records: Sequence[dict[str, Any]], markdown: bool = False) -> str:
    """Return a table with the p50 of each record in columns of its own, and their machines."""
    found: dict[tuple[str, str, int], list[dict[str, Any] | None]] = {}
    for i, record in enumerate(records):
        for each in record["runners"]:
            key = (each["model"], each["runtime"], each["threads"])
            found.setdefault(key, [None] * len(records))[i] = each
    head = ["model", "runtime", "threads"]
    for i in range(len(records)):
        head += [f"[{i + 1}] p50 ms", f"[{i + 1}] ratio"]
    rows = [head]
    for (model, runtime, threads), runners in found.items():
        cells = [model, runtime, str(threads)]
        for runner in runners:
            cells += [_marked(runner), f"{runner['ratio_p50']:.2f}"] if runner else ["", ""]
        rows.append(cells)
    machines = [
        "\n".join((f"[{i + 1}] {first}", *rest, *_notes(record)))
        for i, record in enumerate(records)
        for first, *rest in [machine_lines(record)]
    ]
    differing = [
        f"{model}: not the same file everywhere"
        for model in dict.fromkeys(key[0] for key in found)
        if len({r["sha256"] for rs in found.values() for r in rs if r and r["model"] == model}) > 1
    ]
    return "\n\n".join([*machines, render(rows, markdown), *differing])


def render(rows: Sequence[Row], markdown: bool = False) -> str:
    """Return `rows`, the first being the names of columns, as text; figures to the right."""
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


def _latency(record: dict[str, Any], markdown: bool) -> str:
    percentiles = ("p50", "p90", "p99", "mean")
    names = ("model", "runtime", "delegate", "threads", "runs", *(f"{p} ms" for p in percentiles))
    rows: list[Row] = [(*names, "ratio", "95%", "per s", "GMAC/s", "of numpy")]
    for each in record["runners"]:
        runs = sum(len(turn["samples_ns"]) for turn in each["rounds"])
        low, high = each["ratio_interval95"]
        rows.append(
            (
                each["model"],
                _runtime(each, record),
                each["delegate"] or "-",
                str(each["threads"]),
                str(runs),
                _marked(each),
                *(f"{each['ms'][name]:.2f}" for name in percentiles[1:]),
                f"{each['ratio_p50']:.2f}",
                f"{low:.2f}-{high:.2f}",
                f"{each['per_second']:.1f}",
                _number(each["gmacs"], "{:.1f}"),
                _number(each["share_of_peak"], "{:.0%}"),
            )
        )
    return render(rows, markdown)


def _costs(record: dict[str, Any], markdown: bool) -> str:
    steps = ("decode", "preprocess", "invoke", "total")
    names = ("model", "runtime", "threads", "accuracy", "MB", "load s", "first ms", "RSS MB")
    rows: list[Row] = [(*names, *steps)]
    for each in record["runners"]:
        rows.append(
            (
                each["model"],
                _runtime(each, record),
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


def _operators(runner: dict[str, Any], markdown: bool) -> str:
    rows: list[Row] = [("operator", "count", "ms", "share")]
    whole = sum(each["ms"] for each in runner["operators"])
    for each in runner["operators"][:10]:
        share = f"{each['ms'] / whole:.0%}"
        rows.append((each["kind"], str(each["count"]), f"{each['ms']:.3f}", share))
    title = f"{runner['model']}, {runner['runtime']}, threads {runner['threads']}: by operators"
    return f"\n{title}\n{render(rows, markdown)}"


def _notes(record: dict[str, Any]) -> Iterable[str]:
    rounds = [turn for each in record["runners"] for turn in each["rounds"]]
    bad = [turn for turn in rounds if turn["bad"]]
    if bad:
        taken = max(turn["others"] or 0 for turn in bad)
        throttled = " or throttled" if any(turn["throttled"] for turn in bad) else ""
        yield (
            f"Warning: * the machine was busy{throttled} in {len(bad)} of {len(rounds)} rounds, "
            f"when repeated too: others took up to {taken:.0%} of the CPU (more than {BUSY:.0%})"
        )
    restless = sum(not turn["steady"] for turn in rounds)
    if restless:
        seconds = record["rules"]["warm"]["seconds"]
        share = f"{restless} of {len(rounds)} rounds"
        yield f"Warning: not steady after {seconds:g} s of warm-up: {share}"
    if record["settings"]["profile"]:
        silent = {each["runtime"] for each in record["runners"] if each["operators"] is None}
        for name in sorted(silent - {"TensorFlow"}):
            yield f"{name} does not tell the times of operators to Python: none are shown for it"
    yield from dict.fromkeys(
        _slow_int8(each, record) for each in record["runners"] if _is_slow_int8(each, record)
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


def _runtime(runner: dict[str, Any], record: dict[str, Any]) -> str:
    name = f"{runner['runtime']} {runner['version']}"
    several = len({each["python"] for each in record["runners"]}) > 1
    return f"{name}, Python {runner['python']}" if several else name


def _marked(runner: dict[str, Any]) -> str:
    busy = any(turn["bad"] for turn in runner["rounds"])
    return f"{'*' if busy else ''}{runner['ms']['p50']:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
