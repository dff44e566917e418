#!/usr/bin/env bash
# tests/evidence/sessions.sh [CASE...]: limits, storms and a hundred thousand sessions through the running node, in about ten
# minutes; a table a case, and a fault for each bound that is broken. Its figures stand in docs/benchmarks/sessions.md.
#
# - limits: SIPp, 300 calls a second with 30 s holds for TIME s to a server with a limit of 100 sessions and one without.
#   The limit is never passed, as we and as the server count, and nobody is refused.
# - full: 300 calls that last, to servers with limits of 100 and 150: 250 are answered, 50 get 486.
# - storm: 10,000 sessions end within a second beside 200 calls a second: none of these fails, none of all is lost.
# - killed: the callers of 2,000 sessions die without BYE: `max_duration` ends each by a BYE to its server, and none is left.
# - many: 100,000 live sessions, and the node's memory: at most 1 kB each beside what the calls that set them up needed.
. "$(dirname "$0")/../interop/common.sh"
need sqlite3 curl ss awk jq sipp
time=${TIME:-120}
[ $# -gt 0 ] || set -- limits full storm killed many

# rows "URI ATTRS"...: those of set 19.
rows() {
    local row sql="DELETE FROM \`dispatcher\`;"
    for row in "$@"; do
        sql+="INSERT INTO \`dispatcher\` (\`setid\`, \`destination\`, \`attrs\`) VALUES (19, '${row% *}', '${row#* }');"
    done
    sqlite3 "$work/tandem.db" ".timeout 5000" "BEGIN; $sql COMMIT;"
    take_rows
}

# fresh EXTRA ROW...: a new node, whose set has EXTRA, and new servers on the ports 7010 and 7011.
fresh() {
    local extra=$1
    shift
    write_config "[limits]
sessions = 200000"
    [ -z "$extra" ] || sed -i "/^algorithm/a $extra" "$work/tandem.toml"
    start_tandem
    node=$started
    lab_server s7010 7010
    s7010=$started
    lab_server s7011 7011
    s7011=$started
    rows "$@"
}

# over: nothing is left of the sessions; stops the servers and the node.
over() {
    until_true "${1:-20}" no_sessions || wrong "$case: $(metric tandem_sessions) sessions are left"
    stop "$s7010"
    stop "$s7011"
    stop "$node"
}

# figure PORT NAME: sessions or sessions_peak of a server, as the node counts.
figure() { http /sets | jq ".sets[].destinations[] | select(.uri | endswith(\":$1\")) | .$2"; }
# at_server PORT WORD: a figure of a stopped server's last line: INVITEs, BYEs, "at most".
at_server() { awk -v word="$2" '{ for (i = 2; i <= NF; i++) { sub(",", "", $i); if ($i == word) print $(i - 1) } }' <<<"$(tail -n 1 "$work/s$1.log")"; }
most_at_server() { sed -n 's/.* \([0-9]*\) at most$/\1/p' "$work/s$1.log"; }
rss_mb() { awk '/^VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$node/status"; }
endings() { metric "tandem_sessions_ended_total{ending=\"$1\"}"; }

# sampled PID: the most sessions of each server in samples four times a second while the process runs.
sampled() {
    local most_7010=0 most_7011=0 taken=0 a b
    while kill -0 "$1" 2>/dev/null; do
        read -r a b < <(http /sets | jq -r '[.sets[].destinations[].sessions] | @tsv')
        [ "$a" -le "$most_7010" ] || most_7010=$a
        [ "$b" -le "$most_7011" ] || most_7011=$b
        taken=$((taken + 1))
        sleep 0.25
    done
    samples="$most_7010 $most_7011 $taken"
}

sipp_in_background() {
    start "$work/$1.log" sipp 127.0.0.1:8060 -sf "$here/caller.xml" -i 127.0.0.1 -p 5072 -t u1 -nostdin -buff_size 4194304 \
        -trace_stat -stf "$work/$1.csv" -fd 1 -trace_err -error_file "$work/$1.err" "${@:2}"
}

limits() {
    local calls=$((300 * time)) failed peak_7010 peak_7011
    fresh '[set.capacity]\nattr = "pstn"' "sip:127.0.0.1:7010 pstn=100" "sip:127.0.0.1:7011 "
    sipp_in_background caller -r 300 -m "$calls" -d 30000 -l 100000
    sampled "$started"
    failed=$(counter caller 'FailedCall(C)')
    peak_7010=$(figure 7010 sessions_peak) peak_7011=$(figure 7011 sessions_peak)
    over
    echo "limits: $(counter caller 'SuccessfulCall(C)') of $calls calls at 300 a second were well, $failed failed"
    printf '%-8s %6s %8s %14s %14s %14s\n' server limit INVITEs 'most, samples' 'most, node' 'most, server'
    printf '%-8s %6s %8s %14s %14s %14s\n' 7010 100 "$(served s7010)" "$(cut -d' ' -f1 <<<"$samples")" "$peak_7010" "$(most_at_server 7010)"
    printf '%-8s %6s %8s %14s %14s %14s\n' 7011 none "$(served s7011)" "$(cut -d' ' -f2 <<<"$samples")" "$peak_7011" "$(most_at_server 7011)"
    echo "        $(cut -d' ' -f3 <<<"$samples") samples"
    [ "$failed" = 0 ] || wrong "limits: $failed calls failed"
    [ "$(counter caller 'SuccessfulCall(C)')" = "$calls" ] || wrong "limits: not all of $calls calls were well"
    [ "$peak_7010" = 100 ] || wrong "limits: at most $peak_7010 sessions on 7010, not 100"
    [ "$(most_at_server 7010)" -le 100 ] || wrong "limits: 7010 had $(most_at_server 7010) sessions"
    [ "$peak_7011" -ge 8000 ] || wrong "limits: only $peak_7011 sessions on 7011"
}

full() {
    fresh '[set.capacity]\nattr = "pstn"' "sip:127.0.0.1:7010 pstn=100" "sip:127.0.0.1:7011 pstn=150"
    "$TANDEM" calls --json --rate 50 --calls 300 --hold 20s >"$work/calls.log" 2>&1 || fail "full: $(tail -n 3 "$work/calls.log")"
    over
    echo "full: 300 calls, limits 100 and 150: answers $(codes calls); at most $(most_at_server 7010) and $(most_at_server 7011) sessions"
    [ "$(report calls .answered)" = 250 ] || wrong "full: $(report calls .answered) calls were answered, not 250"
    [ "$(codes calls)" = 200:250,486:50 ] || wrong "full: answers $(codes calls)"
    [ "$(most_at_server 7010) $(most_at_server 7011)" = "100 150" ] || wrong "full: at most $(most_at_server 7010) and $(most_at_server 7011)"
}

# beside NAME SECONDS: 200 calls a second for so long; their report is $work/NAME.log.
beside() {
    start "$work/$1.log" "$TANDEM" calls --json --rate 200 --for "$2s" --hold 500ms
    ended "$started" 60 || fail "the calls beside do not end"
}

storm() {
    local caller began before each
    fresh '' "sip:127.0.0.1:7010 " "sip:127.0.0.1:7011 "
    beside empty 5
    began=$(date +%s)
    start "$work/storm.log" "$TANDEM" calls --json --rate 500 --calls 10000 --hang-up-at 40s
    caller=$started
    ten_thousand() { [ "$(metric tandem_sessions)" = 10000 ]; }
    until_true 36 ten_thousand || wrong "storm: $(metric tandem_sessions) sessions, not 10,000"
    beside idle 5
    before=$((began + 38 - $(date +%s)))
    [ "$before" -gt 0 ] || fail "storm: the sessions took too long to come"
    sleep "$before"
    beside during 5
    ended "$caller" 60 || fail "the storm does not end"
    over
    echo "storm: 10,000 sessions end within a second; 200 calls a second beside"
    printf '%-32s %6s %6s %10s %10s\n' '' calls failed 'p50 ms' 'p99 ms'
    for each in empty idle during; do
        printf '%-32s %6s %6s %10s %10s\n' "$(
            case $each in empty) echo 'no other session' ;; idle) echo '10,000 live' ;; during) echo '10,000 end' ;; esac
        )" "$(report $each .calls)" "$(report $each .failed)" "$(report $each .p50_ms)" "$(report $each .p99_ms)"
        [ "$(report $each '.failed + .lost')" = 0 ] || wrong "storm, $each: calls failed or were lost"
    done
    [ "$(report storm '.failed + .lost')" = 0 ] || wrong "storm: $(report storm .failed) failed, $(report storm .lost) lost"
    below "$(report during .p99_ms)" 1000 || wrong "storm: p99 $(report during .p99_ms) ms"
}

