"""The retrained graph: backbone and final layer in one frozen GraphDef, or as a SavedModel."""

import shutil
from pathlib import Path

from deploy.errors import BadData, WrongUse
from deploy.system.temporary_files import scratch
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.training.head import Head


def frozen_graph(backbone: Backbone, head: Head, final_tensor_name: str) -> bytes:
    """Return a GraphDef from `input`, float32 (N, height, width, 3) as the contract says.

    Its output, the operation `final_tensor_name`, gives probabilities (N, classes); `bottleneck`
    and `logits` can be read too. Raises WrongUse if the backbone has an operation of that name.
    """
    tf = tf_graph.tensorflow()
    with tf.Graph().as_default() as retrained:
        tf.import_graph_def(tf_graph.read(backbone.graph_path), name="")
        bottleneck = retrained.get_tensor_by_name(f"{tf_graph.BOTTLENECK}:0")
        product = tf.matmul(bottleneck, tf.constant(head.weights, name="final_weights"))
        logits = tf.nn.bias_add(
            product, tf.constant(head.bias, name="final_biases"), name=tf_graph.LOGITS
        )
        made = tf.nn.softmax(logits, name=final_tensor_name)
    if made.op.name != final_tensor_name:
        raise WrongUse(
            f"--final-tensor-name {final_tensor_name}: the backbone has an operation of that name"
        )
    # Deterministic: else protobuf shuffles attributes, and the same weights give other bytes.
    serialized: bytes = retrained.as_graph_def().SerializeToString(deterministic=True)
    return serialized


def require_free(folder: Path) -> None:
    """Raise WrongUse if a SavedModel cannot be put at `folder`, since something is there."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise WrongUse(
            f"--saved-model-dir {folder}: TensorFlow writes to paths in UTF-8 only: name another"
        ) from error
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WrongUse(f"--saved-model-dir {folder}: it is not empty: remove it or name another")


def saved_model(frozen: bytes, output: str, folder: Path) -> None:
    """Write the frozen graph as a SavedModel, whole or not at all.

    Its signature `serving_default` takes `image`, float32 (N, height, width, 3) as the contract
    says, and gives `prediction`, what the operation `output` gives.
    """
    tf = tf_graph.tensorflow()
    require_free(folder)
    run = tf_graph.function(tf_graph.parse(frozen), output)
    module = tf.Module()
    shape = run.inputs[0].shape

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def predict(image: object) -> dict[str, object]:
        return {"prediction": run(image)}

    module.predict = predict
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent) as temporary:
        made = temporary / "saved"
        try:
            tf.saved_model.save(module, str(made), signatures=predict)
        except tf.errors.OpError as error:  # TensorFlow's own kinds, of a full disk too
            reason = error.message.rpartition("; ")[2]
            raise BadData(f"cannot write {folder}: {reason}: name another place") from error
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)
