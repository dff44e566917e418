#!/usr/bin/env bash
# A network that loses 1 % and then 5 % of the UDP datagrams, each way of each hop: nftables drops them as they come in on
# the loopback of the script's own host. 1,000 calls at 100 a second to two servers: those who send again see to it that none
# fails, on either side. Needs root. TANDEM names the program; CALLS and RATE may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk nft
[ "$(id -u)" -eq 0 ] || fail "needs root, for nftables in a network namespace"
calls=${CALLS:-1000}
rate=${RATE:-100}

# lose PERCENT: of the datagrams; 0 ends it. HTTP is TCP, and loses nothing.
lose() {
    nft flush ruleset
    [ "$1" -gt 0 ] || return 0
    nft -f - <<NFT
table inet loss {
    counter lost { }
    chain arriving {
        type filter hook input priority 0;
        iifname "lo" meta l4proto udp numgen random mod 100 < $1 counter name lost drop
    }
}
NFT
}

# lost: how many datagrams were dropped since `lose`.
lost() { nft list counter inet loss lost | awk '{ for (i = 1; i < NF; i++) if ($i == "packets") print $(i + 1) }'; }

# play PERCENT
play() {
    local case=$1-percent first second lost again served failed late
    sipp_server "$case-7010" server_lossy 127.0.0.1 7010
    first=$started
    sipp_server "$case-7011" server_lossy 127.0.0.1 7011
    second=$started
    start_tandem 127.0.0.1
    lose "$1"
    sipp_caller "$case" caller_lossy 127.0.0.1 -m "$calls" -r "$rate" -d 500 || true
    until_true 60 no_sessions || fail "$case: $(metric tandem_sessions) sessions are left"
    lost=$(lost)
    again=$(metric tandem_retransmissions_total)
    failed=$(metric tandem_failovers_total)
    late=$(metric tandem_late_2xx_total)
    sipp_drain "$first"
    sipp_drain "$second"
    lose 0
    served=$(($(counter "$case-7010" 'SuccessfulCall(C)') + $(counter "$case-7011" 'SuccessfulCall(C)')))
    echo "$name: $1 %: $(counter "$case" 'SuccessfulCall(C)') of $calls calls succeeded, $(counter "$case" 'FailedCall(C)') failed;" \
        "$lost datagrams lost; sent again: $(counter "$case" 'Retransmissions(C)') by the caller," \
        "$(counter "$case-7010" 'Retransmissions(C)') and $(counter "$case-7011" 'Retransmissions(C)') by the servers;" \
        "$again requests came to the node again, $failed failovers, $late late 2xx"
    expect_calls "$case" "$calls"
    expect "$case: calls that failed on 7010" 0 "$(counter "$case-7010" 'FailedCall(C)')"
    expect "$case: calls that failed on 7011" 0 "$(counter "$case-7011" 'FailedCall(C)')"
    [ "$lost" -gt 0 ] || fail "$case: nothing was lost"
    [ "$again" -gt 0 ] || fail "$case: no request came again"
    # A server that was left after three lost INVITEs may have got one of them: its 2xx is late, and its call is ended.
    [ "$served" -ge "$calls" ] && [ "$served" -le $((calls + failed)) ] || fail "$case: the servers had $served calls"
    stop "${pids[-1]}"
}

write_config
play 1
play 5
echo "PASS $name"
