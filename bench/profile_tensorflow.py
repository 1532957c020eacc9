"""What each kind of operator takes, where the runtime tells: TensorFlow does.

The Python interpreters of LiteRT and of tflite-runtime have no way to ask for it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from bench.load_tensorflow import image_for, ready

_RUNS, _WARM_UP = 20, 10


def operators(
    path: str, threads: int, ends: list[str | None], size: int | None
) -> list[dict[str, Any]]:
    """Return kind, count and ms a call of the operators of a frozen graph, longest first.

    The kinds are those that TensorFlow made of the graph's: fused, and of oneDNN. Being traced
    slows each of them down a little. Raises BadData.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    graph, contract = ready(Path(path), threads, ends)
    tensor = image_for(graph, contract, size, path)
    options = v1.RunOptions(trace_level=v1.RunOptions.SOFTWARE_TRACE)
    taken: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    feed = {graph.source: tensor}
    for _ in range(_WARM_UP):
        graph.session.run(graph.sink, feed)
    for turn in range(_RUNS):
        told = v1.RunMetadata()
        graph.session.run(graph.sink, feed, options=options, run_metadata=told)
        for device in told.step_stats.dev_stats:
            for node in device.node_stats:
                # "name = Kind(inputs)"
                kind = node.timeline_label.partition(" = ")[2].partition("(")[0]
                taken[kind] += node.op_end_rel_nanos - node.op_start_rel_nanos
                counted[kind] += turn == 0
    return [
        {"kind": kind, "count": counted[kind], "ms": ns / _RUNS / 1e6}
        for kind, ns in taken.most_common()
        if kind and ns
    ]
