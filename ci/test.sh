#!/usr/bin/env bash
# The tests, in an environment of their own:  bash ci/test.sh [arguments of pytest ...]
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$(bash "$top/ci/env.sh")
cd "$top"
exec "$python" -m pytest --durations=5 "$@"
