#!/usr/bin/env bash
# One run, from the command line to the exit status:
#
#     launch.sh CASE RANKS [DATA_PATH [CHECKPOINT]] [--data_path=DIR] [--output_dir=DIR] [--nproc_per_node=N]
#               [--device_id=N] [--bind|--no-bind] [any option of train.py ...]
#
# CASE: full, performance, eval or finetune. RANKS: processes on this machine. Options as --key=value or --key value.
# --bind: each of several processes gets cores of its own.
# Environment: ASCEND_DEVICE_ID, etp_running_flag, RANK_SIZE or NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT,
# PYTHON. The scripts in a folder's test/ call this; it runs the train.py of the folder that it lies in.
set -Eeuo pipefail
unset CDPATH PYTHONSAFEPATH     # `cd` would print, and `python -m` would not find the folder

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
case_=$1 ranks=$2
shift 2
started=$SECONDS

begun=''
fail() {     # once the output folder is known, a failure leaves its FAILED summary there
    echo "[Error] $*" >&2
    if [[ -n $begun ]]; then
        echo "[Error] $*" >> "$output/$log_name"
        finish 1 > /dev/null || true
    fi
    exit 1
}

# ---- arguments: what the shell needs is noted, everything else goes to train.py as it came
data_path='' checkpoint='' output='' device=auto device_id=${ASCEND_DEVICE_ID:-} nproc='' bind='' help='' pass=()
if (($#)) && [[ $1 != -* ]]; then
    data_path=$1; shift
    if (($#)) && [[ $1 != -* ]]; then checkpoint=$1; shift; fi
fi
while (($#)); do
    name=${1%%=*}
    taken=1 value=''
    if [[ $1 == *=* ]]; then value=${1#*=}; elif (($# > 1)); then value=$2 taken=2; fi
    case $name in
        --data_path | --data-path) data_path=$value ;;
        --output_dir | --output-dir) output=$value ;;
        --nproc_per_node | --nproc-per-node) nproc=$value ;;
        --device_id | --device-id) device_id=$value ;;
        --device) device=$value; pass+=("--device=$value") ;;
        --bind) bind=${bind:-yes} taken=1 ;;
        --no-bind | --no_bind) bind=no taken=1 ;;     # also where the script says --bind
        -h | --help) help=1 taken=1 ;;
        *) pass+=("$1") taken=1 ;;
    esac
    shift "$(($# < taken ? $# : taken))"
done

python=${PYTHON:-$(command -v python3 || command -v python || true)}
[[ -n $python ]] || fail 'no python3 on the PATH; activate the environment that the requirements were installed in'
command -v "$python" > /dev/null || fail "PYTHON is '$python', and there is no such program; give the path of a python3"
need_torch() {
    "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' ||
        fail "torch is not installed for $python: $(printf '%q -m pip install -r %q' "$python" "$folder/requirements.txt")"
}
if [[ -n $help ]]; then
    need_torch
    sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exec "$python" "$folder/train.py" --help
fi
[[ -n $data_path ]] || fail 'para "data_path" must be confing'
if [[ $case_ == eval || $case_ == finetune ]] && [[ -n $checkpoint ]]; then pass=("--resume=$checkpoint" ${pass[@]+"${pass[@]}"}); fi

# ---- how many processes, on how many machines
nnodes=${NNODES:-1} node_rank=${NODE_RANK:-0}
if [[ -z $nproc ]]; then
    nproc=$ranks
    if ((ranks > 1)); then
        nproc=${NPROC_PER_NODE:-$((${RANK_SIZE:-$((ranks * nnodes))} / nnodes))}
    fi
fi
[[ $nproc =~ ^[1-9][0-9]*$ ]] || fail "the number of processes is '$nproc'; give --nproc_per_node=N with N of 1 or more"
[[ -z $device_id || $device_id =~ ^[0-9]+$ ]] || fail "the device id is '$device_id'; give --device_id=N, a number"
world=$((nproc * nnodes))

