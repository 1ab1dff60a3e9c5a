#!/usr/bin/env bash
# Throughput on one device: a short, measured run of the recipe.
#     bash ./test/train_performance_1p.sh --data_path=DIR
exec bash "$(dirname "${BASH_SOURCE[0]}")/../common/launch.sh" performance 1 "$@"
