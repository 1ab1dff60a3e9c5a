#!/usr/bin/env bash
# Throughput on eight devices: a short, measured run of the recipe.
#     bash ./test/train_performance_8p.sh --data_path=DIR
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" performance 8 "$@"
