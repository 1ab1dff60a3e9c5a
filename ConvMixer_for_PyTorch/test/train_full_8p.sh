#!/usr/bin/env bash
# The recipe in train.py, on eight devices.
#     bash ./test/train_full_8p.sh --data_path=DIR
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" full 8 "$@"
