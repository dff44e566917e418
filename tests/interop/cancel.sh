#!/usr/bin/env bash
# Callers that give up, by UDP, by TCP, and from one to the other: before the server has said anything, while it rings, at a
# server that never says anything, and too late, so that the 200 wins. Each gets what RFC 3261 sections 9.1 and 16.10 say, on
# both sides, and the node throws nothing away and keeps nothing. TANDEM names the program; CALLS and RATE (a second) of each
# case may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-50}
rate=${RATE:-100}

declare -A parameters=([u1]= [t1]=';transport=tcp')

# play CASE CALLER SERVER [PAUSE]: one scenario of each side, between all transports; u1 is UDP, t1 TCP. Each of two servers
# gets half of the calls, so that none which was given up at one went to the other.
play() {
    local near far case port server servers
    for near in u1 t1; do
        for far in u1 t1; do
            case=$1-$near-$far
            servers=()
            for port in 7010 7011; do
                SIPP_TRANSPORT=$far SIPP_OPTIONS="-d ${4:-0}" sipp_server "$case-$port" "$3" 127.0.0.1 "$port"
                servers+=("$started")
            done
            set_rows "sip:127.0.0.1:7010${parameters[$far]}" "sip:127.0.0.1:7011${parameters[$far]}"
            SIPP_TRANSPORT=$near sipp_caller "$case" "$2" 127.0.0.1 -m "$calls" -r "$rate" || true
            expect_calls "$case" "$calls"
            for server in "${servers[@]}"; do sipp_drain "$server"; done
            expect_calls "$case-7010" "$((calls / 2))"
            expect_calls "$case-7011" "$((calls / 2))"
            expect_rest 0
            echo "$name: $case: $calls calls, $(counter "$case" 'Retransmissions(C)') retransmissions by the caller," \
                "$(counter "$case-7010" 'Retransmissions(C)') and $(counter "$case-7011" 'Retransmissions(C)') by the servers"
        done
    done
}

# Timers of 64*T1 end within 7 s.
write_config '
[timing]
t1 = "100ms"'
start_tandem
# The server is silent for less than `first_response_timeout`, 2 s: the node holds the CANCEL until the 180.
play before-1xx caller_cancels server_cancelled 700
play ringing caller_cancels_ringing server_cancelled
play late caller_cancels_late server_answers_late
play mute caller_cancels server_mute
expect "failovers" 0 "$(metric tandem_failovers_total)"
expect "late 2xx" 0 "$(metric tandem_late_2xx_total)"
until_true 20 no_transactions || fail "$(metric tandem_transactions) transactions are left"
echo "PASS $name"
