#!/usr/bin/env bash
# One run, from the command line to the exit status:
#
#     launch.sh CASE RANKS [DATA_PATH [CHECKPOINT]] [--data_path=DIR] [--output_dir=DIR] [--nproc_per_node=N]
#               [--device_id=N] [--bind|--no-bind] [any option of train.py ...]
#
# CASE: full, performance, eval or finetune. RANKS: processes on this machine. Options as --key=value or --key value.
# --bind: each of several processes gets cores of its own.
# Environment: ASCEND_DEVICE_ID, etp_running_flag, RANK_SIZE or NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT (under
# srun Slurm's own), PYTHON. The scripts in a folder's test/ call this; it runs the train.py of the folder that it lies in.
set -Eeuo pipefail
unset CDPATH PYTHONSAFEPATH     # `cd` would print, and `python -m` would not find the folder
trap '' PIPE                    # where nobody reads the terminal any more (`... | head`), the run goes on

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
case_=$1 ranks=$2
shift 2
started=$SECONDS

begun=''
fail() {     # once the output folder is known, a failure leaves its FAILED summary there
    echo "[Error] $*" >&2 || true
    if [[ -n $begun ]]; then
        echo "[Error] $*" >> "$output/$log_name" || true
        finish 1 > /dev/null || true
    fi
    exit 1
}
whole() {    # NAME VALUE LEAST MOST: before bash calculates with a value, which it would take for an expression
    [[ $2 =~ ^(0|[1-9][0-9]{0,6})$ ]] && (($2 >= $3 && $2 <= $4)) || fail "$1 is '$2'; give a whole number from $3 to $4"
}

