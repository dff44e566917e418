#!/usr/bin/env bash
# sipsak against us: OPTIONS to ourselves and by a rule to a server, over UDP and TCP; Max-Forwards 0; its trace, usrloc,
# flood and random modes. The last sends OPTIONS in which more and more characters are trashed: each datagram must be answered,
# or counted as thrown away, and the node lives on. (The message and invite modes of Debian's sipsak crash by themselves.)
. "$(dirname "$0")/common.sh"
need sipsak sqlite3 curl ss awk jq nft
[ "$(id -u)" -eq 0 ] || fail "needs root, to count datagrams with nft"
flood=200
random=40   # Runs of the random mode, each ends with the first message that gets no 4xx.

check() { [ "$2" = "$3" ] || wrong "$1: $3, not $2"; }
row() { printf '%-38s %s\n' "$@"; }

# Datagrams without a byte are no message, and we count none: sipsak makes one when it trashes the first character to NUL.
nft -f - <<'NFT'
table ip tandem {
    chain input {
        type filter hook input priority 0
        udp dport 8060 udp length 8 counter
    }
}
NFT
empty_datagrams() { nft -j list table ip tandem | jq '[.. | .counter? // empty | .packets] | add'; }

write_config '
[[rule]]
name = "options"
method = ["OPTIONS"]
request_uri = { user = "tts" }
set = 19'
lab_server server 7010
start_tandem
node=$started
set_rows sip:127.0.0.1:7010

# told OPTIONS...: sipsak's output; the status line of each final response in it.
told() { timeout 30 sipsak -vv "$@" 2>&1 | tr -d '\r' | grep -o 'SIP/2\.0 [2-6].*' | sort -u | paste -sd,; }

# ping WHAT WANTED OPTIONS...: a line of the table.
ping() {
    local what=$1 wanted=$2 got
    shift 2
    got=$(told "$@") || true
    row "$what" "${got:-nothing}"
    check "$what" "$wanted" "$got"
}

is() { [ "$(metric "$2")" = "$1" ]; }

# counts WHAT WANTED METRIC: in a moment, if not at once.
counts() {
    until_true 5 is "$2" "$3" || true
    check "$1" "$2" "$(metric "$3")"
}

row mode answer
ping "OPTIONS to us" "SIP/2.0 200 OK" -s sip:127.0.0.1:8060
ping "OPTIONS to us by TCP" "SIP/2.0 200 OK" -E tcp -s sip:127.0.0.1:8060
ping "OPTIONS to us, no hop left" "SIP/2.0 200 OK" -m 0 -s sip:127.0.0.1:8060
counts "OPTIONS that we answered" 3 'tandem_replies_total{class="2xx"}'
ping "OPTIONS to a server" "SIP/2.0 200 OK" -s sip:tts@127.0.0.1:8060
ping "OPTIONS to a server by TCP" "SIP/2.0 200 OK" -E tcp -s sip:tts@127.0.0.1:8060
ping "OPTIONS to a server, no hop left" "SIP/2.0 483 Too Many Hops" -m 0 -s sip:tts@127.0.0.1:8060
ping "trace to a server: us, then it" "SIP/2.0 200 OK,SIP/2.0 483 Too Many Hops" -T -s sip:tts@127.0.0.1:8060
ping "usrloc: REGISTER" "SIP/2.0 404 Not Found" -U -s sip:tts@127.0.0.1:8060
counts "OPTIONS that the server had" 3 'tandem_selections_total{kind="other"}'

# accounted: every datagram that came is a request, a response, thrown away, or empty; every request was answered or sent on.
accounted() {
    local datagrams messages answered
    messages=$(($(metric tandem_requests_total) + $(metric tandem_received_responses_total) + $(metric tandem_dropped_total)))
    datagrams=$(($(metric tandem_received_datagrams_total) - $(empty_datagrams) + $(metric tandem_tcp_received_messages_total)))
    answered=$(($(metric tandem_replies_total) + $(metric 'tandem_selections_total{kind="other"}') + $(metric tandem_retransmissions_total)))
    account="$datagrams received: $messages known; $(metric tandem_requests_total) requests: $answered answered or sent on"
    [ "$datagrams" = "$messages" ] && [ "$(metric tandem_requests_total)" = "$answered" ]
}

before=$(metric 'tandem_replies_total{class="2xx"}')
sipsak -F -e "$flood" -s sip:127.0.0.1:8060 >"$work/flood.log" 2>&1 || wrong "the flood ends badly: $(tail -n 1 "$work/flood.log")"
counts "answers after the flood" $((before + flood)) 'tandem_replies_total{class="2xx"}'
row "flood of $flood OPTIONS" "$(($(metric 'tandem_replies_total{class="2xx"}') - before)) answered"

# Several at a time: each waits some seconds for the answer that does not come.
trashed=()
for ((run = 1; run <= random; run++)); do
    start "$work/random-$run.log" timeout 8 sipsak -R -t "$run" -s sip:127.0.0.1:8060
    trashed+=("$started")
done
for run in "${trashed[@]}"; do ended "$run" 20 || wrong "a run of the random mode does not end"; done
until_true 10 accounted || true
row "random, $random runs: answers 4xx" "$(metric 'tandem_replies_total{class="4xx"}')"
row "random: thrown away" "$(metric tandem_dropped_total), and $(empty_datagrams) empty"
row "all datagrams" "$account"
accounted || wrong "not all is accounted for: $account"
[ "$(metric tandem_dropped_total)" -gt 0 ] || wrong "nothing was trashed so much that it was thrown away"
for cause in stray_response stray_ack too_large overload refused_source; do
    check "thrown away as $cause" 0 "$(metric "tandem_dropped_total{cause=\"$cause\"}")"
done
ping "OPTIONS to us after that" "SIP/2.0 200 OK" -s sip:127.0.0.1:8060
kill -0 "$node" 2>/dev/null || wrong "the node has ended: $(tail -n 3 "$work/tandem.log")"
grep -q panicked "$work/tandem.log" && wrong "the node panicked"
verdict