killed() {
    local caller
    fresh '[set.session]\nmax_duration = "20s"' "sip:127.0.0.1:7010 " "sip:127.0.0.1:7011 "
    sipp_in_background killed -r 200 -m 2000 -d 600000 -l 100000
    caller=$started
    two_thousand() { [ "$(metric tandem_sessions)" = 2000 ]; }
    until_true 18 two_thousand || wrong "killed: $(metric tandem_sessions) sessions, not 2,000"
    kill -KILL "$caller"
    until_true 60 no_sessions || wrong "killed: $(metric tandem_sessions) sessions are left"
    ended=$(endings max_duration)
    over
    echo "killed: 2,000 sessions of a dead caller: $ended ended by max_duration, $(($(at_server 7010 BYEs) + $(at_server 7011 BYEs))) BYEs at the servers"
    [ "$ended" = 2000 ] || wrong "killed: $ended ended by max_duration"
    [ "$(($(at_server 7010 BYEs) + $(at_server 7011 BYEs)))" = 2000 ] || wrong "killed: not 2,000 BYEs at the servers"
}

many() {
    local empty full quiet callers=() nth caller lost=0
    fresh '' "sip:127.0.0.1:7010 " "sip:127.0.0.1:7011 "
    empty=$(rss_mb)
    for nth in 1 2 3 4; do
        start "$work/many-$nth.log" "$TANDEM" calls --json --from "127.0.2.$nth" --rate 500 --calls 25000 --hold 150s
        callers+=("$started")
    done
    a_hundred_thousand() { [ "$(metric tandem_sessions)" = 100000 ]; }
    until_true 140 a_hundred_thousand || wrong "many: $(metric tandem_sessions) sessions, not 100,000"
    full=$(rss_mb)
    # What set them up is forgotten after 64*T1.
    settled() { [ "$(metric tandem_transactions)" -lt 2000 ]; }
    until_true 60 settled || true
    quiet=$(rss_mb)
    beside many-beside 5
    for caller in "${callers[@]}"; do ended "$caller" 300 || fail "a caller does not end"; done
    over 60
    for nth in 1 2 3 4; do lost=$((lost + $(report many-$nth '.failed + .lost'))); done
    echo "many: 100,000 sessions at 2,000 a second: $empty MB before, $full MB when all are up, $quiet MB when they rest:" \
        "$(((quiet - empty) * 1048576 / 100000)) bytes each; $lost of them failed or were lost"
    echo "      200 calls a second beside: $(report many-beside .failed) failed, p50 $(report many-beside .p50_ms) ms, p99 $(report many-beside .p99_ms) ms"
    [ "$lost" = 0 ] || wrong "many: $lost calls failed or were lost"
    [ "$(report many-beside '.failed + .lost')" = 0 ] || wrong "many: calls beside failed"
}

for case in "$@"; do
    declare -F "$case" >/dev/null || fail "no case is called $case"
    "$case"
done
verdict