# ---- where it writes
output=${output:-$folder/test/output/${device_id:-0}}
mkdir -p "$output" || fail "the output folder $output cannot be made; choose another with --output_dir"
output=$(cd "$output" && pwd -P)
prefix=train; if [[ $case_ == eval ]]; then prefix='eval'; fi
node=''; if ((node_rank > 0)); then node=_node$node_rank; fi     # machines may share the folder
log_name=${prefix}_${device_id:-0}$node.log
log() { (cd "$folder" && "$python" -m common.result "$@" --folder "$output" --log-name "$log_name" --case "$case_"); }
finish() {   # CODE: writes the summary and prints the last lines
    log finish --network "$(basename "$folder")" --ranks "$world" --code "$1" --seconds "$((SECONDS - started))"
}
arguments=("--case=$case_" "--data-path=$data_path" "--output-dir=$output" ${pass[@]+"${pass[@]}"})
if ((world == 1)) && [[ -n $device_id ]]; then arguments+=("--device-id=$device_id"); fi
(cd "$folder" && "$python" -m common.cli "${arguments[@]}") || exit $?    # before a file is touched or a rank started
lock=.lock$node; if [[ $case_ == eval ]]; then lock=.lock_eval$node; fi
{ : >> "$output/$lock"; } 2>/dev/null || fail "the output folder $output cannot be written to; choose another with --output_dir"
exec 9<> "$output/$lock"          # held by all processes of this run, and so free when the last one has ended, however it ends
RUN_ID=$(date +%Y%m%d-%H%M%S)-$$
export RUN_ID
log begin --lock 9 --pid $$ --node "$node_rank" || exit 1
begun=1

# ---- environment
export TORCH_DEVICE_BACKEND_AUTOLOAD=${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}   # accelerator.py imports torch_npu itself
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}                           # ranks and workers share the cores
if [[ -t 1 ]]; then export PROGRESS_TTY=1; fi                               # progress.py draws beside the log
if ((nproc > 1)); then
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > nproc ? cores / nproc : 1))}
fi
if [[ ${etp_running_flag:-} != true ]]; then
    if [[ $bind == yes ]]; then export CPU_AFFINITY_CONF=${CPU_AFFINITY_CONF:-0}; fi     # launcher.py does it
    source "$folder/common/env_npu.sh" "$device" "$nproc" || fail "$npu_problem"
fi
need_torch

command=("$python" -u)
if ((world > 1)); then
    port=${MASTER_PORT:-$((nnodes > 1 ? 29500 : 0))}      # 0: any free one
    [[ $port =~ ^[0-9]+$ && $port -lt 65536 ]] || fail "MASTER_PORT is '$port'; it must be a number below 65536"
    command+=("$folder/common/launcher.py" "--nproc_per_node=$nproc" "--nnodes=$nnodes" "--node_rank=$node_rank"
              "--master_addr=${MASTER_ADDR:-127.0.0.1}" "--master_port=$port")
    if [[ $bind == yes ]]; then command+=(--bind); fi
fi
command+=("$folder/train.py" "${arguments[@]}")

# ---- run: everything that any rank says goes to the log and on to the terminal; signals go to the trainer
pipe=$(mktemp -d)
mkfifo "$pipe/fifo"
(trap '' INT TERM HUP; exec tee -a "$output/$log_name" < "$pipe/fifo") &
tee=$!
signalled=0 trainer=''
# TERM for both: bash starts what it puts in the background with INT ignored
stop() { signalled=$1; [[ -z $trainer ]] || kill -s TERM "$trainer" 2>/dev/null || true; }
trap 'stop 143' TERM
trap 'stop 130' INT
"${command[@]}" > "$pipe/fifo" 2>&1 &
trainer=$!
code=0
while :; do
    code=0
    wait "$trainer" || code=$?
    kill -0 "$trainer" 2>/dev/null || break     # a wait that a signal cut short is waited again
done
wait "$tee" || true
rm -rf "$pipe"
((code == 0 || signalled == 0)) || code=$signalled
if ((node_rank > 0)); then
    echo "The results of the run are on the machine with NODE_RANK=0."
    exit "$code"
fi
finish "$code" || code=$?
exit "$code"
