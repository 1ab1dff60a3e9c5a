#!/usr/bin/env bash
# Makes the virtual environment .venv for ci/ and tests/, unless it is there and up to date; then prints its python.
#     python=$(bash ci/env.sh)            PYTHON=python3.12 chooses the interpreter
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch and torchvision from there: the build for CPUs, 1 GB for 5.
# Progress goes to stderr.
set -Eeuo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${VENV:-$top/.venv}
wanted=("$top/VAN-Classification_for_PyTorch/requirements.txt" "$top/ci/requirements.txt")

suits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if suits "$name"; then echo "$name"; return; fi
    done
    echo '[Error] no Python 3.10 to 3.13 was found; install one, or name it: PYTHON=/path/to/python3.11' >&2
    return 1
}

stamp=$(cat "${wanted[@]}" | cksum)
if [[ ! -x $venv/bin/python || $(cat "$venv/stamp" 2>/dev/null) != "$stamp" ]]; then
    python=$(find_python)
    size='5 GB with its CUDA libraries'; if [[ -n ${TORCH_INDEX:-} ]]; then size='1 GB'; fi
    echo "Making $venv with $("$python" --version): torch is about $size, one to ten minutes." >&2
    "$python" -m venv "$venv" >&2 || {
        echo "[Error] $python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
    install=("$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar "$([[ -t 2 ]] && echo on || echo off)")
    if [[ -n ${TORCH_INDEX:-} ]]; then
        mapfile -t torch < <(grep -E '^torch(vision)?==' "${wanted[0]}")
        "${install[@]}" --index-url "$TORCH_INDEX" "${torch[@]}" >&2 || {
            echo "[Error] torch could not be installed from TORCH_INDEX=$TORCH_INDEX; the lines above say why" >&2
            exit 1
        }
    fi
    "${install[@]}" -r "${wanted[0]}" -r "${wanted[1]}" >&2 || {
        echo "[Error] the packages could not be installed; the lines above say why (network, disk space)" >&2
        exit 1
    }
    echo "$stamp" > "$venv/stamp"
fi
echo "$venv/bin/python"
