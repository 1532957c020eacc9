"""The folder that a run writes into: which file is which, and who may write."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import filelock

from deploy import model_file
from deploy.contract import Contract, read_labels_file
from deploy.errors import BadData, GateFailed, WrongUse
from deploy.system.error_messages import doing
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import MAX_BYTES, damaged, naming, read, read_json
from retrain.metrics import Accuracy
from retrain.settings.conversion import RECIPES


@dataclass(frozen=True)
class RunFolder:
    """Names the files of a run; stages find each other's results by these names alone."""

    folder: Path

    @property
    def graph(self) -> Path:
        """The frozen graph."""
        return self.folder / "output_graph.pb"

    @property
    def graph_labels(self) -> Path:
        """The labels of the frozen graph, one a line."""
        return self.folder / "output_labels.txt"

    @property
    def metrics(self) -> Path:
        """What training measured."""
        return self.folder / "metrics.json"

    @property
    def contract(self) -> Path:
        """The contract of the frozen graph."""
        return self.folder / "contract.json"

    @property
    def manifest(self) -> Path:
        """Every photo with its label and split."""
        return self.folder / "manifest.csv"

    @property
    def summaries(self) -> Path:
        """The TensorBoard events, a folder a run."""
        return self.folder / "summaries"

    @property
    def checkpoint(self) -> Path:
        """Where a training run was after its last round."""
        return self.folder / "checkpoint.npz"

    @property
    def model(self) -> Path:
        """The TFLite model."""
        return self.folder / "model.tflite"

    @property
    def rejected(self) -> Path:
        """A TFLite model that its gate refused."""
        return self.folder / "model.rejected.tflite"

    def accepted_model(self) -> Path:
        """Return the TFLite model of this run's graph, once it passed.

        Raises BadData without one, GateFailed after a refused one.
        """
        if self.rejected.exists() and not self._passed():
            raise GateFailed(
                f"{self.rejected}: the last conversion did not pass: `retrain convert` again, with "
                "what it advised"
            )
        if not self.model.exists():
            raise BadData(f"{self.model}: no such file: run `retrain convert` first")
        made_of = model_file.read(self.model).contract.graph_sha256
        # Without one there is no other graph that it could be mistaken for.
        told = self.contract.exists() and _contract(self.contract)
        if told and told.graph_sha256 != made_of:
            raise BadData(f"{self.model}: not of {self.graph}, but of another: `retrain convert`")
        return self.model

    def _passed(self) -> bool:
        """Return whether conversion.json says that the model that is there passed.

        Where it does, a refused model beside is one that a killed process did not record or remove.
        """
        try:
            record = read_json(self.conversion, "run `retrain convert`")
            return bool(record.get("passed")) and record.get("model_sha256") == _digest(self.model)
        except (OSError, BadData):
            return False

    def recipe(self, name: str, rejected: bool = False) -> Path:
        """Return where the model of the recipe `name` is kept when several were tried."""
        folder = self.folder / "recipes"
        return (folder / "rejected" if rejected else folder) / f"{name}.tflite"

    def forget_recipes(self) -> None:
        """Remove the models that an earlier conversion tried: what measured them is overwritten."""
        for name in RECIPES:
            for rejected in (False, True):
                self.recipe(name, rejected).unlink(missing_ok=True)

    @property
    def labels(self) -> Path:
        """The labels of the TFLite model, one a line; the same as inside it."""
        return self.folder / "labels.txt"

    @property
    def conversion(self) -> Path:
        """What conversion measured."""
        return self.folder / "conversion.json"

    @property
    def bench(self) -> Path:
        """What the benchmark measured."""
        return self.folder / "bench.json"

    def read_contract(self, graph: Path | None = None) -> Contract:
        """Return the contract, once the digest of `graph`, else of this run's, is as it says."""
        return self.read_graph(graph)[0]

    def read_graph(self, graph: Path | None = None) -> tuple[Contract, bytes]:
        """Return what `read_contract` does, and the bytes whose digest was checked."""
        graph = graph or self.graph
        try:
            contract = _contract(self.contract)
            content = graph.read_bytes()
        except OSError as error:
            raise BadData(
                f"{error.filename}: cannot be read ({error.strerror}): run `retrain train` first"
            ) from error
        if sha256(content).hexdigest() != contract.graph_sha256:
            raise BadData(f"{graph}: not the graph that {self.contract} tells of: train again")
        return contract, content

    def test_accuracy(self, contract: Contract) -> Accuracy | None:
        """Return what training told of the graph of `contract`, None if nothing tells.

        Raises BadData where the labels beside the graph, or those told with it, are others.
        """
        if self.graph_labels.exists():
            labels = read_labels_file(self.graph_labels)
            _require(labels, contract, self.graph_labels)
        if not self.metrics.exists():
            return None
        with damaged(f"{self.metrics}: cannot be read", "train again"):
            metrics = read_json(self.metrics, "train again")
            if metrics["graph_sha256"] != contract.graph_sha256:
                return None
            test = metrics["test"]
            accuracy, labels = Accuracy(test["right"], test["total"]), tuple(test["per_class"])
            if not 0 <= accuracy.right <= accuracy.total:
                raise ValueError(f"{accuracy.right!r:.40} of {accuracy.total!r:.40} are right")
        _require(labels, contract, self.metrics)
        return accuracy

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other runs from writing here; raise WrongUse if one is at it.

        What a killed run left unfinished is removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with ExitStack() as stack:
                path = self.folder / ".lock"
                with doing("lock", path):
                    stack.enter_context(filelock.FileLock(path, blocking=False))
                recipes = (self.recipe("any", rejected).parent for rejected in (False, True))
                sweep(self.folder, *recipes)
                yield
        except filelock.Timeout as error:
            raise WrongUse(
                f"{self.folder}: another retrain is writing there: wait, "
                "or name another --output-dir"
            ) from error


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _contract(path: Path) -> Contract:
    """Return the contract in the file `path`; raise BadData with its path, OSError."""
    with naming(path):
        return Contract.from_json(read(path, MAX_BYTES))


def _require(labels: tuple[str, ...], contract: Contract, path: Path) -> None:
    if labels != contract.labels:
        raise BadData(
            f"{path}: its labels are {', '.join(labels)}, those of the contract "
            f"{', '.join(contract.labels)}: put them back, or train again"
        )
