#!/usr/bin/env bash
# What callers see when servers fail: the first of set 19's two destinations is mute, closed, broken, busy or slow, the
# second is good; then both are bad. 20 calls a second for 5 s each case. TANDEM names the program; RATE and TIME may be
# changed. Nothing is made of what traffic shows, so that every call meets the bad ones: who is held out, `health.sh` tells.
#
# Bounds:
# - One good server: every call is answered, and no 2xx comes after another final. A server that says no or whose port
#   is closed costs less than 500 ms (p99), before the caller would send again. A mute one costs the set's
#   first_response_timeout, 2 s: p99 below 3.5 s.
# - A slow server (100 at once, 200 after 2.5 s) is waited for: one INVITE a call at both servers together, no failover.
# - None good: every call gets 480. Closed or 503: within 500 ms. Mute: one silence of 2 s a try, so within 6 s. All
#   calls, not 99 of 100; their times are from SIPp, since `tandem calls` times answered calls alone.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk jq
rate=${RATE:-20}
time=${TIME:-5}

write_config '[set.observe]
enabled = false'

# server CASE PORT KIND: started unless KIND is closed.
server() {
    case $3 in
        good) lab_server "$1-$2" "$2" ;;
        mute) lab_server "$1-$2" "$2" --silent ;;
        closed) started= ;;
        503) lab_server "$1-$2" "$2" --offline ;;
        500) sipp_server "$1-$2" server_500 127.0.0.1 "$2" ;;
        486) lab_server "$1-$2" "$2" --busy ;;
        slow) lab_server "$1-$2" "$2" --slow 2500ms ;;
        *) fail "no server is called $3" ;;
    esac
}

# refused CASE: SIPp calls as often, all of which must get 480; leaves their times, sorted, in $work/CASE.ms.
refused() {
    local status=0 calls=$((rate * time))
    (cd "$work" && exec sipp 127.0.0.1:8060 -sf "$here/caller_refused.xml" -i 127.0.0.1 -p 5072 -nostdin -m "$calls" \
        -r "$rate" -timeout 60s -timeout_error -trace_stat -stf "$work/$1-sipp.csv" -fd 1 -trace_rtt -rtt_freq 1 \
        -trace_err -error_file "$work/$1-sipp.err") >"$work/$1-sipp.log" 2>&1 </dev/null || status=$?
    [ "$status" -eq 0 ] || wrong "$1: SIPp's calls: $(counter "$1-sipp" 'FailedCall(C)') did not get 480"
    awk -F';' 'NR > 1 { print $2 }' "$work"/caller_refused_*_rtt.csv | sort -g >"$work/$1.ms"
    rm -f "$work"/caller_refused_*_rtt.csv
    expect "$1: calls that SIPp timed" "$calls" "$(wc -l <"$work/$1.ms")"
}

# share FILE PERCENT: the smallest of the sorted numbers that so many percent do not exceed.
share() { awk -v percent="$2" '{ line[NR] = $1 } END { at = int((NR * percent + 99) / 100); print line[at < 1 ? 1 : at] }' "$1"; }

row() { printf '%-12s %5s %8s %6s %-14s %9s %9s %9s %9s %9s %8s %5s %7s %7s\n' "$@"; }

# drill CASE FIRST SECOND BOUND: one case; BOUND is milliseconds of set-up, for p99 or, if no server is good, for all.
drill() {
    local case=$1 first second proxy calls answered failed p50 p99 longest=- failovers exhausted late icmp at_7010 at_7011
    server "$case" 7010 "$2"
    first=$started
    server "$case" 7011 "$3"
    second=$started
    start_tandem 127.0.0.1
    proxy=$started
    "$TANDEM" calls --json --rate "$rate" --for "${time}s" --hold 500ms >"$work/$case.log" 2>&1 ||
        fail "$case: no calls: $(tail -n 3 "$work/$case.log")"
    calls=$(report "$case" .calls)
    answered=$(report "$case" .answered)
    failed=$(report "$case" .failed)
    p50=$(report "$case" .p50_ms)
    p99=$(report "$case" .p99_ms)
    failovers=$(metric 'tandem_failovers_total{set="19"}')
    exhausted=$(metric 'tandem_exhausted_total{set="19"}')
    late=$(metric tandem_late_2xx_total)
    icmp=$(metric 'tandem_icmp_errors_total{effect="ended"}')
    if [ "$answered" = 0 ]; then
        refused "$case"
        p50=$(share "$work/$case.ms" 50)
        p99=$(share "$work/$case.ms" 99)
        longest=$(tail -n 1 "$work/$case.ms")
    fi
    stop "$proxy"
    [ -z "$first" ] || stop "$first"
    [ -z "$second" ] || stop "$second"
    # A server of our own tells its INVITEs when it ends; a mute one counts none, and SIPp's is not asked.
    touch "$work/$case-7010.log" "$work/$case-7011.log"
    at_7010=$(served "$case-7010")
    at_7011=$(served "$case-7011")
    row "$case" "$calls" "$answered" "$failed" "$(codes "$case")" "$p50" "$p99" "$longest" "$failovers" "$exhausted" \
        "$late" "$icmp" "$at_7010" "$at_7011"

    [ "$calls" -ge $((rate * time - 1)) ] || wrong "$case: only $calls calls were made"
    [ "$late" = 0 ] || wrong "$case: $late answers came late"
    [ "$(report "$case" .lost)" = 0 ] || wrong "$case: $(report "$case" .lost) BYEs were not answered"
    case $2-$3 in
        *-good | slow-*)
            [ "$answered" = "$calls" ] || wrong "$case: $answered of $calls answered"
            [ "$exhausted" = 0 ] || wrong "$case: $exhausted exhausted"
            below "$p99" "$4" || wrong "$case: p99 is $p99 ms, not below $4"
            ;;
        *)
            [ "$(codes "$case")" = "480:$calls" ] || wrong "$case: answers are $(codes "$case"), not 480 alone"
            below "$longest" "$4" || wrong "$case: the slowest 480 took $longest ms, not below $4"
            ;;
    esac
    case $2 in
        good) [ "$failovers" = 0 ] || wrong "$case: $failovers failovers" ;;
        slow)
            [ "$failovers" = 0 ] || wrong "$case: $failovers failovers"
            [ "$((at_7010 + at_7011))" = "$calls" ] || wrong "$case: $at_7010 and $at_7011 INVITEs for $calls calls"
            ;;
        closed) [ "$icmp" -gt 0 ] || wrong "$case: no ICMP ended a try" ;;
        *) [ "$failovers" -gt 0 ] || wrong "$case: no failover" ;;
    esac
}

echo "$name: $rate calls a second for $time s a case; p50, p99 and max are ms from INVITE to its final answer (max: of 480s)"
row case calls answered failed codes p50 p99 max failovers exhausted late_2xx icmp at_7010 at_7011
drill good good good 500
drill mute mute good 3500
drill closed closed good 500
drill 503 503 good 500
drill 500 500 good 500
drill 486 486 good 500
drill slow slow good 3500
drill both-slow slow slow 3500
drill both-closed closed closed 500
drill both-mute mute mute 6000
drill both-503 503 503 500
echo "remark: Kamailio 5.6.3 and OpenSIPS 3.1 without script, one or both servers mute or closed: 408 after 30 s"
verdict
