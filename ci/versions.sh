#!/usr/bin/env bash
# Runs the collection on other versions of PyTorch, each in an environment made from a folder's requirements file alone:
#     bash ci/versions.sh 1.8                  one version: 1.5, 1.8, 2.12 or latest
#     bash ci/versions.sh npu-2.14             another wheel of torch_npu on the simulated CANN: npu-2.1, npu-2.7 or npu-2.14
#     bash ci/versions.sh all                  all on the CPU: 14 GB of environments in .venvs (VENVS=DIR: elsewhere; --drop: 5 GB)
#     bash ci/versions.sh 1.5 --quick          one script of each folder; --help lists the other options
# Exit 0: all green; 1: something is red; 3: nothing is red, but a version could not be run.
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$top/ci/env.sh")      # writes the digits that every version is trained on
exec "$python" "$top/ci/versions.py" "$@"
