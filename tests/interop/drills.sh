#!/usr/bin/env bash
# `tandem drill` in its own lab: the pair's shipped files with real keepalived, three servers, callers by UDP to both virtual
# addresses, one that believes ICMP, one by TCP; 200 calls a second in all with 10 s holds. `drills KIND...` holds those alone,
# ALL=1 all of them; TIMES=2 each twice.
#
# Bounds are the drill's own (src/drill/kind.rs), as: no session lost, 3 new calls lost at most, an address silent for 5 s at most
# when its node is killed and for 1.5 s when it is moved, views that agree a second after the nodes hear each other again; and what
# each node counts in the cluster is what there is, after it all.
# Beside that:
# - An address is moved in short, twice; its bounds are held by upgrade-nodes here, and by vip.
# - upgrade-nodes has no other version at hand but what OLD names: without it each node comes back with the same program, which does
#   all that restart-nodes does, twice.
# - What nothing can keep makes a drill fail: exit 1, and the line says by how much.
# - A drill that is interrupted takes its lab down: no namespace is left.
# Needs root. TANDEM names the program.
. "$(dirname "$0")/common.sh"
need ip nft keepalived curl jq mariadbd mariadb
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
usual=(kill-node cut-gossip cut-destination upgrade-nodes all-servers-dead stop-database)
others=(restart-nodes move-vip kill-destination hang-destination lose-packets empty-table)
kinds=("$@")
[ $# -gt 0 ] || kinds=("${usual[@]}")
[ $# -gt 0 ] || [ -z "${ALL:-}" ] || kinds+=("${others[@]}")

# An interrupted drill undoes what it did and takes its lab down, however this script ends.
grace=60

# gone PID: nothing of its lab is left.
gone() {
    ! ip netns list | grep -q "^tandem-drill-$1-" && ! compgen -G "/etc/netns/tandem-drill-$1-*" &&
        ! compgen -G "${TMPDIR:-/tmp}/tandem-drill-$1-*"
}

for ((turn = 1; turn <= ${TIMES:-1}; turn++)); do
    for kind in "${kinds[@]}"; do
        status=0
        from=()
        [ "$kind" != upgrade-nodes ] || from=(--from "${OLD:-$TANDEM}")
        "$TANDEM" drill "$kind" --lab "${from[@]}" || status=$?
        echo
        [ "$status" = 0 ] || wrong "$kind: exit status $status"
    done
done

# A move that may take no time at all, of calls that are short.
status=0
short=(--rate 40 --hold 1s --before 2s --during 3s --after 3s)
"$TANDEM" drill move-vip --lab --json "${short[@]}" --slowest-detection 0ms >"$work/beyond.log" 2>"$work/beyond.err" || status=$?
expect "a limit that nothing can keep: exit status" 1 "$status"
grep -q '^beyond its limit: detection: [0-9.]*m\?s, not 0ns at most$' "$work/beyond.err" || wrong "it says $(cat "$work/beyond.err")"
expect "and what it tells of" move-vip "$(tail -n 1 "$work/beyond.log" | jq -r .drill)"

start "$work/interrupted.log" "$TANDEM" drill move-vip --lab
drill=$started
until_true 30 grep -q 'calls begin' "$work/interrupted.log" || fail "no calls begin: $(tail -n 3 "$work/interrupted.log")"
kill -INT "$drill"
ended "$drill" "$grace" || fail "an interrupted drill still runs after $grace s"
status=0
wait "$drill" || status=$?
expect "an interrupted drill: exit status" 2 "$status"
gone "$drill" || wrong "the lab of an interrupted drill is still there"
verdict
