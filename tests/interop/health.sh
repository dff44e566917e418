#!/usr/bin/env bash
# Who is held out, how soon, and how soon he is back: SIPp at 200 calls a second to two servers, one of which fails for 5 s.
# The figures are from the packets (health/watch.py, health/measure.py). health.sh [CASE...]: these, or all, each in a
# network namespace of its own and several at a time (JOBS). TANDEM names the program. Needs root.
#
# A case is SET/OUTAGE. The set:
# - probes: OPTIONS every second, fall 2, timeout 2 s, and nothing made of traffic;
# - traffic: set 19 as it is shipped, which probes nothing;
# - both: the probes, and traffic as it is shipped;
# - kamailio-probes, kamailio-traffic: Kamailio with the same times, where it is installed, without bounds
#   (health/kamailio.cfg). Both probe; the second puts a server out by the first call that fails there.
# The outage, from the 3rd to the 7.5th second of 20, so that a server that a busy machine starts late is there before the first
# trial, 5.25 s after it died at the soonest:
# - killed: SIGKILL, and a new start; mute: SIGSTOP, and SIGCONT; both-killed, both-mute: both servers;
# - offline (503), busy (486): from the start on, to the 7.5th second of 26, which is longer than a first ejection.
#
# Bounds, by what is configured and with what a busy machine needs:
# - With a good server every call is answered: 0 lost.
# - probes: the dead one gets no new INVITE after 4.5 s, and answers the first one within 12 s of its return.
# - traffic: a closed port is out after 3 failures: what else it gets was on its way within 250 ms of the third ICMP error.
#   A mute one is out when 3 tries have been silent for the set's first_response_timeout, 2 s; here 2.5 s. Then it gets one
#   call as a trial now and then. It answers the first one within 7 s of its return.
# - Both dead: each call gets 480, at once when it is known (from the 3rd second on; p99 below 500 ms). Both serve again
#   within 7 s (12 s by probes).
# - offline and busy: held out, by probes after 4.5 s, by traffic with less than a twentieth of the calls from the start. The
#   first trial of one that is offline fails, so that it waits twice as long (10 s and a quarter): back within 14 s.
# - At the end each has between 40 and 60 % of the calls again.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk python3
[ "$(id -u)" -eq 0 ] || fail "needs root, to see packets in a network namespace"
jobs=${JOBS:-5}
rate=200
cases=("$@")
if [ $# -eq 0 ]; then
    cases=(traffic/{offline,busy,killed,mute,both-killed,both-mute} probes/{offline,killed,mute,both-killed} both/{killed,mute})
    ! command -v kamailio >/dev/null || cases+=(kamailio-{probes,traffic}/{killed,mute})
fi

row() { printf '%-24s %5s %8s %5s %5s %7s %5s %6s %8s %8s %6s %7s %7s %7s\n' "$@"; }

probe='[set.probe]
interval = "1s"
fall = 2
timeout = "2s"'

# proxy SET: Tandem or Kamailio at 127.0.0.1:8060.
proxy() {
    case $1 in
        probes) write_config "$probe"$'\n[set.observe]\nenabled = false' && start_tandem 127.0.0.1 ;;
        traffic) write_config && start_tandem 127.0.0.1 ;;
        both) write_config "$probe" && start_tandem 127.0.0.1 ;;
        kamailio-*)
            printf '1 sip:127.0.0.1:%s\n' 7010 7011 >"$work/dispatcher.list"
            sed "s|FOLDER|$work|" "$here/health/kamailio.cfg" >"$work/kamailio.cfg"
            local mark=()
            [ "$1" = kamailio-probes ] || mark=(-A MARK)
            start "$work/kamailio.log" "$(type -P kamailio)" -DD -E -f "$work/kamailio.cfg" -Y "$work" -m 64 -M 8 "${mark[@]}"
            until_true 20 bound 127.0.0.1 8060 || fail "no Kamailio: $(tail -n 3 "$work/kamailio.log")"
            sleep 2
            ;;
        *) fail "no set is called $1" ;;
    esac
}

# kill_hard PID...: bash says nothing of it.
kill_hard() {
    local pid
    kill -KILL "$@"
    wait "$@" 2>/dev/null || true
    for pid in "$@"; do stop "$pid"; done
}

# figure NAME: one of what measure.py told.
figure() { awk -v name="$1" '$1 == name { print $2 }' "$work/figures"; }

