#!/bin/sh
# The main job on a real data set, command by command as a user would type them.
# `make demo` sets up what it needs, then runs this. $1 is a folder to work in.
set -eu
mkdir -p "$1"
cd "$1"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run retrain sample solar-cells photos
run retrain train photos
run retrain convert
run retrain bench --threads 1 --rounds 3
run retrain label photos/defective/cell0001.png photos/functional/cell0004.png
run retrain summary
