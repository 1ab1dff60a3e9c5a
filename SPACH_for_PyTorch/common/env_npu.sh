#!/usr/bin/env bash
# Sets the Ascend environment. Sourced by launch.sh with the wanted device as $1; does nothing for cuda and cpu.
# Without CANN: silence for auto (another device will do); for npu a sentence in $cann_missing and status 1.

find_cann() {
    local info=/etc/Ascend/ascend_cann_install.info installed='' place
    [[ -r $info ]] && installed=$(sed -n 's/^Toolkit_InstallPath=//p; s/^Install_Path=//p' "$info" | head -n 1)
    for place in "${ASCEND_HOME_PATH:-}" "$installed/ascend-toolkit" "$installed/nnae" "$installed" \
                 /usr/local/Ascend/ascend-toolkit /usr/local/Ascend/nnae \
                 "${HOME:-}/Ascend/ascend-toolkit" "${HOME:-}/Ascend/nnae"; do
        if [[ -n $place && -r $place/set_env.sh ]]; then echo "$place/set_env.sh"; return 0; fi
    done
    return 1
}

case ${1:-auto} in
    npu* | auto)
        if cann=$(find_cann); then
            set +u                       # CANN's script reads variables that may be unset
            source "$cann"
            set -u
            export TASK_QUEUE_ENABLE=${TASK_QUEUE_ENABLE:-1}                 # operators are queued while Python runs on
            export HCCL_CONNECT_TIMEOUT=${HCCL_CONNECT_TIMEOUT:-600}         # seconds; ranks may load data first
            export ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}     # errors only
        elif [[ ${1:-auto} == npu* && -z ${ASCEND_HOME_PATH:-} ]]; then
            cann_missing='--device npu: no CANN toolkit was found (/etc/Ascend/ascend_cann_install.info, ASCEND_HOME_PATH, '
            cann_missing+='/usr/local/Ascend); install CANN or choose --device cuda or cpu'
            return 1
        fi ;;
esac
