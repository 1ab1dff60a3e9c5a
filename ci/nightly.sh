#!/usr/bin/env bash
# What takes too long for .ci/run: the long tests, every script on the simulated NPU and on all versions of PyTorch.
#     bash ci/nightly.sh
# A part that fails does not stop the others. The last lines say how each ended; exit 1 when one has failed.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0 summary=()
part() {   # NAME COMMAND...
    local name=$1 begun=$SECONDS code=0 ended=passed
    shift
    echo "==== $name"
    "$@" || code=$?
    if ((code)); then failed=1 ended="FAILED with $code"; fi
    summary+=("$(printf '%-32s %-16s %6d s' "$name" "$ended" "$((SECONDS - begun))")")
}

part 'long tests' bash ci/test.sh -m long
part 'every script, simulated NPU' bash ci/test.sh tests/integration/test_every_script.py --device npu --simulate
for version in 1.5 1.8 2.12 latest; do
    part "every script, PyTorch $version" bash ci/versions.sh "$version" --drop
done
printf '%s\n' "${summary[@]}"
exit "$failed"
