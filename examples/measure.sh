#!/usr/bin/env bash
# From a raw folder to the number, for the data sets of docs/results.md: shards, training, evaluation.
#
#   examples/measure.sh TASK FOLDER [train flags ...]
#
# TASK is narrated_digits, narrated_digits_agnostic, mmv_narrated_digits, grid_lips, mmv_grid_lips,
# esc10_log_mel, esc10_waveform, fsdd or sign_digits; FOLDER holds its original files. Shards go to
# shards/, the run to runs/TASK (or RUN_DIR). Further flags are handed to vatt_tf.train, e.g.
# --gin_bindings="SEED=1". The commands are those that one types.
set -euo pipefail
python=${PYTHON:-python}
task=$1
folder=$2
shift 2
run=${RUN_DIR:-runs/$task}

prepare() { "$python" -m vatt_tf.prepare --videos="$folder" --quiet "$@"; }
train() { "$python" -m vatt_tf.train --gin_file="gin_configs/examples/$task.gin" --run_dir="$run" "$@"; }
evaluate() { "$python" -m vatt_tf.evaluate --run_dir="$run" "$@" --report; }

case $task in
  narrated_digits | narrated_digits_agnostic | mmv_narrated_digits)
    prepare --manifest="$folder/manifest.csv" --out=shards/narrated_digits
    train "$@"
    evaluate --data=shards/narrated_digits/val --task=zero_shot \
      --prompts=examples/prompts/narrated_digits.txt
    evaluate --data=shards/narrated_digits/val --task=retrieval
    ;;
  grid_lips | mmv_grid_lips)
    prepare --manifest="$folder/sentences.csv" --frame_rate=25 --out=shards/grid_lips
    train "$@"
    evaluate --data=shards/grid_lips/val --task=retrieval
    ;;
  esc10_log_mel)
    prepare --dataset=esc10 --fold=4 --out=shards/esc10
    train "$@"
    evaluate --data=shards/esc10/val --task=classify
    ;;
  esc10_waveform)
    prepare --dataset=esc10 --fold=4 --sample_rate=16000 --out=shards/esc10_16khz
    train "$@"
    evaluate --data=shards/esc10_16khz/val --task=classify
    ;;
  fsdd)
    prepare --dataset=fsdd --out=shards/fsdd
    train "$@"
    evaluate --data=shards/fsdd/test --task=classify
    ;;
  sign_digits)
    prepare --dataset=sign_digits --out=shards/sign_digits
    train "$@"
    evaluate --data=shards/sign_digits/val --task=classify --views=imagenet
    ;;
  *)
    echo "error: unknown task $task" >&2
    exit 2
    ;;
esac
