#!/usr/bin/env bash
# The classes of images, by a checkpoint.
#     bash ./test/predict.sh CHECKPOINT IMAGE_OR_FOLDER... [--top-k=N] [--predictions=FILE.csv] [any option of train.py ...]
set -Eeuo pipefail
unset CDPATH PYTHONSAFEPATH
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=${PYTHON:-$(command -v python3 || command -v python || true)}
fail() { echo "[Error] $*" >&2; exit 1; }
[[ -n $python ]] || fail 'no python3 on the PATH; activate the environment that the requirements were installed in'
(($# > 1)) && [[ $1 != -* && $2 != -* ]] || fail 'give a checkpoint, then images or folders of images'
checkpoint=$1 images=()
shift
while (($#)) && [[ $1 != -* ]]; do images+=("$1"); shift; done
device=auto before=''
for word in "$@"; do
    if [[ $word == --device=* ]]; then device=${word#*=}; elif [[ $before == --device ]]; then device=$word; fi
    before=$word
done
export TORCH_DEVICE_BACKEND_AUTOLOAD=${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}   # accelerator.py imports torch_npu itself
if [[ ${etp_running_flag:-} != true ]]; then
    source "$folder/common/env_npu.sh" "$device" 1 || fail "$npu_problem"
fi
exec "$python" "$folder/train.py" --resume="$checkpoint" --predict "${images[@]}" "$@"
