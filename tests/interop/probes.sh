#!/usr/bin/env bash
# 10,000 destinations, each asked every 10 s: how evenly their OPTIONS leave (from the packets), and what they cost. Then
# 1,000 of them die. TANDEM names the program; COUNT, DYING and TIME (seconds that are measured) may be changed. Needs root.
#
# Bounds: p99 of the OPTIONS of 100 ms is at most twice their mean; every destination is asked once in 10 s, is up and stays
# up. Those that die are down within the interval, fall * fast_interval and the timeout: 14 s, and a twentieth more, which is
# the jitter, and a second to look.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq python3
[ "$(id -u)" -eq 0 ] || fail "needs root, to see packets in a network namespace"
count=${COUNT:-10000}
dying=${DYING:-1000}
time=${TIME:-30}
interval=10
[ "$(ulimit -Hn)" -gt $((count + 100)) ] || fail "needs a limit of $((count + 100)) open files: it is $(ulimit -Hn)"

write_config "[set.probe]
interval = \"${interval}s\"
fast_interval = \"1s\"
fall = 2
timeout = \"2s\"
init_state = \"unknown\""

# healthy up|down: how many of set 19 are. /sets is asked, which is less work than /metrics.
healthy() { http /sets/19 | jq --arg health "$1" '[.destinations[] | select(.health == $health)] | length'; }
are() { [ "$(healthy "$1")" = "$2" ]; }

# cpu: nanoseconds that all threads of the node have run.
cpu() { cat /proc/"$node"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'; }

# rss: of the node, in kB.
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$node/status"; }

start "$work/answerer.log" python3 "$here/health/answerer.py" 20000 "$count" "$dying"
answerer=$started
until_true 30 grep -q listening "$work/answerer.log" || fail "no servers: $(tail -n 3 "$work/answerer.log")"
start_tandem
node=$started
rss_before=$(rss)
set_rows $(seq -f 'sip:127.0.0.1:%.0f' 20000 $((20000 + count - 1)))
# The first round is sooner than those that follow.
sleep "$interval"
until_true 30 are up "$count" || fail "$(healthy up) of $count are up"

start "$work/watch.log" python3 "$here/health/watch.py" "$work/packets"
watch=$started
until_true 20 grep -q watching "$work/watch.log" || fail "no watch: $(tail -n 3 "$work/watch.log")"
from=$EPOCHREALTIME
cpu_from=$(cpu)
sleep "$time"
to=$EPOCHREALTIME
cpu_to=$(cpu)
kill -TERM "$watch"
ended "$watch" 20 || fail "the watch does not end"
rss_after=$(rss)
python3 "$here/health/measure.py" spread "$work/packets" "$from" "$to" >"$work/figures" || fail "nothing is measured"
figure() { awk -v name="$1" '$1 == name { print $2 }' "$work/figures"; }
sent=$(figure sent)
awk -v count="$count" -v sent="$sent" -v from="$from" -v to="$to" -v cpu="$((cpu_to - cpu_from))" -v rss="$rss_after" -v before="$rss_before" 'BEGIN {
    printf "probes: %d destinations, %.0f probes a second; CPU: %.1f ms for 1,000 probes, %.2f %% of a core; RSS %.1f MB, %.2f kB a destination\n",
        count, sent / (to - from), cpu / 1e6 / (sent / 1000), cpu / 1e7 / (to - from), rss / 1024, (rss - before) / count }'
echo "spread: by 100 ms: mean $(figure mean), p99 $(figure p99), max $(figure max); p99 to mean $(figure quotient), at most 2"
below "$(figure quotient)" 2.001 || wrong "p99 to mean is $(figure quotient), more than 2"
wanted=$((count * time / interval))
[ "$sent" -gt $((wanted * 95 / 100)) ] && [ "$sent" -lt $((wanted * 105 / 100)) ] || wrong "$sent probes in $time s, not about $wanted"
expect "destinations that are up" "$count" "$(healthy up)"
expect "destinations that fell" 0 "$(http /sets/19 | jq '[.destinations[].falls] | add')"
began=$EPOCHREALTIME
http /metrics >"$work/metrics"
echo "remark: /metrics has $(($(wc -c <"$work/metrics") / 1000000)) MB and takes $(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $began }") s; then RSS is $(($(rss) / 1024)) MB"
expect "destinations that are fit, by /metrics" "$count" "$(awk '/^tandem_destination_fit\{/ { sum += $NF } END { print sum }' "$work/metrics")"

bound=$(awk "BEGIN { print ($interval + 2 * 1) * 1.05 + 2 + 1 }")
kill -USR1 "$answerer"
until_true 10 grep -q closed "$work/answerer.log" || fail "no server dies"
died=$(awk '/^closed/ { print $2 }' "$work/answerer.log")
until_true 40 are down "$dying" || fail "$(healthy down) of $dying dead ones are down"
took=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $died }")
echo "death: $dying of them die: all are down after $took s, at most $bound"
below "$took" "$bound" || wrong "the dead are down after $took s, not within $bound"
expect "destinations that are up" $((count - dying)) "$(healthy up)"
verdict
