"""Name and read the files of a run's folder; let one process at a time write there."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import filelock

from deploy import model_file, versioned_json
from deploy.contract import Contract, read_labels_file
from deploy.errors import BadData, GateFailed, WrongUse
from deploy.run_command import run_command
from deploy.system.error_messages import doing
from deploy.system.temporary_files import sweep
from deploy.untrusted_files import MAX_JSON_BYTES, naming, read, read_json
from deploy.versioned_json import Fields
from retrain.frozen_graph import FrozenGraph
from retrain.metrics import Accuracy
from retrain.settings.conversion import RECIPES

METRICS_VERSION = 1
"""The version of metrics.json's format."""
_TRAIN_AGAIN = "train again"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. Stages find each other's results by these names alone."""

    folder: Path

    @property
    def graph(self) -> Path:
        """The retrained frozen graph."""
        return self.folder / "output_graph.pb"

    @property
    def graph_labels(self) -> Path:
        """The labels of the frozen graph, one per line."""
        return self.folder / "output_labels.txt"

    @property
    def metrics(self) -> Path:
        """The figures of the training, and its settings."""
        return self.folder / "metrics.json"

    @property
    def contract(self) -> Path:
        """The contract of the frozen graph."""
        return self.folder / "contract.json"

    @property
    def manifest(self) -> Path:
        """The table of all photos, with label and split."""
        return self.folder / "manifest.csv"

    @property
    def failed(self) -> Path:
        """The table of all files left out, with the reasons; there is none if none is."""
        return self.folder / "failed.csv"

    @property
    def summaries(self) -> Path:
        """The TensorBoard events, one folder for each training."""
        return self.folder / "summaries"

    @property
    def checkpoint(self) -> Path:
        """The state of the training after its last round."""
        return self.folder / "checkpoint.npz"

    @property
    def trunk(self) -> Path:
        """The int8 trunk that analysed the photos; there is none if that was of float32."""
        return self.folder / "trunk.tflite"

    @property
    def model(self) -> Path:
        """The TFLite model."""
        return self.folder / "model.tflite"

    @property
    def rejected(self) -> Path:
        """The TFLite model that the gate refused."""
        return self.folder / "model.rejected.tflite"

    @property
    def predictions(self) -> Path:
        """The frozen graph's answer for each photo of validation and testing."""
        return self.folder / "predictions.parquet"

    @property
    def previous_predictions(self) -> Path:
        """The same of the graph that was here before."""
        return self.folder / "previous_predictions.parquet"

    @property
    def model_predictions(self) -> Path:
        """The TFLite model's answer for each test photo."""
        return self.folder / "model_predictions.parquet"

    @property
    def doctor(self) -> Path:
        """What is wrong with the photos."""
        return self.folder / "doctor.json"

    @property
    def learning_curve(self) -> Path:
        """The accuracy of heads that fewer photos trained."""
        return self.folder / "learning_curve.json"

    @property
    def push(self) -> Path:
        """The self-test of the model on the device of the last push."""
        return self.folder / "push.json"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        """The model card: what a person should know of the model."""
        return self.folder / "README.md"

    def command(self, *words: str) -> str:
        """Return the command of `words` for this run, to be copied."""
        return run_command(self.folder, *words)

    def accepted_model(self) -> Path:
        """Return the path of the TFLite model, which was converted from this run's graph.

        Raises BadData if there is none, GateFailed if the last one did not pass its gate.
        """
        if self.rejected.exists() and not self._passed():
            raise GateFailed(
                f"{self.rejected}: the last conversion did not pass: run "
                f"`{self.command('convert')}` again, with what it advised"
            )
        if not self.model.exists():
            raise BadData(f"{self.model}: no such file: run `{self.command('convert')}` first")
        graph_sha256 = model_file.read(self.model).contract.graph_sha256
        # Without a contract the folder has no graph that could be another one.
        if self.contract.exists() and _read_contract(self.contract).graph_sha256 != graph_sha256:
            raise BadData(
                f"{self.model}: converted from another graph than {self.graph}: run "
                f"`{self.command('convert')}` again"
            )
        return self.model

    def _passed(self) -> bool:
        """Return whether conversion.json says that the present model passed.

        If so, a refused model in the folder is left over from a process that was killed.
        """
        try:
            record = versioned_json.read(read_json(self.conversion), str(self.conversion), 1, "")
            return record.boolean("passed") and record.text("model_sha256") == _digest(self.model)
        except (OSError, BadData):
            return False

    def recipe(self, name: str, rejected: bool = False) -> Path:
        """Return the path of the model of the recipe `name`, if several recipes were tried."""
        folder = self.folder / "recipes"
        return (folder / "rejected" if rejected else folder) / f"{name}.tflite"

    def forget_recipes(self) -> None:
        """Remove the models of recipes that an earlier conversion tried."""
        for name in RECIPES:
            for rejected in (False, True):
                self.recipe(name, rejected).unlink(missing_ok=True)

    @property
    def labels(self) -> Path:
        """The labels of the TFLite model, one per line; equal to those inside it."""
        return self.folder / "labels.txt"

    @property
    def conversion(self) -> Path:
        """The figures of the conversion."""
        return self.folder / "conversion.json"

    @property
    def bench(self) -> Path:
        """The figures of the benchmark."""
        return self.folder / "bench.json"

    def read_contract(self, graph: Path | None = None) -> Contract:
        """Return the contract of the run, once `graph`, by default the run's, matches its digest.

        Raises BadData if either cannot be read or the digest differs.
        """
        return self.read_graph(graph)[0]

    def read_graph(self, graph: Path | None = None) -> tuple[Contract, FrozenGraph]:
        """Return the contract as `read_contract` does, and the graph that matches its digest."""
        graph = graph or self.graph
        try:
            contract = _read_contract(self.contract)
            frozen = FrozenGraph(graph.read_bytes(), contract.input, contract.output)
        except OSError as error:
            raise BadData(
                f"{error.filename}: cannot be read ({error.strerror}): run "
                f"`{self.command('train', 'DIR')}` first"
            ) from error
        if frozen.sha256 != contract.graph_sha256:
            raise BadData(f"{graph}: not the graph that {self.contract} describes: {_TRAIN_AGAIN}")
        return contract, frozen

    def test_accuracy(self, contract: Contract) -> Accuracy | None:
        """Return the test accuracy in metrics.json; None if it has none of the contract's graph.

        Raises BadData if metrics.json cannot be read, and if its labels or those of the labels
        file differ from the contract's.
        """
        if self.graph_labels.exists():
            labels = read_labels_file(self.graph_labels)
            _require_labels(labels, contract, self.graph_labels)
        metrics = self.read_metrics(contract)
        if not metrics:
            return None
        test = metrics.object("test")
        total = test.integer("total", least=1)
        accuracy = Accuracy(test.integer("right", least=0, most=total), total)
        _require_labels(tuple(test.object("per_class").values), contract, self.metrics)
        return accuracy

    def read_trunk(self, contract: Contract) -> bytes | None:
        """Return the int8 flatbuffer of the part of the contract's graph below its final layer.

        Returns None if the photos were analysed by another network, if fine-tuning changed that
        part, and if the file is missing or not the one in metrics.json.
        """
        metrics = self.read_metrics(contract)
        if not metrics or not self.trunk.exists():
            return None
        if is_fine_tuned(metrics):
            return None
        trunk = self.trunk.read_bytes()
        return trunk if sha256(trunk).hexdigest() == metrics.text_or_none("trunk_sha256") else None

    def read_metrics(self, contract: Contract) -> Fields | None:
        """Return metrics.json; None if there is none of the contract's graph.

        Raises BadData if it cannot be read.
        """
        if not self.metrics.exists():
            return None
        metrics = versioned_json.read(
            read_json(self.metrics, _TRAIN_AGAIN), str(self.metrics), METRICS_VERSION, _TRAIN_AGAIN
        )
        return metrics if metrics.text("graph_sha256") == contract.graph_sha256 else None

    def require_free(self, setting: str, file: Path | None, own: Path | None = None) -> None:
        """Raise WrongUse if `file`, which `setting` names, is a file of the run, except `own`."""
        names = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
        files: list[Path] = [getattr(self, name) for name in names]
        for path in files:
            if file and path != own and file.resolve() == path.resolve():
                raise WrongUse(
                    f"`{setting}` {file}: the run writes its own {path.name} there: name another, "
                    "or another `output_dir`"
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder and remove what a killed run left; raise WrongUse if it is locked."""
        with lock_folder(self.folder, "output_dir"):
            recipes = (self.recipe("any", rejected).parent for rejected in (False, True))
            sweep(self.folder, *recipes)
            yield


def is_fine_tuned(metrics: Fields) -> bool:
    """Return whether the network of a metrics.json is the fine-tuned one, not the linear one."""
    fine_tuning = metrics.object_or_none("fine_tuning")
    return fine_tuning is not None and fine_tuning.text("kept") != "linear"


def lock_folder(folder: Path, setting: str) -> AbstractContextManager[None]:
    """Create and lock `folder`, which `setting` names; raise WrongUse if it is locked."""
    return _locked(folder, folder / ".lock", setting)


def lock_file(file: Path, setting: str) -> AbstractContextManager[None]:
    """Lock `file`, which `setting` names, by a file beside it; raise WrongUse if it is locked."""
    return _locked(file, file.with_name(f".{file.name}.lock"), setting)


@contextmanager
def _locked(place: Path, path: Path, setting: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            with doing("lock", path):
                try:
                    stack.enter_context(filelock.FileLock(path, blocking=False))
                except OSError as error:
                    error.filename = str(path)  # filelock's is absolute
                    raise
            yield
    except filelock.Timeout as error:
        raise WrongUse(
            f"{place}: another retrain is writing there: wait, or name another `{setting}`"
        ) from error


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _read_contract(path: Path) -> Contract:
    """Return the contract in the file `path`; raise BadData, which names it, or OSError."""
    with naming(path):
        return Contract.from_json(read(path, MAX_JSON_BYTES))


def _require_labels(labels: tuple[str, ...], contract: Contract, path: Path) -> None:
    if labels != contract.labels:
        raise BadData(
            f"{path}: its labels are {', '.join(labels)}, those of the contract "
            f"{', '.join(contract.labels)}: put them back, or {_TRAIN_AGAIN}"
        )
