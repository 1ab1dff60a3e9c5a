#!/usr/bin/env bash
# The recipe in train.py, on one device.
#     bash ./test/train_full_1p.sh --data_path=DIR
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" full 1 "$@"