# ---- arguments: what the shell needs is noted, everything else goes to train.py as it came
data_path='' checkpoint='' output='' device=auto device_id=${ASCEND_DEVICE_ID:-} nproc='' bind='' help='' pass=()
if (($#)) && [[ $1 != -* ]]; then
    data_path=$1; shift
    if (($#)) && [[ $1 != -* ]]; then checkpoint=$1; shift; fi
fi
while (($#)); do
    if [[ $1 == ---* ]]; then set -- "--${1#"${1%%[!-]*}"}" "${@:2}"; fi     # ----nproc_per_node, as a README had it
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
if [[ -n $checkpoint ]]; then
    case $case_ in
        eval) pass=("--resume=$checkpoint" ${pass[@]+"${pass[@]}"}) ;;
        finetune) pass=("--finetune=$checkpoint" ${pass[@]+"${pass[@]}"}) ;;
    esac
fi

# ---- how many processes, on how many machines
first_host() {     # of a list of Slurm's, such as node[07-09,12]
    scontrol show hostnames "$1" 2>/dev/null | head -n 1 | grep . || sed 's/\[\([0-9]*\)[^]]*\].*/\1/; s/,.*//' <<< "$1"
}
if [[ -z ${NNODES:-} && ${SLURM_STEP_NUM_NODES:-1} != 1 ]]; then     # srun, on several machines
    [[ ${SLURM_STEP_NUM_TASKS:-} == "$SLURM_STEP_NUM_NODES" ]] ||
        fail "srun has started ${SLURM_STEP_NUM_TASKS:-?} tasks on $SLURM_STEP_NUM_NODES nodes; give it --ntasks-per-node=1, the script starts the processes"
    NNODES=$SLURM_STEP_NUM_NODES NODE_RANK=${SLURM_NODEID:-} job=${SLURM_JOB_ID:-0}
    MASTER_ADDR=${MASTER_ADDR:-$(first_host "${SLURM_STEP_NODELIST:-}")}
    [[ ! $job =~ ^[0-9]+$ ]] || MASTER_PORT=${MASTER_PORT:-$((20000 + 10#$job % 10000))}     # of its own, for each job
fi
nnodes=${NNODES:-1} node_rank=${NODE_RANK:-0}
whole NNODES "$nnodes" 1 100000
((nnodes == 1)) || [[ -n ${MASTER_ADDR:-} ]] ||
    fail "NNODES is $nnodes and MASTER_ADDR is not set; set it to the address of the machine with NODE_RANK=0"
whole NODE_RANK "$node_rank" 0 "$((nnodes - 1))"
if [[ -z $nproc ]]; then
    nproc=$ranks
    if ((ranks > 1)) && [[ -n ${NPROC_PER_NODE:-} ]]; then
        whole NPROC_PER_NODE "$NPROC_PER_NODE" 1 100000
        nproc=$NPROC_PER_NODE
    elif ((ranks > 1)) && [[ -n ${RANK_SIZE:-} ]]; then
        whole RANK_SIZE "$RANK_SIZE" 1 1000000
        ((RANK_SIZE % nnodes == 0)) || fail "RANK_SIZE is $RANK_SIZE and does not divide by NNODES, $nnodes; change one of them"
        nproc=$((RANK_SIZE / nnodes))
    fi
fi
whole 'the number of processes (--nproc_per_node)' "$nproc" 1 100000
[[ -z $device_id ]] || whole 'the device id (--device_id or ASCEND_DEVICE_ID)' "$device_id" 0 1000000
((nproc == 1)) || [[ -z ${OMP_NUM_THREADS:-} ]] || whole OMP_NUM_THREADS "$OMP_NUM_THREADS" 1 100000
world=$((nproc * nnodes))
port=${MASTER_PORT:-$((nnodes > 1 ? 29500 : 0))}      # 0: any free one
whole MASTER_PORT "$port" "$((nnodes > 1 ? 1 : 0))" 65535

# ---- where it writes
output=${output:-$folder/test/output/${device_id:-0}}
mkdir -p "$output" || fail "the output folder $output cannot be made; choose another with --output_dir"
output=$(cd "$output" && pwd -P)
prefix=train; if [[ $case_ == eval ]]; then prefix='eval'; fi
node=''; if ((node_rank > 0)); then node=_node$node_rank; fi     # machines may share the folder
log_name=${prefix}_${device_id:-0}$node.log
log() {      # a second Ctrl-C does not take its record from a run
    (trap '' INT TERM HUP USR1
     cd "$folder" && "$python" -m common.result "$@" --folder "$output" --log-name "$log_name" --case "$case_")
}
finish() {   # CODE: writes the summary and prints the last lines
    log finish --network "$(basename "$folder")" --ranks "$world" --node "$node_rank" --code "$1" \
        --seconds "$((SECONDS - started))"
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

# ---- signals go to the trainer; before there is one, the run ends here. (Those that were ignored from the start, as HUP is under
# nohup, bash does not trap.)
signalled=0 trainer='' starting=''
stop() {     # CODE SIGNAL
    signalled=$1
    if [[ -n $trainer ]]; then
        kill -s "$2" "$trainer" 2>/dev/null || true
    elif [[ -z $starting ]]; then
        code=$1
        finish "$1" || code=$?
        exit "$code"
    fi
}
trap 'stop 143 TERM' TERM
trap 'stop 130 TERM' INT      # TERM too: bash starts what it puts in the background with INT ignored
trap 'stop 129 HUP' HUP
trap '[[ -z $trainer ]] || kill -s USR1 "$trainer" 2>/dev/null || true' USR1     # save, and go on

# ---- environment
export TORCH_DEVICE_BACKEND_AUTOLOAD=${TORCH_DEVICE_BACKEND_AUTOLOAD:-0}   # accelerator.py imports torch_npu itself
if [[ -t 1 ]]; then export PROGRESS_TTY=1; fi                               # progress.py draws beside the log
if ((nproc > 1)); then
    # Ranks share the cores, so a thread that waits sleeps soon. Alone it keeps OpenMP's own way, up to a tenth faster.
    if [[ -z ${OMP_WAIT_POLICY:-} ]]; then export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}; fi
    cores=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > nproc ? cores / nproc : 1))}
fi
if [[ ${etp_running_flag:-} != true ]]; then
    if [[ $bind == yes ]]; then export CPU_AFFINITY_CONF=${CPU_AFFINITY_CONF:-0}; fi     # launcher.py does it
    source "$folder/common/env_npu.sh" "$device" "$nproc" || fail "$npu_problem"
fi
need_torch

command=("$python" -u)
if ((world > 1)); then
    command+=("$folder/common/launcher.py" "--nproc_per_node=$nproc" "--nnodes=$nnodes" "--node_rank=$node_rank"
              "--master_addr=${MASTER_ADDR:-127.0.0.1}" "--master_port=$port")
    if [[ $bind == yes ]]; then command+=(--bind); fi
fi
command+=("$folder/train.py" "${arguments[@]}")

# ---- run: everything that any rank says goes to the log and on to the terminal
pipe=$(mktemp -d 2>/dev/null || mktemp -d "$output/.pipe.XXXXXX") && mkfifo "$pipe/fifo" "$pipe/silent" ||
    fail "no pipe can be made in TMPDIR (${TMPDIR:-/tmp}) nor in $output; set TMPDIR to a folder that can be written to"
# tee goes on with the log where the terminal is gone, and the other way round. Should it end before the trainer does, somebody
# must go on reading, or the trainer could not write.
(trap '' INT TERM HUP USR1; tee -a "$output/$log_name" || cat >> "$output/$log_name" || cat > /dev/null) < "$pipe/fifo" &
tee=$!
starting=1
if [[ -t 2 ]]; then echo 'Loading torch ...' >&2; fi
(trap '' USR1; exec "${command[@]}") > "$pipe/fifo" 2>&1 &     # until the trainer knows what to do with it
trainer=$!
((signalled == 0)) || kill -s TERM "$trainer" 2>/dev/null || true
# Not by wait: of two signals that come at once, bash would see to the second when the trainer has ended.
exec 8<> "$pipe/silent"
while kill -0 "$trainer" 2>/dev/null; do read -r -t 0.2 -u 8 || true; done
code=0
wait "$trainer" || code=$?
wait "$tee" || true
rm -rf "$pipe"
((code == 0 || signalled == 0)) || code=$signalled
finish "$code" || code=$?
exit "$code"
