#!/usr/bin/env bash
# The pair as it is shipped: config/tandem-{a,b}.toml, config/keepalived and config/nftables, unchanged, in network namespaces on
# one bridge: two nodes, callers, two servers. 100 calls a second with 10 s holds, half of them to each virtual address, while
# keepalived of node a is stopped and started, and then tandem of node a is killed (SIGKILL), started, and told to leave (SIGTERM).
#
# Bounds:
# - Every BYE is answered by a 2xx, whichever node it meets: no session is lost.
# - Calls that were being set up are answered through the other node (`address_lost` of the one that lost the address: there
#   must be some), whose server sends its 2xx again until it is acknowledged. One may be lost that had our 100 when its
#   INVITE had not left yet, or whose answer was none that is sent again: at most 3. All others are sent again by their callers.
# - By TCP (10 calls a second to the first address) what was written to a connection that died is sent by nobody again: the calls
#   of the time in which the address was silent, and 3 for each of the five moves. No BYE is among the lost.
# - The longest silence of an address that callers send 50 calls a second to: 1.5 s for a planned move (advertisements are 200
#   ms apart), 5 s for a killed process (two checks a second apart, then the same), and half a second more for a busy machine.
# - A node that is told to leave ends before its handover (10 s) is over, since its address has moved, and refuses no call.
# - Nobody hears ICMP from a virtual address (nftables/tandem-vip.nft).
# - /node of both tells at each step which addresses are here, as soon as `ip` does or within a second.
# Needs root. TANDEM names the program.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq ip nft keepalived tcpdump
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
rate=${RATE:-100}
hold=10
time=54
config=$here/../../config
vips=(10.0.0.101 10.0.0.102)

milliseconds() { echo "$(($(date +%s%N) / 1000000))"; }

# Four hosts on a bridge of this namespace. What stands in /etc/netns/HOST is its /etc.
ip link add vipbr type bridge
ip link set vipbr up
declare -A host
for who in a b caller servers; do
    host[$who]=tandem-$who-$$
    ip netns add "${host[$who]}"
    namespaces+=("${host[$who]}")
    ip -n "${host[$who]}" link set lo up
    ip link add "vip-$who" type veth peer name eth0 netns "${host[$who]}"
    ip link set "vip-$who" master vipbr up
    ip -n "${host[$who]}" link set eth0 up
done
on() { ip netns exec "${host[$1]}" "${@:2}"; }
address() { ip -n "${host[$1]}" address add "$2/24" dev eth0; }
address a 10.0.0.11
address b 10.0.0.12
address caller 10.0.0.30
address servers 10.0.0.21
address servers 10.0.0.22

