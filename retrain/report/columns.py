"""Show the graph, the model and the device side by side."""

from retrain.report.commands import command, convert_command
from retrain.report.latency import call_on_device, megabytes, time_of_call
from retrain.report.page_values import Column
from retrain.report.run_inputs import RunInputs


def columns(inputs: RunInputs) -> tuple[Column, ...]:
    """Return the graph, the model and the device side by side."""
    run, conversion = inputs.run, inputs.conversion
    # Training may test on fewer photos than the conversion does.
    accuracy = conversion.parity.graph if conversion else inputs.accuracy
    graph_bytes = run.graph.stat().st_size
    graph = Column(
        "Graph",
        "output_graph.pb, float32",
        accuracy,
        accuracy.right,
        (
            ("size", megabytes(graph_bytes)),
            ("time of a call", time_of_call(inputs, inputs.contract.graph_sha256)),
        ),
    )
    nowhere = Column("Device", "not installed yet", missing=command(run, "push", "USER@HOST"))
    if not conversion:
        return (
            graph,
            Column("Model", "not converted yet", missing=convert_command(inputs)),
            nowhere,
        )
    parity = conversion.parity
    model = Column(
        "Model",
        f"model.tflite, {conversion.recipe}",
        parity.model,
        parity.model.right,
        (
            ("size", megabytes(conversion.model_bytes)),
            ("time of a call", time_of_call(inputs, conversion.model_sha256)),
            ("same best label as the graph", f"{parity.agreement:.1%}"),
        ),
    )
    if not inputs.device:
        return graph, model, nowhere
    test = inputs.device.selftest
    goldens = test.goldens
    facts = [("size", megabytes(conversion.model_bytes))]
    device_ms = call_on_device(inputs)
    if device_ms is not None:
        facts.append(("time of a call", f"{device_ms:.1f} ms"))
    if goldens:
        facts.append(("goldens that agree", f"{goldens.right} of {goldens.total}"))
    return (
        graph,
        model,
        Column(
            "Device",
            f"{inputs.device.host}: {test.device.board or test.device.cpu}",
            facts=tuple(facts),
        ),
    )
