#!/usr/bin/env bash
# sofia-sip, the SIP library of FreeSWITCH's mod_unimrcp and of UniMRCP, on both sides of us, over UDP, TCP and from one to
# the other. sofia/ua.c makes calls that end by the caller's BYE, by the server's and by CANCEL, with PRACK, UPDATE,
# OPTIONS and re-INVITEs inside; all must come to their good end as both ends see it. Then sip-options, to us and through us.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk gcc pkg-config sip-options
pkg-config --exists sofia-sip-ua || fail "needs libsofia-sip-ua-dev"
each=${CALLS:-102}   # A multiple of 3: as many calls of each kind.

gcc -std=gnu11 -Wall -Wextra -Werror -O1 -o "$work/ua" "$here/sofia/ua.c" $(pkg-config --cflags --libs sofia-sip-ua) ||
    fail "sofia/ua.c does not compile"

check() { [ "$2" = "$3" ] || wrong "$1: $3, not $2"; }
row() { printf '%-5s %-5s %6s %7s  %-8s %s\n' "$@"; }
parameter() { [ "$1" = udp ] || echo ';transport=tcp'; }

new_requests() { echo "$(($(metric tandem_requests_total) - $(metric tandem_retransmissions_total)))"; }
had() { [ "$(new_requests)" = "$1" ]; }

# round CALLER SERVER: udp or tcp each.
round() {
    local round=$1-$2 third=$((each / 3)) node server wanted requests status=0
    write_config '
[[rule]]
name = "options"
method = ["OPTIONS"]
request_uri = { user = "tts" }
set = 19'
    start_tandem
    node=$started
    set_rows "sip:127.0.0.3:7010$(parameter "$2")"
    # The server speaks both; we choose.
    start "$work/$round-server.log" "$work/ua" server sip:127.0.0.3:7010
    server=$started
    until_true 10 bound 127.0.0.3 7010 || fail "no server: $(tail -n 3 "$work/$round-server.log")"
    "$work/ua" caller "sip:127.0.0.5:5072;transport=$1" sip:127.0.0.1:8060 "$each" >"$work/$round-caller.log" 2>&1 || status=$?
    check "$round: selections" "$each" "$(selections "127.0.0.3:7010$(parameter "$2")")"
    # In three calls, one of each kind, are 8, 10 and 4 requests.
    until_true 5 had $((22 * third)) || true
    requests=$(new_requests)
    check "$round: requests by us" $((22 * third)) "$requests"
    check "$round: sessions" 0 "$(metric tandem_sessions)"
    check "$round: messages that we dropped" 0 "$(metric tandem_dropped_total)"
    options "$round"
    stop "$server"
    row "$1" "$2" "$each" "$requests" caller "$(tail -n 1 "$work/$round-caller.log")"
    row "" "" "" "" server "$(tail -n 1 "$work/$round-server.log")"
    wanted="caller:$third server:$third cancel:$third bye-answered:$third bye-received:$third failed:0"
    check "$round: the caller's exit status" 0 "$status"
    check "$round: as the caller saw it" "$wanted" "$(tail -n 1 "$work/$round-caller.log")"
    check "$round: as the server saw it" "$wanted" "$(tail -n 1 "$work/$round-server.log")"
    stop "$node"
}

# options ROUND: sip-options gets the server's answer through us by the rule, and ours at the address alone.
options() {
    local uri who=us
    for uri in sip:127.0.0.1:8060 sip:tts@127.0.0.1:8060; do
        sip-options --all "$uri" >"$work/$1-options-$who.log" 2>&1 || wrong "$1: sip-options $uri: no 2xx"
        check "$1: 200s to OPTIONS $uri" 1 "$(grep -c '^SIP/2.0 200 OK' "$work/$1-options-$who.log")"
        check "$1: answers of the server to OPTIONS $uri" "$([ $who = us ] && echo 0 || echo 1)" \
            "$(grep -c '^User-Agent: MRCP-SERVER' "$work/$1-options-$who.log")"
        who=server
    done
}

row from to calls 'by us' end 'came to a good end'
for way in "udp udp" "tcp tcp" "udp tcp" "tcp udp"; do round $way; done
verdict
