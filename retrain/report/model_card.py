"""Write the model card: what a person should know of a run's model, with Hugging Face's header.

The card is the README.md of the run, and the start of the one in its bundle. Purpose, data and
licence are blanks for a person. Lines between `retrain: begin` and `retrain: end` are made again
each time; all others are the person's, and are never changed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain

from bench.record import BenchRecord
from deploy import files, model_file
from deploy.contract import Contract
from deploy.system.counts import with_noun
from deploy.system.terminal import printable
from deploy.untrusted_files import damaged
from deploy.versioned_json import Fields
from retrain.conversion.result import ConversionResult
from retrain.data.folder_layout import SPLITS, TESTING, TRAINING
from retrain.metrics import Accuracy
from retrain.report.bench_figures import read_bench
from retrain.run_folder import RunFolder, is_fine_tuned
from retrain.settings.conversion import About
from retrain.tflite import metadata

BLANK = "**To fill in:**"
"""What each blank begins with."""
_MAX_LABELS = 100
"""Labels whose figures are shown: those with the lowest F1."""
_SPECIALS = re.compile(r"[\\`*_\[\]<>#|~$&!]")
_CODE_SPECIALS = re.compile(r"[^\w ]|_")
_BLOCK = re.compile(
    r"^(?P<begin>(?:# |<!-- )retrain: begin (?P<name>\w+)\b[^\n]*\n)"
    r"(?P<text>.*?)"
    r"^(?=(?:# |<!-- )retrain: end (?P=name)\b)",
    re.DOTALL | re.MULTILINE,
)
_CARD = """\
---
# Fill in the lines that apply, and remove their first two characters:
# license: apache-2.0
# language: en
# datasets: [owner/name]
# retrain: begin header (retrain writes these lines anew, and no others)
{header}# retrain: end header
---

# {title}

<!-- retrain: begin summary (retrain writes these lines anew, and no others) -->
{summary}<!-- retrain: end summary -->

## Purpose

> {blank} what the model decides and for whom; what it must not be used for.

## Data

> {blank} where the photos are from, who took and labelled them, and when; what they do not show,
> such as other seasons, cameras or places; whether people can be recognised.

## Licence

> {blank} the licence of the model, here and at the top of this file; that of the photos.

<!-- retrain: begin figures (retrain writes these lines anew, and no others) -->
{figures}<!-- retrain: end figures -->
"""


@dataclass(frozen=True)
class _Facts:
    """What is known of a model; `metrics` and `conversion` only if they are of it.

    `bench` holds what was measured of the files of its run.
    """

    contract: Contract
    about: About
    sha256: str
    size_bytes: int
    metrics: Fields | None
    conversion: ConversionResult | None
    bench: tuple[BenchRecord, ...]

    @property
    def accuracy(self) -> Accuracy | None:
        """The model's own accuracy on the test photos."""
        return self.conversion.parity.model if self.conversion else None


def make_card(run: RunFolder) -> str:
    """Return the card of the run's model, with what a person wrote into the card of the run.

    Raises BadData if there is no accepted model and if a file of the run is damaged, GateFailed if
    the last conversion did not pass.
    """
    facts = _collect(run)
    blocks = {
        "header": _lines(_header(facts)),
        "summary": _lines(_summary(facts)),
        "figures": _lines(_figures(facts)),
    }
    if not run.card.exists():
        return _CARD.format(title=_escape(facts.about.name), blank=BLANK, **blocks)
    with damaged(f"{run.card}: cannot be read", "save it as UTF-8, or delete it"):
        text = run.card.read_bytes().decode()
    return _BLOCK.sub(lambda block: block["begin"] + blocks.get(block["name"], block["text"]), text)


def write_card(run: RunFolder) -> None:
    """Write the card into the run's folder.

    Raises as `make_card` does, WrongUse if another process writes into the run, OSError.
    """
    card = make_card(run)
    with run.writing():
        files.write(run.card, card)


