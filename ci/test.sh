#!/usr/bin/env bash
# The tests, in an environment of their own, two at a time:  bash ci/test.sh [arguments of pytest ...]
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$top/ci/env.sh")
cd "$top"
exec "$python" -m pytest -n 2 --dist worksteal --durations=12 "$@"
