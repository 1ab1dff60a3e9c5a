#!/usr/bin/env bash
# Sets the Ascend environment. Sourced by launch.sh as `env_npu.sh DEVICE PROCESSES`; does nothing for cuda and cpu.
# Without CANN: silence for auto (another device will do); for npu a sentence in $npu_problem and status 1.
# CANN_SEARCH_ROOT: a prefix of all the places that are looked at, for tests and chroots.

npu_set_env_script() {   # prints CANN's script, toolkit before nnae (its part for running only)
    local root=${CANN_SEARCH_ROOT:-} info installed=() place script
    info=$root/etc/Ascend/ascend_cann_install.info
    if [[ -r $info ]]; then
        mapfile -t installed < <(sed -n 's/^\(Toolkit_InstallPath\|NNAE_InstallPath\|Install_Path\)=//p' "$info")
    fi
    local places=()
    if [[ -n ${ASCEND_HOME_PATH:-} ]]; then places+=("$ASCEND_HOME_PATH" "$ASCEND_HOME_PATH/.."); fi
    for place in ${installed[@]+"${installed[@]}"} "$root/usr/local/Ascend" "$root${HOME:-/root}/Ascend"; do
        places+=("$place/ascend-toolkit" "$place/cann" "$place/nnae" "$place")
    done
    for place in "${places[@]}"; do
        for script in "$place/set_env.sh" "$place/bin/setenv.bash"; do
            if [[ -r $script ]]; then echo "$script"; return 0; fi
        done
    done
    return 1
}

npu_cards() {   # ASCEND_RT_VISIBLE_DEVICES as CANN reads it: it stops at a blank, and wants ascending numbers
    local cards=${ASCEND_RT_VISIBLE_DEVICES//[[:space:]]/}
    if [[ ! $cards =~ ^[0-9]+(,[0-9]+)*$ || $cards != "$(tr , '\n' <<< "$cards" | sort -n | paste -sd,)" ]]; then
        npu_problem="ASCEND_RT_VISIBLE_DEVICES is '$ASCEND_RT_VISIBLE_DEVICES'; it must be ascending numbers with commas, such as 0,1,2"
        return 1
    fi
    export ASCEND_RT_VISIBLE_DEVICES=$cards
}

npu_defaults() {   # PROCESSES: what torch_npu 2.1 to 2.14 reads, unless it is set already
    export TASK_QUEUE_ENABLE=${TASK_QUEUE_ENABLE:-1}                 # operators are queued while Python runs on
    export HCCL_CONNECT_TIMEOUT=${HCCL_CONNECT_TIMEOUT:-600}         # seconds; ranks may load data first
    export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}     # errors only
    export COMBINED_ENABLE=${COMBINED_ENABLE:-1}                     # torch_npu < 2.1's kernels: two view copies in one
    if (($1 > 1)); then
        export CPU_AFFINITY_CONF=${CPU_AFFINITY_CONF:-1}             # each card's process on its share of the cores
    fi
}

case ${1:-auto} in
    npu* | auto)
        if [[ -n ${ASCEND_RT_VISIBLE_DEVICES:-} ]]; then npu_cards || return 1; fi
        if [[ -n ${ASCEND_HOME_PATH:-} && -n ${ASCEND_OPP_PATH:-} ]]; then
            npu_defaults "${2:-1}"           # somebody has sourced it already
        elif npu_script=$(npu_set_env_script); then
            set +eu                          # CANN's script reads variables that may be unset, and tests that may fail
            source "$npu_script"
            set -eu
            npu_defaults "${2:-1}"
        elif [[ ${1:-auto} == npu* ]]; then
            npu_problem='--device npu: no CANN installation was found (by ASCEND_HOME_PATH, /etc/Ascend/ascend_cann_install.info, '
            npu_problem+='/usr/local/Ascend, ~/Ascend); install CANN, or choose --device cuda or cpu'
            return 1
        fi ;;
esac