for node in a b; do
    mkdir -p "/etc/netns/${host[$node]}/keepalived" "$work/$node/state"
    cp "$config"/keepalived/* "/etc/netns/${host[$node]}/keepalived/"
    cp "$config/tandem-$node.toml" "$work/$node/tandem.toml"
    on "$node" nft -f "$config/nftables/tandem-vip.nft"
done

declare -A tandem keepalived
start_node() {
    start "$work/tandem-$1.log" ip netns exec "${host[$1]}" "$TANDEM" run --config "$work/$1/tandem.toml"
    tandem[$1]=$started
    inside=(ip netns exec "${host[$1]}")
    until_true 20 http /ready || fail "tandem of $1 is not ready: $(tail -n 3 "$work/tandem-$1.log")"
}
start_keepalived() {
    start "$work/keepalived-$1.log" ip netns exec "${host[$1]}" keepalived -n -l -f "/etc/keepalived/keepalived-$1.conf" \
        -p "$work/keepalived-$1.pid" -r "$work/vrrp-$1.pid" -c "$work/checkers-$1.pid"
    keepalived[$1]=$started
}

# here NODE: the last numbers of the virtual addresses that its kernel has, and the same by what tandem says.
here_by_ip() { ip -n "${host[$1]}" -o -4 address show dev eth0 | awk '{ print $4 }' | grep -oE '10[12]/' | tr -d '/' | sort | xargs; }
here_by_node() {
    inside=(ip netns exec "${host[$1]}")
    http /node | jq -r '[.listeners[] | select(.role == "vip" and .held) | .listener | capture("0.0.(?<n>10.):").n] | unique | join(" ")'
}
# holds NODE ADDRESSES: by both. A node that is dead is asked nothing.
holds() { [ "$(here_by_ip "$1")" = "$2" ] && { [ -z "${tandem[$1]}" ] || [ "$(here_by_node "$1")" = "$2" ]; }; }
# moved WHAT SECONDS A B: within so many seconds node a holds these addresses, and b those.
moved() {
    local began
    began=$(milliseconds)
    until_true "$2" holds a "$3" || wrong "$1: node a holds '$(here_by_ip a)', not '$3', after $2 s"
    until_true "$2" holds b "$4" || wrong "$1: node b holds '$(here_by_ip b)', not '$4', after $2 s"
    echo "$1: a holds '$3', b '$4' after $(($(milliseconds) - began)) ms"
}

# The second takes its time, so that calls are being set up whenever an address moves: seven or eight on each.
slow=(0ms 300ms)
for server in 21 22; do
    start "$work/s$server.log" ip netns exec "${host[servers]}" "$TANDEM" mrcp-server --listen "10.0.0.$server:7010" \
        --slow "${slow[$((server - 21))]}"
    until_true 10 bound "10.0.0.$server" 7010 ip netns exec "${host[servers]}" || fail "no server at 10.0.0.$server"
    servers+=("$started")
done
for node in a b; do
    # Both keys of both, as tandem-a.toml says.
    if [ "$node" = a ]; then
        (umask 077; for key in cluster gossip; do head -c 32 /dev/urandom | od -An -tx1 | tr -d " \n" >"$work/a/state/$key.key"; done)
    else
        cp -p "$work/a/state/"*.key "$work/b/state/"
    fi
    start_node "$node"
    sqlite3 "$work/$node/tandem.db" "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description)
        VALUES (19, 'sip:10.0.0.21:7010', 0, 1, 100, '', ''), (19, 'sip:10.0.0.22:7010', 0, 1, 100, '', '')"
    http /reload -X POST >/dev/null || fail "the rows are not taken"
    start_keepalived "$node"
done
moved "at the start" 10 101 102

for vip in "${vips[@]}"; do
    start "$work/heard-$vip.log" ip netns exec "${host[caller]}" tcpdump -i eth0 -n -tt -l --immediate-mode \
        "src host $vip and (udp or icmp)"
    heard+=("$started")
    until_true 10 grep -q 'listening on' "$work/heard-$vip.log" || fail "tcpdump does not run"
    start "$work/calls-$vip.log" ip netns exec "${host[caller]}" "$TANDEM" calls --json --to "$vip:8060" --from 10.0.0.30 \
        --rate $((rate / 2)) --for "${time}s" --hold "${hold}s"
    callers+=("$started")
done
start "$work/calls-tcp.log" ip netns exec "${host[caller]}" "$TANDEM" calls --json --to "${vips[0]}:8060" --from 10.0.0.30 \
    --transport tcp --rate 10 --for "${time}s" --hold "${hold}s"
callers+=("$started")
began=$(milliseconds)
# at SECONDS: waits until so many have passed since calls began.
at() { sleep "$(awk -v left="$((began + $1 * 1000 - $(milliseconds)))" 'BEGIN { print (left > 0 ? left / 1000 : 0) }')"; }
# silence VIP FROM TO: the longest time without a packet from it, between these milliseconds.
silence() {
    awk -v from="$2" -v to="$3" '
        function heard(now) { if (now - last > most) most = now - last; last = now }
        BEGIN { last = from }
        / IP / && $1 * 1000 >= from && $1 * 1000 <= to { heard($1 * 1000) }
        END { heard(to); printf "%d\n", most }' "$work/heard-$1.log"
}

# step WHAT AT SECONDS MOST A B: what `act` does then, and where the addresses are within SECONDS; the longest silence of either
# may be MOST milliseconds.
silent=0
step() {
    local what=$1 since until gap vip
    at "$2"
    since=$(milliseconds)
    act
    moved "$what" "$3" "$5" "$6"
    at $(($2 + 7))
    until=$(milliseconds)
    for vip in "${vips[@]}"; do
        gap=$(silence "$vip" "$since" "$until")
        echo "$what: longest silence of $vip: $gap ms"
        [ "$vip" != "${vips[0]}" ] || silent=$((silent + gap))
        [ "$gap" -le "$4" ] || wrong "$what: $vip was silent for $gap ms, more than $4"
    done
}
act() { stop "${keepalived[a]}"; }
step "keepalived of a is stopped" 11 3 2000 "" "101 102"
act() { start_keepalived a; }
step "keepalived of a is started" 19 5 2000 101 102
act() { kill -KILL "${tandem[a]}"; tandem[a]=; }
step "tandem of a is killed" 27 6 5500 "" "101 102"
act() { start_node a; }
step "tandem of a is started" 35 8 2000 101 102
on a nft list table inet tandem_vip | grep -q 'counter packets [1-9]' || wrong "node a dropped no ICMP error: nothing was shown of that"
act() { kill -TERM "${tandem[a]}"; leaving=$(milliseconds); }
step "tandem of a leaves" 43 6 2000 "" "101 102"
ended "${tandem[a]}" 1 || wrong "node a has not left $(($(milliseconds) - leaving)) ms after SIGTERM"
grep -q 'new calls are refused' "$work/tandem-a.log" || wrong "node a told nothing of its second step"

for pid in "${callers[@]}"; do ended "$pid" 90 || fail "a caller does not end"; done
for pid in "${heard[@]}" "${servers[@]}"; do stop "$pid"; done

for node in b; do
    inside=(ip netns exec "${host[$node]}")
    echo "node $node: $(http /node | jq -c '{sessions, parked}'), adopted and answered elsewhere are not told of yet;" \
        "address_lost $(metric 'tandem_sessions_ended_total{ending="address_lost"}')," \
        "late 2xx $(metric tandem_late_2xx_total), dropped $(metric tandem_dropped_total)"
    expect "health changes of node $node" 0 "$(grep -c 'destination is\|destination down' "$work/tandem-$node.log" || true)"
    [ "$(metric 'tandem_sessions_ended_total{ending="address_lost"}')" -gt 0 ] || wrong "node $node lost no call: nothing was shown of them"
done
all=0
failed=0
lost=0
for vip in "${vips[@]}"; do
    echo "$vip: $(report "calls-$vip" .calls) calls, $(report "calls-$vip" .failed) failed ($(codes "calls-$vip"))," \
        "$(report "calls-$vip" .lost) sessions lost"
    all=$((all + $(report "calls-$vip" .calls)))
    failed=$((failed + $(report "calls-$vip" .failed)))
    lost=$((lost + $(report "calls-$vip" .lost)))
    icmp=$(grep -c ICMP "$work/heard-$vip.log" || true)
    [ "$icmp" = 0 ] || wrong "callers heard $icmp ICMP errors from $vip"
done
echo "by TCP to ${vips[0]}: $(report calls-tcp .calls) calls, $(report calls-tcp .failed) failed ($(codes calls-tcp)),\
 $(report calls-tcp .lost) sessions lost; it was silent for $silent ms in all"
lost=$((lost + $(report calls-tcp .lost)))
[ "$(report calls-tcp .failed)" -le $((silent / 100 + 15)) ] || wrong "$(report calls-tcp .failed) calls failed by TCP"
echo "$name: $all calls, $failed failed, $lost sessions lost"
[ "$all" -ge $((rate * time * 95 / 100)) ] || wrong "only $all calls were made"
[ "$lost" = 0 ] || wrong "$lost BYEs were not answered"
[ "$failed" -le 3 ] || wrong "$failed calls failed, more than 3"
verdict
