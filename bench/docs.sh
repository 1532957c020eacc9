#!/bin/sh
# Measures what docs/measurements/latency.md shows and writes it, with its plots. `make bench-docs` runs it.
# $1: a folder to work in. $2: a Python with tflite-runtime. $3: the folder to write into.
# MOBILENET_V2_WEIGHTS: a .weights.h5 file; without it, as for Inception v3, weights are random,
# which costs the same time and has no accuracy worth showing.
set -eu
mkdir -p "$1" "$3/assets" "$3/measurements"
work=$(cd "$1" && pwd)
device=$2
docs=$3

random_weights() {
    python -c 'import sys, keras
make = getattr(keras.applications, sys.argv[1])
make(weights=None, include_top=False).save_weights(sys.argv[2])' "$1" "$2"
}

# Trains, converts to every recipe, measures all against the original network's graph.
# $1: the network. $2: the kind of its weights, "random" or "published". Other arguments: options of
# `retrain train` that name the weights.
measure() {
    name=$1
    run=$work/$1
    kind=$2
    shift 2
    retrain train "$photos" --architecture "$name" --output-dir "$run" "$@"
    retrain convert --output-dir "$run" --choose --max-accuracy-drop 100 --min-agreement 0 \
        --max-mean-difference 1 --goldens 0
    [ "$kind" = random ] && rm "$run/conversion.json"
    retrain backbones --architecture "$name" --output-graph "$work/$name-original.pb" "$@"
    retrain bench "$work/$name-original.pb" "$run/output_graph.pb" "$run/recipes/float32.tflite" \
        "$run/recipes/float16.tflite" "$run/recipes/int8.tflite" \
        --runtime-python "$device" --json >"$work/$name.json"
    {
        printf '\n## %s, %s weights\n\n' "$name" "$kind"
        retrain bench show "$work/$name.json" --markdown
        printf '\n![Latency and accuracy of the models of %s](../assets/bench-%s.svg)\n' "$name" "$name"
    } >>"$work/bench.md"
    retrain bench plot "$work/$name.json" --output "$docs/assets/bench-$name.svg"
}

retrain sample solar-cells "$work/all"
few=$work/few
for label in defective functional; do
    mkdir -p "$few/$label"
    find "$work/all/$label" -name '*.png' | sort | head -100 | while read -r photo; do
        cp "$photo" "$few/$label"
    done
done

cat >"$work/bench.md" <<'TEXT'
# Latency

`make bench-docs` writes this page. The models were trained on the photos of `retrain sample solar-cells`.
[How the benchmark measures](../explanation/benchmark.md) says what the columns mean. Ratios are against the
frozen graph of the original network, from photo to bottleneck, as `retrain backbones --output-graph`
writes it. MobileNetV2's published weights are those of the file that `MOBILENET_V2_WEIGHTS` names.
Without it they are random, as those of Inception v3 are here. Random weights take the same time.
TEXT

photos=$work/all
measure efficientnet_lite0 published
if [ -n "${MOBILENET_V2_WEIGHTS:-}" ]; then
    measure mobilenet_v2 published --weights "$MOBILENET_V2_WEIGHTS"
else
    photos=$few
    random_weights MobileNetV2 "$work/mobilenet_v2.weights.h5"
    measure mobilenet_v2 random --weights "$work/mobilenet_v2.weights.h5"
fi
photos=$few
random_weights InceptionV3 "$work/inception_v3.weights.h5"
measure inception_v3 random --weights "$work/inception_v3.weights.h5"

lite0=$work/efficientnet_lite0
failed=0
{
    printf '\n## Five times the same\n\n```text\n'
    python -m bench.experiments.repeat "$lite0/output_graph.pb" "$lite0/recipes/int8.tflite" --threads 1 \
        --max-variation 8 || failed=$?
    printf '```\n\n## Against a bare loop around `Interpreter.invoke`\n\n```text\n'
    (cd "$lite0" && python -m bench.experiments.bare recipes/int8.tflite) || failed=$?
    printf '```\n'
} >>"$work/bench.md"
cp "$work/bench.md" "$docs/measurements/latency.md"
exit "$failed"
