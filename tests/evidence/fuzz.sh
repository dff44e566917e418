#!/bin/sh
# Fuzzes each target for a while, beginning with the messages of tests/torture and tests/captures, and prints how many
# inputs ran and how it ended. Needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`).
#
#   tests/evidence/fuzz.sh [SECONDS] [TARGET...]     600 seconds and every target if not told
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
targets=${*:-parse preserve stream}
failed=0
for target in $targets; do
    log=$(mktemp)
    corpus=fuzz/corpus/$target
    mkdir -p "$corpus"
    if cargo +nightly fuzz run "$target" "$corpus" tests/torture tests/captures -- \
        -max_total_time="$seconds" -dict=fuzz/sip.dict -max_len=4096 -print_final_stats=1 >"$log" 2>&1; then
        result="no fault"
    else
        result="FAILED, see $log"
        failed=1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    echo "$target: ${executions:-?} executions in $seconds s (${speed:-?} a second), ${coverage:-?} edges: $result"
    [ "$failed" = 1 ] || rm -f "$log"
done
exit "$failed"