def _collect(run: RunFolder) -> _Facts:
    """Return what the files of the run say of its model."""
    path = run.accepted_model()
    content = path.read_bytes()
    model = model_file.unpack(content)
    contract, digest = model.contract, sha256(content).hexdigest()
    texts = metadata.extract(model.flatbuffer) or {}
    conversion = ConversionResult.read(run.conversion) if run.conversion.exists() else None
    # Versions before the digest wrote none.
    if conversion and conversion.model_sha256 not in ("", digest):
        conversion = None
    return _Facts(
        contract,
        About(
            texts.get("name", contract.backbone), texts.get("author", ""), texts.get("license", "")
        ),
        digest,
        len(content),
        run.read_metrics(contract),
        conversion,
        read_bench(run),
    )


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _header(facts: _Facts) -> Iterator[str]:
    """Yield the lines of the YAML header that are known; a JSON string is one of YAML too."""
    yield "library_name: litert"
    yield "pipeline_tag: image-classification"
    yield "tags: [tflite, litert, retrain]"
    yield "metrics: [accuracy]"
    if not facts.accuracy:
        return
    low, high = facts.accuracy.interval
    yield "model-index:"
    yield f"- name: {_quote(facts.about.name)}"
    yield "  results:"
    yield "  - task: {type: image-classification, name: Image Classification}"
    yield (
        "    dataset: {type: imagefolder, name: "
        f"{_quote(with_noun(facts.accuracy.total, 'test photo'))}, split: test}}"
    )
    yield "    metrics:"
    yield "    - type: accuracy"
    yield f"      name: {_quote(f'Accuracy, 95% interval {low:.1%} to {high:.1%}')}"
    yield f"      value: {facts.accuracy.value:.4f}"


def _summary(facts: _Facts) -> Iterator[str]:
    contract = facts.contract
    yield f"A classifier of photos into {len(contract.labels):,} classes, for small devices:"
    size = f"{facts.size_bytes / 1e6:.1f} MB"
    yield f"{_escape(contract.backbone)}, retrained, as a TFLite model of {size}."
    if facts.accuracy:
        low, high = facts.accuracy.interval
        yield (
            f"It is right on {facts.accuracy.right:,} of "
            f"{with_noun(facts.accuracy.total, 'test photo')}, {facts.accuracy.value:.1%};"
        )
        yield f"with 95% confidence the share is {low:.1%} to {high:.1%} on photos like these."


def _figures(facts: _Facts) -> Iterator[str]:
    yield "## Figures"
    yield from _accuracies(facts)
    if facts.metrics:
        yield from _classes(facts.metrics)
    yield from _latencies(facts)
    yield from _model(facts)
    if facts.metrics:
        yield from _training(facts.contract, facts.metrics)


def _accuracies(facts: _Facts) -> Iterator[str]:
    """Yield the accuracy of the model and of its graph, which were measured on the same photos."""
    if not facts.conversion:
        return
    parity = facts.conversion.parity
    yield ""
    yield "| file | right | test photos | accuracy | 95% interval |"
    yield "| --- | --- | --- | --- | --- |"
    for name, accuracy in (("model.tflite", parity.model), ("output_graph.pb", parity.graph)):
        low, high = accuracy.interval
        yield (
            f"| `{name}` | {accuracy.right:,} | {accuracy.total:,} | {accuracy.value:.1%} "
            f"| {low:.1%} to {high:.1%} |"
        )
    yield ""
    yield "`output_graph.pb` is what the model was made of. Both give the same best label on"
    yield f"{parity.agreement:.1%} of the test photos."
    if facts.metrics and _is_adopted(facts.metrics):
        yield "It is not known which photos it was trained on: those among the test photos make"
        yield "these figures too good."
    else:
        leaks = _like_a_training_photo(facts.metrics) if facts.metrics else 0
        look = "looks" if leaks == 1 else "look"
        but = f", though {leaks:,} {look} the same as a training photo" if leaks else ""
        yield f"No test photo was used in training{but}."


def _classes(metrics: Fields) -> Iterator[str]:
    """Yield the figures of each class on the test photos, measured of the graph."""
    photos, test = metrics.object("photos"), metrics.object("test")
    rows = {name: test.object("per_class").object(name) for name in metrics.texts("labels")}
    shown = list(rows)
    if len(rows) > _MAX_LABELS:
        shown = sorted(rows, key=lambda name: rows[name].number_or_none("f1") or 0)[:_MAX_LABELS]
    error = test.number("expected_calibration_error")
    yield ""
    yield f"### Each class, by the graph{_of(len(shown), len(rows), 'with the lowest F1')}"
    yield ""
    yield "| label | photos | test photos | precision | recall | F1 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in shown:
        shares = (_share(rows[name].number_or_none(key)) for key in ("precision", "recall", "f1"))
        counts = photos.integer(name, default=0), rows[name].integer("support")
        yield f"| {_code(name)} | {counts[0]:,} | {counts[1]:,} | {' | '.join(shares)} |"
    yield ""
    yield f"The expected calibration error of the probabilities is {error:.3f}."


