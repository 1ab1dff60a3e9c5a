#!/usr/bin/env bash
# What takes too long for .ci/run: the long tests, two hundred kills, every script on the vendor's torch_npu (CANN simulated; two ranks, in one folder
# also eight; the scripts for one process on a 910A too; a few of them on other wheels of it) and on all versions of PyTorch.
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
on_npu=(bash ci/test.sh tests/integration/test_every_script.py --device npu --simulate)
part 'kills' "$(bash ci/env.sh)" ci/kill.py
part 'every script, 910B, 2 ranks' "${on_npu[@]}" --ranks 2
part 'scripts of VAN, 910B, 8 ranks' "${on_npu[@]}" --folders VAN --scripts 8p
part 'every script, 910A, 1 rank' "${on_npu[@]}" --chip Ascend910A --ranks 2 --scripts 1p
for version in 1.5 1.8 2.12 latest; do
    part "every script, PyTorch $version" bash ci/versions.sh "$version" --drop
done
for version in npu-2.1 npu-2.7 npu-2.14; do
    part "training, torch_$version" bash ci/versions.sh "$version" --drop
done
printf '%s\n' "${summary[@]}"
exit "$failed"
