#!/usr/bin/env bash
# Layout and common mistakes: ruff on the Python files, shellcheck on the shell scripts, hadolint on the Dockerfiles.
#     bash ci/lint.sh            look
#     bash ci/lint.sh --fix      put right what ruff can
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
bin=$(dirname "$(bash "$top/ci/env.sh")")
cd "$top"
if [[ ${1:-} == --fix ]]; then
    "$bin/ruff" check --fix --quiet . || true
    "$bin/ruff" format --quiet .
fi
code=0
"$bin/ruff" check . || code=1
"$bin/ruff" format --check . || code=1
# a folder's common/ is a copy, and its launch scripts differ in words only; SC1090: CANN's set_env.sh lies where the host has it
find .ci ci common tests VAN-Classification_for_PyTorch/test -type f \( -name '*.sh' -o -path .ci/run \) -print0 |
    xargs -0 "$bin/shellcheck" --severity=warning --exclude=SC1090 || code=1
"$bin/hadolint" ci/folder_files/*Dockerfile || code=1
exit "$code"
