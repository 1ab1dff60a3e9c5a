#!/usr/bin/env bash
# bind.sh COMMAND...: runs one rank on cores of its own, and with numactl on the memory beside them.
# Reads LOCAL_RANK and LOCAL_WORLD_SIZE. Where that cannot be done the command runs unbound, and rank 0 says so in a line.
set -u
rank=${LOCAL_RANK:-0} ranks=${LOCAL_WORLD_SIZE:-${WORLD_SIZE:-1}}
say() { if [[ $rank == 0 ]]; then echo "$*"; fi; }
unbound() { say "No core binding: $1."; shift; exec "$@"; }

command -v lscpu > /dev/null || unbound 'lscpu is not installed' "$@"
# the cores that this process may use, node by node: one line "core node" each
allowed=$(taskset -cp $$ 2> /dev/null | sed 's/.*: //')
mapfile -t places < <(lscpu -p=CPU,NODE | awk -F, -v allowed="${allowed:-0-99999}" '
    BEGIN { n = split(allowed, parts, ","); for (i = 1; i <= n; i++) { split(parts[i], ends, "-"); low[i] = ends[1]
            high[i] = (2 in ends) ? ends[2] : ends[1]; delete ends } }
    !/^#/ { for (i = 1; i <= n; i++) if ($1 >= low[i] + 0 && $1 <= high[i] + 0) print $1, ($2 == "" ? 0 : $2) }' | sort -k2n -k1n)
((${#places[@]} >= ranks)) || unbound "${#places[@]} cores for $ranks processes" "$@"
share=$((${#places[@]} / ranks))
mine=("${places[@]:rank * share:share}")
cores=$(printf '%s\n' "${mine[@]}" | cut -d' ' -f1 | paste -sd,)
nodes=$(printf '%s\n' "${mine[@]}" | cut -d' ' -f2 | sort -un | paste -sd,)
if command -v numactl > /dev/null && numactl --physcpubind="$cores" --membind="$nodes" true 2> /dev/null; then
    say "Each process is bound to $share cores and their memory by numactl."
    exec numactl --physcpubind="$cores" --membind="$nodes" "$@"
elif command -v taskset > /dev/null; then
    say "Each process is bound to $share cores by taskset (numactl, which binds memory too, is not installed or not permitted)."
    exec taskset -c "$cores" "$@"
fi
unbound 'neither numactl nor taskset is installed' "$@"
