"""Measure the time of each kind of operator of a frozen graph in TensorFlow.

The Python interpreters of LiteRT and tflite-runtime do not report it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from bench.load_tensorflow import draw_input, load_with_contract

_RUNS, _WARM_UP = 20, 10


def time_operators(
    path: str, threads: int, ends: list[str | None], size: int | None
) -> list[dict[str, Any]]:
    """Return kind, count and ms per call of the operators of a frozen graph, longest first.

    The kinds are those that TensorFlow runs: fused ones, and oneDNN's. Tracing slows each of them
    down a little. Raises BadData.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    graph, contract = load_with_contract(Path(path), threads, ends)
    tensor = draw_input(graph, contract, size, path)
    options = v1.RunOptions(trace_level=v1.RunOptions.SOFTWARE_TRACE)
    elapsed_ns: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    feed = {graph.source: tensor}
    for _ in range(_WARM_UP):
        graph.session.run(graph.sink, feed)
    for run in range(_RUNS):
        metadata = v1.RunMetadata()
        graph.session.run(graph.sink, feed, options=options, run_metadata=metadata)
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                # A label is "name = Kind(inputs)".
                kind = node.timeline_label.partition(" = ")[2].partition("(")[0]
                elapsed_ns[kind] += node.op_end_rel_nanos - node.op_start_rel_nanos
                counts[kind] += run == 0
    return [
        {"kind": kind, "count": counts[kind], "ms": ns / _RUNS / 1e6}
        for kind, ns in elapsed_ns.most_common()
        if kind and ns
    ]
