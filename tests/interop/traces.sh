#!/usr/bin/env bash
# Calls' stories, all of them: SIPp's calls with an Authorization header and `tandem calls`, to two servers of which one is dead.
# What leaves by HEPv3 is read by a decoder of its own and by Kamailio's sipcapture; what leaves by OTLP is judged span by span
# (traces/judge.py); the collector refuses the first batch. No credential and no line of a description but m= is in any of
# them, in the log, or in what `tandem trace` and /traces say.
# TANDEM names the program.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl jq ss awk python3 kamailio
calls=5

# Both SIPp and `tandem calls` go through; messages are captured as they come.
mkdir "$work/db"
sed "s|FOLDER|$work|" "$here/traces/kamailio.cfg" >"$work/kamailio.cfg"
start "$work/kamailio.log" kamailio -DD -f "$work/kamailio.cfg" -Y "$work" -m 16 -M 4
start "$work/sink.log" python3 "$here/traces/sink.py" "$work"
until_true 10 bound 127.0.0.1 9063 || fail "no Kamailio: $(tail -n 3 "$work/kamailio.log")"
until_true 10 bound 127.0.0.1 9062 || fail "no sink: $(tail -n 3 "$work/sink.log")"
until_true 10 bound 127.0.0.1 4318 || fail "no sink: $(tail -n 3 "$work/sink.log")"
(umask 077; echo 'hep secret' >"$work/hep.password")
write_config '
[trace]
sample = 1
hep = "udp:127.0.0.1:9062"
hep_id = 7
hep_password_file = "hep.password"
otlp = "http://127.0.0.1:4318"'
start_tandem
sipp_server server server 127.0.0.1 7011
set_rows sip:127.0.0.1:7010 sip:127.0.0.1:7011

sed 's|^\( *\)User-Agent: OPENSIPS.*|&\n\1Authorization: Digest username="alice", response="SECRET"\n\1Identity: SECRET|' \
    "$here/caller.xml" >"$work/caller_secret.xml"
grep -q SECRET "$work/caller_secret.xml" || fail "the scenario has no secret"
(here=$work && sipp_caller caller caller_secret 127.0.0.1 -m "$calls" -r 20 -d 200) || true
expect_calls caller "$calls"
"$TANDEM" calls --to 127.0.0.1:8060 --calls "$calls" --rate 20 --hold 200ms --json >"$work/calls.log"
expect "answered calls of tandem calls" "$calls" "$(report calls .answered)"

# All spans have come once the collector has taken the last batch: so many calls are over.
traces() { jq -r '.resourceSpans[].scopeSpans[].spans[].traceId' "$work/spans" | sort -u | wc -l; }
all_told() { [ "$(traces)" -eq $((2 * calls)) ]; }
until_true 60 all_told || fail "spans of $(traces) calls of $((2 * calls)) came"
read -r failed messages <<<"$(python3 "$here/traces/judge.py" "$work" $((2 * calls)))" || fail "see above"
[ -n "$messages" ] || fail "what was told is not right"
captured() { grep -c 'captured ' "$work/kamailio.log"; }
all_captured() { [ "$(captured)" -eq "$messages" ]; }
until_true 10 all_captured || fail "Kamailio captured $(captured) of $messages messages"
expect "INVITEs that Kamailio has from the caller" "$calls" "$(grep -c 'captured INVITE .* 127.0.0.1:5072$' "$work/kamailio.log")"
expect "traces" $((2 * calls)) "$(metric tandem_traces_total)"
expect "dropped" 0 "$(metric tandem_traces_dropped_total)"

# What people read.
http "/traces?limit=100" >"$work/list"
expect "calls that the node knows" $((2 * calls)) "$(jq .total "$work/list")"
jq -r '.traces[].call_id' "$work/list" | while read -r call_id; do
    "$TANDEM" trace "$call_id" --text
    http "/traces/$(jq -rn --arg id "$call_id" '$id | @uri')"
done >"$work/told"
expect "calls that were told to their end" $((2 * calls)) "$(grep -c 'over: caller_bye, after' "$work/told")"
[ "$(grep -c 'lost: an ICMP error' "$work/told")" -ge "$failed" ] || fail "an ICMP error was not told"

for file in spans hep kamailio.log tandem.log told; do
    grep -q 'm=application' "$work/$file" || [ "$file" = spans ] || [ "$file" = kamailio.log ] || [ "$file" = tandem.log ] || fail "$file has no m= line"
    # As lines of text, of JSON, and within it.
    if grep -E -q 'SECRET|(^|\\n|\\r|"|\| )(o=|c=IN|a=)' "$work/$file"; then
        fail "$file has $(grep -E -o 'SECRET|(^|\\n|\\r|"|\| )(o=|c=IN|a=).{20}' "$work/$file" | head -n 1)"
    fi
done
grep -q 'Authorization: \*\*\*' "$work/told" || fail "nothing says that there was an Authorization"
echo "$name: $((2 * calls)) calls, $failed by the dead server first; $messages messages"
echo "PASS $name"
