#!/usr/bin/env bash
# A node that is restarted under load: 200 calls a second with 10 s holds for 40 s, some 2,000 sessions at any time; three
# times SIGTERM, its exit, and a new start at once. TANDEM names the program; RATE, HOLD and TIME may be changed.
#
# Bounds:
# - Every BYE is answered by a 2xx: `lost` is 0. Sessions of the old process are routed by what is in the messages, and a
#   BYE that meets no process is sent again for 32 s, longer than any gap here.
# - Every INVITE gets an answer: 200, or 503 from a node that is leaving. One that meets no process is sent again too.
#   There is no virtual address to move, so `handover` is 0 and calls are refused from the signal to the exit: their number is
#   bounded by the rate times that time, measured here, with a tenth of a second more for each restart.
# - The exit is clean and comes within `limit`, 2 s, and half a second; an answered BYE is no open transaction.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq
rate=${RATE:-200}
hold=${HOLD:-10}
time=${TIME:-40}
restarts=3

write_config

milliseconds() { echo "$(($(date +%s%N) / 1000000))"; }
row() { printf '%-8s %10s %10s %10s %12s %12s %10s\n' "$@"; }

lab_server s7010 7010
lab_server s7011 7011
start_tandem 127.0.0.1
proxy=$started
start "$work/calls.log" "$TANDEM" calls --json --rate "$rate" --for "${time}s" --hold "${hold}s"
caller=$started
began=$(milliseconds)

echo "$name: $rate calls a second with $hold s holds for $time s, $restarts restarts"
row restart at_ms sessions exit_ms ready_ms gap_ms exit_code
refusing=0
slowest=0
for ((turn = 1; turn <= restarts; turn++)); do
    # The first when the sessions have reached their number, the last while calls are still begun.
    due=$((began + (hold + 2 + (turn - 1) * (time - hold - 4) / restarts) * 1000))
    sleep "$(awk -v left="$((due - $(milliseconds)))" 'BEGIN { print (left > 0 ? left / 1000 : 0) }')"
    sessions=$(metric tandem_sessions)
    signalled=$(milliseconds)
    kill -TERM "$proxy"
    status=0
    wait "$proxy" || status=$?
    gone=$(milliseconds)
    start "$work/tandem-$turn.log" "$TANDEM" run --config "$work/tandem.toml"
    proxy=$started
    # Not until_true, whose looks are a tenth of a second apart.
    until http /ready >/dev/null 2>&1; do
        [ "$(($(milliseconds) - gone))" -lt 20000 ] || fail "restart $turn: not ready: $(tail -n 3 "$work/tandem-$turn.log")"
        sleep 0.01
    done
    ready=$(milliseconds)
    row "$turn" "$((signalled - began))" "$sessions" "$((gone - signalled))" "$((ready - gone))" "$((ready - signalled))" "$status"
    refusing=$((refusing + gone - signalled + 100))
    [ "$((gone - signalled))" -le "$slowest" ] || slowest=$((gone - signalled))
    expect "restart $turn: exit status" 0 "$status"
done
ended "$caller" $((time + hold + 60)) || fail "the caller does not end"

calls=$(report calls .calls)
answered=$(report calls .answered)
failed=$(report calls .failed)
lost=$(report calls .lost)
refused=$(report calls '.outcomes["503"] // 0')
most=$((rate * refusing / 1000))
stop "$proxy"
echo "$name: $calls calls, $answered answered, $failed failed ($(codes calls)), $lost lost;" \
    "p50 $(report calls .p50_ms) ms, p99 $(report calls .p99_ms) ms; at most $most may be refused"
[ "$calls" -ge $((rate * time * 95 / 100)) ] || wrong "only $calls calls were made"
[ "$lost" = 0 ] || wrong "$lost BYEs were not answered"
[ "$((answered + refused))" = "$calls" ] || wrong "$((calls - answered - refused)) INVITEs got neither 200 nor 503"
[ "$refused" -le "$most" ] || wrong "$refused calls were refused, more than $most"
[ "$slowest" -le 2500 ] || wrong "the slowest exit took $slowest ms, more than 2500"
verdict