# play CASE: its row, and what is wrong with it.
play() {
    local set=${1%/*} outage=${1#*/} dead=(7010) first second watch caller died returned calls=$((20 * rate)) patience=7 options=()
    case $outage in
        offline | busy) options=("--$outage") calls=$((26 * rate)) patience=14 ;;
        both-*) dead=(7010 7011) ;;
    esac
    lab_server 7010 7010 "${options[@]}"
    first=$started
    lab_server 7011 7011
    second=$started
    proxy "$set"
    start "$work/watch.log" python3 "$here/health/watch.py" "$work/packets"
    watch=$started
    until_true 20 grep -q watching "$work/watch.log" || fail "no watch: $(tail -n 3 "$work/watch.log")"
    died=$EPOCHREALTIME
    start "$work/caller.log" sipp 127.0.0.1:8060 -sf "$here/health/caller.xml" -i 127.0.0.1 -p 5072 -nostdin -m "$calls" \
        -r "$rate" -l "$calls" -deadcall_wait 0 -buff_size 4194304 -timeout 120s -timeout_error -trace_stat \
        -stf "$work/caller.csv" -fd 1 -trace_err -error_file "$work/caller.err"
    caller=$started
    sleep 3
    case $outage in
        killed) died=$EPOCHREALTIME && kill_hard "$first" ;;
        both-killed) died=$EPOCHREALTIME && kill_hard "$first" "$second" ;;
        mute) died=$EPOCHREALTIME && kill -STOP "$first" ;;
        both-mute) died=$EPOCHREALTIME && kill -STOP "$first" "$second" ;;
        offline | busy) ;;
        *) fail "no outage is called $outage" ;;
    esac
    sleep 4.5
    returned=$EPOCHREALTIME
    case $outage in
        killed) lab_server 7010-again 7010 ;;
        both-killed) lab_server 7010-again 7010 && lab_server 7011-again 7011 ;;
        mute) kill -CONT "$first" ;;
        both-mute) kill -CONT "$first" "$second" ;;
        offline | busy) stop "$first" && returned=$EPOCHREALTIME && lab_server 7010-again 7010 ;;
    esac
    wait "$caller" || [[ $set = kamailio-* ]] || wrong "$1: $(counter caller 'FailedCall(C)') of SIPp's calls got what they do not expect"
    kill -TERM "$watch"
    ended "$watch" 20 || fail "the watch does not end"
    python3 "$here/health/measure.py" outage "$work/packets" "$died" "$returned" "${dead[@]}" >"$work/figures" ||
        fail "nothing is measured"
    row "$1" "$(figure calls)" "$(figure answered)" "$(figure refused)" "$(figure other)" "$(figure tries)" \
        "$(figure refusals)" "$(figure trials)" "$(figure last_s)" "$(figure back_s)" "$(figure share)" "$(figure p50)" "$(figure p99)" "$(figure max)"
    [[ $set != kamailio-* ]] || return 0

    expect "$1: calls" "$calls" "$(figure calls)"
    [ "$(figure other)" = 0 ] || wrong "$1: $(figure other) calls got neither 200 nor 480"
    case $outage in
        both-*)
            # It is known when the second has been found dead too.
            python3 "$here/health/measure.py" refusals "$work/packets" "$(awk "BEGIN { printf \"%.6f\", $died + 3 }")" \
                "$returned" >"$work/figures-480"
            echo "remark: $1: $(tr '\n' ' ' <"$work/figures-480")(480s from 3 s after death to return, ms)"
            expect "$1: calls refused while both are known to be dead" "$(awk '$1 == "calls" { print $2 }' "$work/figures-480")" \
                "$(awk '$1 == "refused" { print $2 }' "$work/figures-480")"
            below "$(awk '$1 == "p99" { print $2 }' "$work/figures-480")" 500 || wrong "$1: p99 of its 480s is not below 500 ms"
            ;;
        *) [ "$(figure refused)" = 0 ] || wrong "$1: $(figure refused) calls were refused" ;;
    esac
    case $set/$outage in
        probes/killed | probes/mute | probes/offline)
            below "$(figure last_s)" 4.5 || wrong "$1: an INVITE went to the dead one after $(figure last_s) s"
            [ "$(figure trials)" = 0 ] || wrong "$1: $(figure trials) INVITEs went to the dead one later"
            ;;
        traffic/killed | both/killed)
            [ "$(figure refusals)" -ge 3 ] || wrong "$1: only $(figure refusals) calls were refused there"
            below "$(figure behind_third)" 250 || wrong "$1: an INVITE came $(figure behind_third) ms after the third was refused"
            ;;
        traffic/mute | both/mute) below "$(figure last_s)" 2.5 || wrong "$1: an INVITE went to the dead one after $(figure last_s) s" ;;
        traffic/offline | traffic/busy)
            [ "$(figure tries)" -lt $((8 * rate / 20)) ] || wrong "$1: it got $(figure tries) calls while it was held out"
            ;;
    esac
    case $set in
        probes) below "$(figure back_s)" 12 || wrong "$1: it serves $(figure back_s) s after its return" ;;
        *) below "$(figure back_s)" "$patience" || wrong "$1: it serves $(figure back_s) s after its return" ;;
    esac
    [ ${#dead[@]} -eq 2 ] || { [ "$(figure share)" -ge 40 ] && [ "$(figure share)" -le 60 ]; } ||
        wrong "$1: it has $(figure share) % of the calls at the end"
}

heads() {
    echo "$name: $rate calls a second, an outage of 4.5 s; ms from INVITE to 200"
    row case calls answered 480 other to-dead icmp trials last_s back_s share p50 p99 max
}

if [ ${#cases[@]} -eq 1 ]; then
    heads
    play "${cases[0]}"
    verdict
    exit
fi

# Each case is this script again, in a namespace of its own.
heads
running=()
for case in "${cases[@]}" -; do
    while [ ${#running[@]} -ge "$jobs" ] || { [ "$case" = - ] && [ ${#running[@]} -gt 0 ]; }; do
        read -r pid log <<<"${running[0]}"
        running=("${running[@]:1}")
        if ! wait "$pid"; then wrong "$(sed -n '/^FAIL/,$p' "$log" | tr '\n' ' ')"; fi
        grep -v "^$name:\|^case \|^PASS\|^FAIL\|^  also" "$log" || true
    done
    [ "$case" != - ] || break
    log=$work/${case/\//-}.log
    TANDEM_ALONE='' TMPDIR=$work start "$log" "$0" "$case"
    running+=("$started $log")
done
verdict
