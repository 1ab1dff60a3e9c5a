#!/usr/bin/env bash
# Accuracy of a checkpoint, on eight devices; every image is counted once.
#     bash ./test/train_eval_8p.sh DATA_PATH CHECKPOINT   (or --data_path=DIR --resume=FILE)
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" eval 8 "$@" --bind
