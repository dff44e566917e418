#!/usr/bin/env bash
# Whole dialogs, each kind by UDP, by TCP, and from one to the other: re-INVITE and BYE by the caller, re-INVITE and BYE by the
# server, early media with a reliable 183 and PRACK, and a server behind ten more proxies. No call fails on either side, and
# the node throws nothing away and keeps nothing. Last, callers of a set without destinations get 480.
# TANDEM names the program; CALLS and RATE (a second) of each case may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-50}
rate=${RATE:-100}

declare -A parameters=([u1]= [t1]=';transport=tcp')

# play CALLER SERVER: one scenario of each side, between all transports; u1 is UDP, t1 TCP.
play() {
    local near far case server
    for near in u1 t1; do
        for far in u1 t1; do
            case=$2-$near-$far
            SIPP_TRANSPORT=$far SIPP_OPTIONS="-d 100" sipp_server "$case-server" "$2" 127.0.0.1 7010
            server=$started
            set_rows "sip:127.0.0.1:7010${parameters[$far]}"
            SIPP_TRANSPORT=$near sipp_caller "$case" "$1" 127.0.0.1 -m "$calls" -r "$rate" -d 100 || true
            expect_calls "$case" "$calls"
            sipp_drain "$server"
            expect_calls "$case-server" "$calls"
            expect_rest 0
            echo "$name: $case: $calls calls, $(counter "$case" 'Retransmissions(C)') and" \
                "$(counter "$case-server" 'Retransmissions(C)') retransmissions"
        done
    done
}

# refused WHAT: the set has nobody; by both transports every caller gets 480.
refused() {
    local near
    for near in u1 t1; do
        SIPP_TRANSPORT=$near sipp_caller "$1-$near" caller_refused 127.0.0.1 -m "$calls" -r "$rate" || true
        expect_calls "$1-$near" "$calls"
        echo "$name: $1-$near: $calls calls got 480"
    done
}

# Timers of 64*T1 end within 7 s.
write_config '
[timing]
t1 = "100ms"'
start_tandem
play caller_reinvites server_reinvited
play caller_reinvited server_reinvites
play caller_early server_early
play caller_reinvites server_behind_hops
set_rows sip:127.0.0.1:7010 sip:127.0.0.1:7011
sqlite3 "$work/tandem.db" 'UPDATE `dispatcher` SET `state` = 1'
take_rows
refused switched-off
set_rows
refused empty
expect "messages that the node threw away" 0 "$(metric tandem_dropped_total)"
expect "requests that found the set empty" "$((4 * calls))" "$(metric tandem_set_empty_total)"
until_true 20 no_transactions || fail "$(metric tandem_transactions) transactions are left"
echo "PASS $name"
