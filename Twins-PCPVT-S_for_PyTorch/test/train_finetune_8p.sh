#!/usr/bin/env bash
# A new run from a checkpoint's weights, on eight devices.
#     bash ./test/train_finetune_8p.sh --data_path=DIR --finetune_pth=FILE
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" finetune 8 "$@"
