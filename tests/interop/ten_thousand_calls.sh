#!/usr/bin/env bash
# 10,000 calls through a running proxy to two servers: none fails, and each server gets exactly 5,000.
# TANDEM names the program; CALLS and RATE (a second) may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-10000}
rate=${RATE:-500}

write_config

sipp_server s7010 server 127.0.0.1 7010
first=$started
sipp_server s7011 server 127.0.0.1 7011
second=$started
start_tandem 127.0.0.1

status=0
sipp 127.0.0.1:8060 -sf "$here/caller.xml" -i 127.0.0.1 -p 5072 -nostdin -buff_size 4194304 \
    -m "$calls" -r "$rate" -l "$((rate * 10))" -d 1000 -timeout 300s -timeout_error \
    -trace_stat -stf "$work/caller.csv" -fd 1 -trace_err -error_file "$work/caller.err" \
    >"$work/caller.log" 2>&1 </dev/null || status=$?
metrics_7010=$(selections 127.0.0.1:7010)
metrics_7011=$(selections 127.0.0.1:7011)
sipp_drain "$first"
sipp_drain "$second"

echo "$name: $(counter caller 'SuccessfulCall(C)') of $calls calls succeeded at $rate a second," \
    "$(counter caller 'FailedCall(C)') failed, $(counter caller 'Retransmissions(C)') retransmissions;" \
    "7010 had $(counter s7010 'SuccessfulCall(C)'), 7011 had $(counter s7011 'SuccessfulCall(C)')"
expect "SIPp's exit status" 0 "$status"
expect "calls that failed" 0 "$(counter caller 'FailedCall(C)')"
expect "calls that succeeded" "$calls" "$(counter caller 'SuccessfulCall(C)')"
for port in 7010 7011; do
    expect "calls that failed on $port" 0 "$(counter s$port 'FailedCall(C)')"
    expect "calls that $port served" "$((calls / 2))" "$(counter s$port 'SuccessfulCall(C)')"
done
expect "selections of 7010 in /metrics" "$((calls / 2))" "$metrics_7010"
expect "selections of 7011 in /metrics" "$((calls / 2))" "$metrics_7011"
echo "PASS $name"
