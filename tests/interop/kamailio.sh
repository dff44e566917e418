#!/usr/bin/env bash
# Kamailio as the next hop (our destination is a Kamailio that relays to servers) and as the previous hop (callers reach us
# through it), over UDP, TCP and from one to the other. Each call has a re-INVITE from both ends and BYE from either; every
# request in the dialog passes both proxies, by both Record-Routes (Kamailio writes two where the transport changes, and so
# do we). Then CANCEL and 480 through both. Both proxies count what passed.
. "$(dirname "$0")/common.sh"
. "$here/dialog.sh"
need sipp kamailio kamcmd sqlite3 curl ss awk
calls=${CALLS:-100}   # Of each case; even.
us=127.0.0.1:8060
other=127.0.0.2:5070

# parameter TRANSPORT: what a URI says of it.
parameter() { [ "$1" = u1 ] || echo ';transport=tcp'; }

# kamailio URI...: where it sends what is outside a dialog, in turn. Its process id is in $kamailio.
kamailio() {
    local uri folder=$work/kamailio
    mkdir -p "$folder"
    for uri in "$@"; do echo "1 $uri"; done >"$folder/dispatcher.list"
    sed "s|FOLDER|$folder|" "$here/kamailio/kamailio.cfg" >"$folder/kamailio.cfg"
    start "$work/kamailio.log" "$(type -P kamailio)" -DD -E -f "$folder/kamailio.cfg" -Y "$folder" -m 64 -M 8
    kamailio=$started
    until_true 20 statistic rcv_requests || fail "no Kamailio: $(tail -n 3 "$work/kamailio.log")"
}

# statistic NAME: a counter of Kamailio's.
statistic() { kamcmd -s "unix:$work/kamailio/ctl" stats.get_statistics "$1" | awk -F' = ' '{ print $2; seen = 1 } END { exit !seen }'; }

# at_least WANTED GOT: number by number. On a busy machine something may come again.
at_least() { awk -v wanted="$1" -v got="$2" 'BEGIN { n = split(wanted, w); split(got, g); for (i = 1; i <= n; i++) if (g[i] < w[i]) exit 1 }'; }

row() { printf '%-9s %-7s %-8s %-7s %-10s %9s %6s %16s %11s\n' "$@"; }

# round PLACE CALLER BETWEEN SERVER CASE: PLACE is Kamailio's, seen from us; then the transports, each u1 (UDP) or t1 (TCP),
# to the first proxy, between the two, and to the servers.
round() {
    local place=$1 caller=$2 between=$3 server=$4 case=$5 round=$1-$2-$3-$4-$5 us_node first
    local caller_scenario=dialog_caller server_scenario=dialog_server rows heads wanted each=$((calls / 2))
    rows=("sip:127.0.0.3:7010$(parameter "$server")" "sip:127.0.0.3:7011$(parameter "$server")")
    # INVITEs, ACKs, BYEs and CANCELs.
    wanted="$((3 * calls)) $((3 * calls)) $calls 0"
    case $case in
        cancelled) caller_scenario=caller_cancels server_scenario=server_rings wanted="$calls $calls 0 $calls" ;;
        480) caller_scenario=caller_refused server_scenario=server_480 wanted="$calls $calls 0 0" ;;
        empty) caller_scenario=caller_refused server_scenario=server_480 wanted="$calls $calls 0 0" rows=() each=0 ;;
    esac
    write_config
    start_tandem
    us_node=$started
    case $place in
        next) first=$us && kamailio "${rows[@]}" && set_rows "sip:$other$(parameter "$between")" && by_way "$us" "$other" ;;
        previous) first=$other && kamailio "sip:$us$(parameter "$between")" && set_rows "${rows[@]}" && by_way "$other" "$us" ;;
    esac
    servers "$round" "$server_scenario" "$server"
    calls "$round" "$caller_scenario" "$caller" "$first" "$calls"
    served_all "$round" "$calls" "$each"
    heads="$(statistic rcv_requests_invite) $(statistic rcv_requests_ack) $(statistic rcv_requests_bye) $(statistic rcv_requests_cancel)"
    row "$place" "$caller" "$between" "$server" "$case" "$(counter "$round-caller" 'SuccessfulCall(C)')" "$(resent "$round")" \
        "$heads" "$(new_requests)"
    at_least "$wanted" "$heads" || wrong "$round: Kamailio had $heads INVITEs, ACKs, BYEs and CANCELs, not $wanted"
    at_rest || wrong "$round: sessions are left"
    check "$round: messages that we dropped" 0 "$(metric tandem_dropped_total)"
    stop "$kamailio"
    stop "$us_node"
}

row place caller between servers case succeeded resent 'by Kamailio' 'by us'
for place in next previous; do
    for way in "u1 u1 u1" "t1 t1 t1" "u1 t1 t1" "t1 u1 u1" "u1 u1 t1" "t1 t1 u1"; do
        round $place $way dialog
    done
    round $place u1 u1 u1 cancelled
    round $place t1 t1 t1 cancelled
done
# Kamailio's servers say 480, and so do we in the end; our set is empty, and Kamailio passes our 480 on.
round next u1 u1 u1 480
round previous u1 u1 u1 empty
verdict
