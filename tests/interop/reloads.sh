#!/usr/bin/env bash
# The database never touches calls: SIPp at 300 calls a second with holds of 3 s to set 19's two servers, beside which the table has
# 1,000 rows, in a real MariaDB and then in a real PostgreSQL. First nothing happens; then the node is told to reload again and again
# (1,000 times; 200 at PostgreSQL), while random rows change in between, and the database is killed and started, hangs and goes on,
# the table is dropped and restored, rows of nonsense come and go, the table is emptied and filled (reloads/storm.py).
#
# Bounds: no call fails and no message is lost on either side; each reload of good rows is taken, each of the others refused whole or
# failed; /ready is 200 all the while, says what is wrong, and nothing when all is well; the log tells each cause once, however often
# it is met; the node's sets are the table's again and again, and at the end. Printed: how long callers wait for their 200, without
# reloads and with them.
# `reloads KIND...`: these databases alone. TANDEM names the program; RATE, and RELOADS of each, may be changed.
. "$(dirname "$0")/common.sh"
# PostgreSQL's programs are where no PATH leads.
for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done
need sipp curl ss awk python3 mariadbd mariadb psql initdb
[ "$(id -u)" -eq 0 ] || fail "needs root, to see packets in a network namespace"
rate=${RATE:-300}
kinds=("$@")
[ $# -gt 0 ] || kinds=(mariadb postgres)
declare -A usual=([mariadb]=1000 [postgres]=200)

# call PHASE OPTIONS...: SIPp's calls.
call() {
    local phase=$1
    shift
    exec sipp 127.0.0.1:8060 -sf "$here/caller.xml" -i 127.0.0.1 -p 5072 -nostdin -r "$rate" -l $((rate * 60)) -d 3000 \
        -buff_size 4194304 -timeout 300s -timeout_error -trace_stat -stf "$work/$phase.csv" -fd 1 -trace_err \
        -error_file "$work/$phase.err" "$@"
}

# waits FROM TO: the median, the 99th percentile and the longest time from INVITE to 200 of calls that began then, in ms.
waits() { python3 -B "$here/health/measure.py" answers "$work/packets" "$1" "$2" | awk '/^(p50|p99|max)/ { printf "%s ", $2 }'; }

play() {
    local kind=$1 phase storm first second node watch caller began reloading ended quiet stormy
    rm -rf "$work"/{url,go,done}
    start "$work/storm.log" python3 -B "$here/reloads/storm.py" "$kind" "${RELOADS:-${usual[$kind]}}" "$work"
    storm=$started
    until_true 90 [ -s "$work/url" ] || fail "no $kind: $(tail -n 3 "$work/storm.log")"
    write_config
    sed -i "s|^url = .*|url = \"$(<"$work/url")\"\ntimeout = \"1s\"\npoll_interval = \"1s\"|" "$work/tandem.toml"
    sipp_server s7010 server 127.0.0.1 7010
    first=$started
    sipp_server s7011 server 127.0.0.1 7011
    second=$started
    start_tandem
    node=$started

    start "$work/watch.log" python3 "$here/health/watch.py" "$work/packets"
    watch=$started
    until_true 20 grep -q watching "$work/watch.log" || fail "no watch: $(tail -n 3 "$work/watch.log")"
    began=$EPOCHREALTIME
    start "$work/quiet.log" call quiet -m $((rate * 6))
    wait "$started" || wrong "$kind: SIPp's exit status of the quiet calls is $?"
    start "$work/stormy.log" call stormy
    caller=$started
    sleep 1
    reloading=$EPOCHREALTIME
    touch "$work/go"
    until [ -e "$work/done" ]; do
        kill -0 "$storm" 2>/dev/null || fail "$kind: the storm broke off: $(tail -n 5 "$work/storm.log")"
        kill -0 "$caller" 2>/dev/null || fail "$kind: SIPp broke off: $(tail -n 3 "$work/stormy.log")"
        sleep 0.2
    done
    ended=$EPOCHREALTIME
    sipp_drain "$caller"
    sipp_drain "$first"
    sipp_drain "$second"

    kill -TERM "$watch"
    ended "$watch" 20 || fail "the watch does not end"
    read -ra quiet <<<"$(waits "$began" "$reloading")"
    read -ra stormy <<<"$(waits "$reloading" "$ended")"
    [ ${#quiet[@]} -eq 3 ] && [ ${#stormy[@]} -eq 3 ] || fail "nothing is measured"
    echo "$kind: $(counter quiet 'SuccessfulCall(C)') calls without reloads, $(counter stormy 'SuccessfulCall(C)') with them," \
        "$(($(counter quiet 'FailedCall(C)') + $(counter stormy 'FailedCall(C)'))) failed, of" \
        "$(counter stormy 'Retransmissions(C)') retransmissions;"
    echo "  INVITE to 200 without, with, added: p50 ${quiet[0]}, ${stormy[0]} ms; p99 ${quiet[1]}, ${stormy[1]}," \
        "$(awk "BEGIN { printf \"%.1f\", ${stormy[1]} - ${quiet[1]} }") ms; longest ${quiet[2]}, ${stormy[2]} ms"
    grep -v '^fault: ' "$work/storm.log" || true
    while read -r line; do wrong "$kind: ${line#fault: }"; done < <(grep '^fault: ' "$work/storm.log")
    for phase in quiet stormy; do
        expect_calls "$phase" "$(counter "$phase" 'TotalCallCreated')"
    done
    [ "$(counter stormy 'TotalCallCreated')" -ge $((rate * 10)) ] || wrong "$kind: only $(counter stormy 'TotalCallCreated') calls"
    expect "calls that failed at the servers" 0 "$(($(counter s7010 'FailedCall(C)') + $(counter s7011 'FailedCall(C)')))"
    expect "calls that the servers had" "$(($(counter quiet 'TotalCallCreated') + $(counter stormy 'TotalCallCreated')))" \
        "$(($(counter s7010 'SuccessfulCall(C)') + $(counter s7011 'SuccessfulCall(C)')))"
    expect_rest 0
    stop "$node"
    stop "$storm"
}

for kind in "${kinds[@]}"; do
    [ -n "${usual[$kind]:-}" ] || fail "no database is called $kind"
    play "$kind"
done
verdict