def _latencies(facts: _Facts) -> Iterator[str]:
    """Yield the benchmark's figures of the model, if it was measured."""
    measured = [
        (record.machine.cpu, runner)
        for record in facts.bench
        for runner in record.runners
        if runner.sha256 == facts.sha256
    ]
    if not measured:
        return
    yield ""
    yield "### Latency"
    yield ""
    yield "| CPU | runtime | threads | p50 | p90 | photos a second, decoded too |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for cpu, runner in measured:
        total = runner.photo_ms.get("total")
        runtime = _code(f"{runner.runtime} {runner.version}")
        times = f"{runner.ms.p50:.2f} ms | {runner.ms.p90:.2f} ms"
        a_second = f"{1000 / total:.0f}" if total else "-"
        yield f"| {_code(cpu)} | {runtime} | {runner.threads} | {times} | {a_second} |"


def _model(facts: _Facts) -> Iterator[str]:
    """Yield what a program must know to use the model."""
    contract, spec = facts.contract, facts.contract.input
    rows = {
        "Input": f"{metadata.describe_input(spec)}; for a float32 input "
        f"(pixel - {spec.mean:g}) / {spec.std:g}",
        "Output": f"a probability for each of {len(contract.labels):,} labels, in the order of "
        f"`labels.txt`; calibrated by the temperature {contract.temperature:.3f}",
        "Recipe": _code(contract.recipe) if contract.recipe else "",
        "Unknown": ""
        if contract.reject_threshold is None
        else f"a photo whose best probability is below {contract.reject_threshold:.3f}",
        "Author": _escape(facts.about.author),
        "Licence in the file": _escape(facts.about.licence),
        "SHA-256": f"`{facts.sha256}`",
        "Made by": f"retrain {_escape(contract.tool_version)}",
    }
    yield from _table("The model", rows)


def _training(contract: Contract, metrics: Fields) -> Iterator[str]:
    """Yield how the graph was trained, and what is known of its photos."""
    splits = metrics.object("split")
    counts = ", ".join(f"{splits.integer(name, default=0):,} for {name}" for name in SPLITS)
    is_own = metrics.text("split_by", default="content") == "folders"
    split_by = "the folders or the list" if is_own else "the bytes of each photo"
    bad = metrics.integer("bad_count", default=len(metrics.objects("bad")))
    copies = _copies(metrics)
    trained = "the final layer"
    if _is_adopted(metrics):
        trained = "by another program"
    elif is_fine_tuned(metrics):
        trained = "the last blocks and the final layer"
    rows = {
        "Network": f"{_code(contract.backbone)}, weights `{contract.weights_sha256[:12]}`",
        "Trained": trained,
        "Photos": f"{counts}; split by {split_by}",
        "Files left out": f"{bad:,}, for the reasons in failed.csv of the run" if bad else "",
        "Photos that look the same in two splits": "not searched for"
        if copies is None
        else with_noun(len(copies), "pair"),
        "SHA-256 of photos and labels": f"`{contract.dataset_sha256}`",
    }
    yield from _table("Training", rows)


def _is_adopted(metrics: Fields) -> bool:
    return metrics.text("command", default="train") == "adopt"


def _copies(metrics: Fields) -> tuple[Fields, ...] | None:
    """Return the pairs of photos that look the same in two splits; None if not searched for."""
    name = "copies_across_splits"
    return None if metrics.values.get(name) is None else metrics.objects(name)


def _like_a_training_photo(metrics: Fields) -> int:
    """Return how many test photos look the same as a training photo."""
    sides = (
        dict(zip(pair.texts("splits"), pair.texts("paths"), strict=False))
        for pair in _copies(metrics) or ()
    )
    return len({paths[TESTING] for paths in sides if {TRAINING, TESTING} <= paths.keys()})


def _table(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    """Yield a table of names and values; those that are empty are left out."""
    yield from ("", f"### {title}", "", "| | |", "| --- | --- |")
    yield from chain(f"| {name} | {value} |" for name, value in rows.items() if value)


def _of(shown: int, total: int, which: str) -> str:
    return f" ({shown} of {total:,}, {which})" if shown < total else ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _quote(text: str) -> str:
    """Return any text as a string of YAML on one line."""
    return json.dumps(printable(text), ensure_ascii=False)


def _escape(text: str) -> str:
    """Return any text on one line of Markdown that shows it, also in a table."""
    return _SPECIALS.sub(r"\\\g<0>", printable(text))


def _code(text: str) -> str:
    """Return any text as code of Markdown, also in a table."""
    text = printable(text)
    if not {"|", "`"}.intersection(text):
        return f"`{text}`"
    return f"<code>{_CODE_SPECIALS.sub(lambda match: f'&#{ord(match[0])};', text)}</code>"
