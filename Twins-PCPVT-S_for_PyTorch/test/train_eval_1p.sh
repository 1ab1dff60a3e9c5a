#!/usr/bin/env bash
# Accuracy of a checkpoint, on one device.
#     bash ./test/train_eval_1p.sh DATA_PATH CHECKPOINT   (or --data_path=DIR --resume=FILE)
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" eval 1 "$@"
