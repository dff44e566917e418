#!/usr/bin/env bash
# Pings inside dialogs, and sessions whose end is no BYE of a caller or server: eight cases at once, a set each, and then
# user agents of sofia-sip. Callers and servers are `tandem calls` and `tandem mrcp-server`; the records tell how sessions
# ended, tshark who was asked and who got a BYE of ours. A request of ours has one Via, a forwarded one has two.
#
# With an interval of 1 s and 3 failures in a row, an end that is silent is dead after 2 s at the soonest.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq gcc pkg-config tshark
pkg-config --exists sofia-sip-ua || fail "needs libsofia-sip-ua-dev"
each=20
# No ping is due when the calls end.
hold=8500ms
declare -A servers callers

gcc -std=gnu11 -Wall -Wextra -Werror -O1 -o "$work/ua" "$here/sofia/ua.c" $(pkg-config --cflags --libs sofia-sip-ua) ||
    fail "sofia/ua.c does not compile"

check() { [ "$2" = "$3" ] || wrong "$1: $3, not $2"; }

# The caller of set N is at 127.0.1.N, its server at 127.0.0.1:70NN.
sql=
extra="
[records]
file = \"$work/records.jsonl\""
# case_of SET USER_AGENT URI [TOML]: a set and its rule.
case_of() {
    extra+="
[[rule]]
name = \"$2\"
method = [\"INVITE\"]
user_agent = \"$2\"
set = $1
[[set]]
id = $1
name = \"$2\"
${4:-}"
    sql+="INSERT INTO \`dispatcher\` (\`setid\`, \`destination\`) VALUES ($1, '$3');"
}
ping='interval = "1s"
timeout = "900ms"
fall = 3'
pinged() { printf '[set.session.ping]\nto = "%s"\nmethod = "%s"\n%s\n' "$1" "$2" "$ping"; }

case_of 20 unimrcp sip:127.0.0.1:7020 "$(pinged destination OPTIONS)"
case_of 21 options sip:127.0.0.1:7021 "$(pinged both OPTIONS)"
case_of 22 update sip:127.0.0.1:7022 "$(pinged both UPDATE)"
case_of 23 killed sip:127.0.0.1:7023 "$(pinged both OPTIONS)"
case_of 24 mute sip:127.0.0.1:7024 "$(pinged destination OPTIONS)"
case_of 25 unknown sip:127.0.0.1:7025 "$(pinged caller OPTIONS)"
case_of 26 never sip:127.0.0.1:7026 "$(pinged caller OPTIONS)"
case_of 27 long sip:127.0.0.1:7027 '[set.session]
max_duration = "3s"'
case_of 30 sofia-options sip:127.0.0.3:7010 "$(pinged both OPTIONS)"
case_of 31 sofia-update sip:127.0.0.3:7011 "$(pinged both UPDATE)"
write_config "$extra"
start_tandem
set_rows sip:127.0.0.1:7019
sqlite3 "$work/tandem.db" ".timeout 5000" "$sql"
take_rows

start "$work/tshark.log" tshark -Q -i lo -f 'udp port 8060' -w "$work/all.pcap"
witness=$started
until_true 20 test -s "$work/all.pcap" || fail "tshark does not begin: $(tail -n 3 "$work/tshark.log")"

for case in "19 --bye-after-options" "20 --bye-after-options" 21 "22 --untimed" 23 "24 --ignore-options" 25 26 27; do
    set -- $case
    lab_server "server-$1" "70$1" "${@:2}"
    servers[$1]=$started
done

# calls SET USER_AGENT [OPTIONS]: that set's calls, in the background.
calls() {
    start "$work/calls-$1.log" "$TANDEM" calls --json --from "127.0.1.$1" --user-agent "$2" --rate 50 --calls "$each" \
        --hold "$hold" "${@:3}"
    callers[$1]=$started
}
calls 23 killed
calls 19 OPENSIPS_TTS_MRCP_CLIENT
calls 20 unimrcp
calls 21 options
calls 22 update
calls 24 mute
calls 25 unknown --pings 481
calls 26 never --pings never
calls 27 long
all_up() { [ "$(metric 'tandem_sessions{set="23"}')" = "$each" ]; }
until_true 20 all_up || fail "$(metric 'tandem_sessions{set="23"}') calls are up, not $each"
kill -KILL "${callers[23]}"
{ wait "${callers[23]}" || true; } 2>/dev/null
killed=$(date +%s.%N)

# sofia-sip by sets 30 and 31: each end waits, and is pinged, before it says something itself.
for set in 30 31; do
    start "$work/sofia-$set-server.log" "$work/ua" server "sip:127.0.0.3:70$((set - 20))" 2500
    servers[$set]=$started
    until_true 10 bound 127.0.0.3 "70$((set - 20))" || fail "no server: $(tail -n 3 "$work/sofia-$set-server.log")"
done
sofia() {
    start "$work/sofia-$1.log" env USER_AGENT="$2" "$work/ua" caller "sip:127.0.1.$1:5072;transport=udp" sip:127.0.0.1:8060 9 2500
    callers[$1]=$started
}
sofia 30 sofia-options
sofia 31 sofia-update
for set in "${!callers[@]}"; do ended "${callers[$set]}" 60 || fail "the callers of set $set do not end"; done
until_true 20 no_sessions || wrong "$(metric tandem_sessions) sessions are left"
for set in "${!servers[@]}"; do stop "${servers[$set]}"; done
stop "$witness"

# What passed, a line a message: time, source, destination, method or "", status or "", CSeq's number and method, how many
# Vias, the topmost branch, Call-ID, Reason.
tshark -r "$work/all.pcap" -d udp.port==8060,sip -Y sip -T fields -E separator='|' -E occurrence=a -E aggregator=' ' \
    -e frame.time_epoch -e ip.src -e udp.srcport -e ip.dst -e udp.dstport -e sip.Method -e sip.Status-Code -e sip.CSeq.seq \
    -e sip.CSeq.method -e sip.Via.branch -e sip.Call-ID -e sip.Reason >"$work/messages" 2>>"$work/tshark.log" ||
    fail "tshark does not read: $(tail -n 3 "$work/tshark.log")"
# Of ours: set, "caller" or "destination", method, time, CSeq, the last CSeq of the end in whose name it goes, Reason, answer.
awk -F'|' -v OFS='|' '
    { us = $2 == "127.0.0.1" && $3 == 8060; vias = split($10, branches, " "); to_us = $4 == "127.0.0.1" && $5 == 8060 }
    to_us && $6 != "" && $6 != "ACK" && $6 != "CANCEL" {
        at = $11 SUBSEP $2 ":" $3
        if (!(at in last) || last[at] < $8) last[at] = $8
        if (!($11 in first)) first[$11] = $2 ":" $3
        else if ($2 ":" $3 != first[$11]) second[$11] = $2 ":" $3
    }
    us && $6 == "INVITE" && !($11 in second) { second[$11] = $4 ":" $5 }
    us && vias == 1 && $6 ~ /^(OPTIONS|UPDATE|BYE)$/ && !(branches[1] in number) {
        number[branches[1]] = ++count
        leg = $4 ":" $5 == first[$11] ? "caller" : "destination"
        other = leg == "caller" ? second[$11] : first[$11]
        split(first[$11], host, /[.:]/)
        seen = ($11 SUBSEP other) in last ? last[$11, other] : "none"
        row[count] = host[4] OFS leg OFS $6 OFS $1 OFS $8 OFS seen OFS $12
    }
    to_us && $7 >= 200 && branches[1] in number { answer[number[branches[1]]] = $7 }
    END { for (n = 1; n <= count; n++) print row[n], n in answer ? answer[n] : "none" }' "$work/messages" >"$work/ours"

# ours SET LEG METHOD [COLUMN WANTED]: how many requests of ours, by what column 7 (Reason) or 8 (answer) holds.
ours() {
    awk -F'|' -v set="$1" -v leg="$2" -v method="$3" -v column="${4:-0}" -v wanted="${5:-}" '
        $1 == set && $2 == leg && ($3 == method || method == "ping" && $3 != "BYE") && (!column || $column == wanted) { n++ }
        END { print n + 0 }' "$work/ours"
}
# endings SET: how its sessions ended, as caller_bye:20.
endings() {
    jq -rs --argjson set "$1" 'map(select(.set == $set) | .ending) | group_by(.) | map("\(.[0]):\(length)") | join(",")' \
        "$work/records.jsonl"
}

row() { printf '%-28s %5s  %-22s %6s %6s %6s %6s  %s\n' "$@"; }
row '' '' '' pings to BYEs to ''
row case calls ended caller dest. caller dest. Reason
# told SET CASE ENDING BYES_TO_CALLER BYES_TO_DESTINATION [REASON]
told() {
    local got reason
    got=$(endings "$1")
    reason=$(awk -F'|' -v set="$1" '$1 == set && $3 == "BYE" { print $7 }' "$work/ours" | sort -u | paste -sd' ')
    row "$2" "$each" "$got" "$(ours "$1" caller ping)" "$(ours "$1" destination ping)" "$(ours "$1" caller BYE)" \
        "$(ours "$1" destination BYE)" "$reason"
    check "$2: endings" "$3:$each" "$got"
    check "$2: BYEs to callers" "$4" "$(ours "$1" caller BYE)"
    check "$2: BYEs to destinations" "$5" "$(ours "$1" destination BYE)"
    check "$2: Reason" "${6:-}" "$reason"
}
dead_caller='SIP;cause=408;text="Caller does not answer"'
told 19 'UniMRCP, shipped TTS set' caller_bye 0 0
told 20 'UniMRCP, pinged' destination_bye 0 0
told 21 'healthy, OPTIONS to both' caller_bye 0 0
told 22 'healthy, UPDATE to both' caller_bye 0 0
told 23 'caller killed' caller_silent 0 "$each" "$dead_caller"
told 24 'destination mute' destination_silent "$each" 0 'SIP;cause=408;text="Destination does not answer"'
told 25 'caller says 481' caller_silent 0 "$each" "$dead_caller"
told 26 'caller never answers' caller_silent 0 "$each" "$dead_caller"
told 27 'max_duration 3 s' max_duration "$each" "$each" 'SIP;cause=408;text="Session too long"'

check "UniMRCP, shipped TTS set: pings" 0 "$(($(ours 19 caller ping) + $(ours 19 destination ping)))"
# An INVITE that is answered late has fewer seconds left; each end of these was asked some times.
for leg in caller destination; do
    [ "$(ours 21 $leg OPTIONS)" -ge $((each * 4)) ] || wrong "OPTIONS to each $leg: only $(ours 21 $leg OPTIONS)"
    [ "$(ours 22 $leg UPDATE)" -ge $((each * 4)) ] || wrong "UPDATEs to each $leg: only $(ours 22 $leg UPDATE)"
    check "OPTIONS to each $leg: answered 200" "$(ours 21 $leg ping)" "$(ours 21 $leg ping 8 200)"
    check "UPDATEs to each $leg: answered 200" "$(ours 22 $leg ping)" "$(ours 22 $leg ping 8 200)"
done
first=$(awk -F'|' '$1 == 23 && $3 == "BYE" { print $4; exit }' "$work/ours")
after=$(awk -v first="${first:-0}" -v killed="$killed" 'BEGIN { printf "%.1f", first - killed }')
echo "$name: the first destination of a killed caller was told after $after s"
# Two intervals and a bit at the soonest, since the first failure may come at once.
below 1.9 "$after" || wrong "a killed caller was dead after $after s, less than 2"
below "$after" 10 || wrong "a killed caller was dead after $after s"

# A sofia-sip agent is pinged with the last CSeq of its peer, or 0, and its own requests after that are not refused.
for set in 30 31; do
    expect_good="caller:3 server:3 cancel:3 bye-answered:3 bye-received:3 failed:0"
    check "sofia, set $set: as the caller saw it" "$expect_good" "$(tail -n 1 "$work/sofia-$set.log")"
    check "sofia, set $set: as the server saw it" "$expect_good" "$(tail -n 1 "$work/sofia-$set-server.log")"
    for leg in caller destination; do
        awk -F'|' -v set="$set" -v leg="$leg" '
            $1 == set && $2 == leg && $3 != "BYE" {
                pings++
                answers[$8]++
                if ($6 == "none") { unseen += $5 == 0; wrong += $5 != 0 } else { last += $5 == $6; wrong += $5 > $6 }
            }
            END {
                for (answer in answers) said = said " " answer ":" answers[answer]
                printf "%d %d %d %d%s\n", pings, last, unseen, wrong, said
            }' "$work/ours" >"$work/sofia-$set-$leg"
        read -r pings last unseen too_high said <"$work/sofia-$set-$leg"
        echo "sofia-sip, set $set, $leg: $pings pings, $last with its peer's last CSeq, $unseen with 0; answers: $said"
        check "sofia, set $set: pings with a CSeq that is too high" 0 "$too_high"
        [ "$pings" -ge 12 ] || wrong "sofia, set $set: only $pings pings to each $leg"
        check "sofia, set $set: answers of each $leg" "200:$pings" "$said"
        if [ $leg = caller ]; then
            [ "$unseen" -gt 0 ] && [ "$last" -gt 0 ] || wrong "sofia, set $set: $unseen pings with 0, $last with a last CSeq"
        else
            check "sofia, set $set: pings with the peer's last CSeq" "$pings" "$last"
        fi
    done
done
verdict
