#!/usr/bin/env bash
# IPv6: callers and servers on ::1 by UDP and by TCP, then callers of one family with servers of the other. There the node
# writes two Record-Routes, and requests go through it both ways: the caller's BYE, and the server's re-INVITE and BYE.
# No call fails on either side, and the node throws nothing away. TANDEM names the program; CALLS and RATE (a second) of each
# case may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-50}
rate=${RATE:-100}

declare -A parameters=([u1]= [t1]=';transport=tcp')
declare -A written=([127.0.0.1]=127.0.0.1 [::1]='[::1]')

# record_routes FILE: the hosts of the Record-Routes of the INVITEs that a server got; one line if all are alike.
record_routes() {
    awk '/^INVITE sip:.*:7010(;transport=tcp)? SIP/ { on = 1; hosts = "" }
        on && /^Record-Route: <sip:/ { sub(/^[^:]*: <sip:/, ""); sub(/:8060;.*/, ""); hosts = hosts " " $0 }
        on && /^Call-ID:/ { on = 0; print hosts }' "$1" | sort -u
}

# play CALLER-HOST TRANSPORT SERVER-HOST TRANSPORT: once the caller sends the re-INVITE and the BYE, once the server.
play() {
    local near=$1 far=$3 kind case server wanted
    wanted=" ${written[$far]}"
    [ "$near" = "$far" ] || wanted+=" ${written[$near]}"
    for kind in reinvited:caller_reinvites reinvites:caller_reinvited; do
        case=${kind%:*}-$2-${near//:/_}-$4-${far//:/_}
        SIPP_TRANSPORT=$4 SIPP_OPTIONS="-d 100 -trace_msg -message_file $work/$case.msg" \
            sipp_server "$case-server" "server_${kind%:*}" "$far" 7010
        server=$started
        set_rows "sip:${written[$far]}:7010${parameters[$4]}"
        SIPP_TRANSPORT=$2 sipp_caller "$case" "${kind#*:}" "$near" -m "$calls" -r "$rate" -d 100 || true
        expect_calls "$case" "$calls"
        sipp_drain "$server"
        expect_calls "$case-server" "$calls"
        expect_rest 0
        expect "$case: hosts of the Record-Routes, the server's side first" "$wanted" "$(record_routes "$work/$case.msg")"
        echo "$name: server_${kind%:*}: $2 from $near, $4 to $far: $calls calls, $(counter "$case" 'Retransmissions(C)') and" \
            "$(counter "$case-server" 'Retransmissions(C)') retransmissions"
    done
}

write_config '
[[listener]]
bind = "udp:[::1]:8060"
role = "node"
[[listener]]
bind = "tcp:[::1]:8060"
role = "node"
[timing]
t1 = "100ms"'
start_tandem
play ::1 u1 ::1 u1
play ::1 t1 ::1 t1
play ::1 u1 127.0.0.1 u1
play ::1 t1 127.0.0.1 u1
play 127.0.0.1 u1 ::1 u1
play 127.0.0.1 u1 ::1 t1
# Timers of 64*T1 end within 7 s.
until_true 20 no_transactions || fail "$(metric tandem_transactions) transactions are left"
echo "PASS $name"
