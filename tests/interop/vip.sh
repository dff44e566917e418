#!/usr/bin/env bash
# The pair as it is shipped: config/tandem-{a,b}.toml, config/keepalived and config/nftables, unchanged, in network namespaces on
# one bridge: two nodes, callers, two servers. 200 calls a second with 10 s holds, while keepalived of node a is stopped and
# started, and then tandem of node a is killed (SIGKILL), started, and told to leave (SIGTERM), so that the first address moves
# five times. Just before, what the servers say is lost for a fifth of a second, so that there is something to lose: BYEs that the
# servers have answered and the callers have not heard of, and calls that are answered by the other node. Of every 20 calls the first address gets 6 of ours, 5 of SIPp, 2 of sofia-sip, which gives up on ICMP as UniMRCP
# does, and 1 of ours by TCP; the second address gets 6 of ours.
#
# Bounds:
# - Every BYE by UDP is answered by a 2xx, whichever node it meets: no session is lost.
# - Calls that were being set up are answered through the other node (`address_lost` of the one that lost the address: there
#   must be some), whose server sends its 2xx again until it is acknowledged. One may be lost that had our 100 when its
#   INVITE had not left yet, or whose answer was none that is sent again: at most 3. All others are sent again by their callers.
# - By TCP what was written to a connection that died is sent by nobody again: 5 INVITEs and 5 BYEs for each of the five moves.
#   What is to leave while the address is nowhere waits for a connection, since nobody refuses one (nftables/tandem-vip.nft).
# - The longest silence of an address that callers send 60 calls a second to: 1.5 s for a planned move (advertisements are 200
#   ms apart), 5 s for a killed process (two checks a second apart, then the same), and more by what a busy machine takes: the
#   longest silence in that time of a third server, which a caller asks directly.
# - A node that is told to leave ends before its handover (10 s) is over, since its address has moved, and refuses no call.
# - Nobody hears ICMP from a virtual address, though node a would have sent some.
# - /node of both tells at each step which addresses are here, as soon as `ip` does or within a second.
# What became of a BYE that got no 2xx is told from the capture of all packets. Needs root. TANDEM names the program. FAMILY=6
# does the same by IPv6, with other addresses in the files.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq ip nft keepalived tcpdump sipp gcc pkg-config python3
pkg-config --exists sofia-sip-ua || fail "needs libsofia-sip-ua-dev"
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
rate=${RATE:-200}
hold=10
time=54
config=$here/../../config
family=${FAMILY:-4}
# The host of that number, as an address and as it stands in a URI; and a file as it is shipped.
if [ "$family" = 4 ]; then
    ip_of() { echo "10.0.0.$1"; }
    uri_of() { ip_of "$1"; }
    shipped() { cat "$config/$1"; }
    unreachable=icmp
else
    ip_of() { echo "fd00::$1"; }
    uri_of() { echo "[$(ip_of "$1")]"; }
    shipped() {
        sed -E -e '/elements = \{/d' -e 's/type ipv6_addr/&; elements = { fd00::101, fd00::102 }/' -e 's/10\.0\.0\.([0-9]+):([0-9]+)/[fd00::\1]:\2/g' \
            -e 's#10\.0\.0\.([0-9]+)/24#fd00::\1/64#' -e 's/10\.0\.0\.([0-9]+)/fd00::\1/' "$config/$1"
    }
    unreachable="icmp6 and ip6[40] == 1"
fi
vips=(101 102)
caller=$(uri_of 30)
gcc -std=gnu11 -Wall -Wextra -Werror -O1 -o "$work/sofia" "$here/sofia/calls.c" $(pkg-config --cflags --libs sofia-sip-ua) ||
    fail "sofia/calls.c does not compile"

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
address() {
    case $family in
        4) ip -n "${host[$1]}" address add "$(ip_of "$2")/24" dev eth0 ;;
        6) ip -n "${host[$1]}" address add "$(ip_of "$2")/64" dev eth0 nodad ;;
    esac
}
address a 11
address b 12
address caller 30
address servers 21
address servers 22

for node in a b; do
    mkdir -p "/etc/netns/${host[$node]}/keepalived" "$work/$node/state"
    cp "$config"/keepalived/*.sh "/etc/netns/${host[$node]}/keepalived/"
    shipped "keepalived/keepalived-$node.conf" >"/etc/netns/${host[$node]}/keepalived/keepalived.conf"
    shipped "tandem-$node.toml" >"$work/$node/tandem.toml"
    shipped nftables/tandem-vip.nft | on "$node" nft -f -
done

declare -A tandem keepalived
start_node() {
    start "$work/tandem-$1.log" ip netns exec "${host[$1]}" "$TANDEM" run --config "$work/$1/tandem.toml"
    tandem[$1]=$started
    inside=(ip netns exec "${host[$1]}")
    until_true 20 http /ready || fail "tandem of $1 is not ready: $(tail -n 3 "$work/tandem-$1.log")"
}
start_keepalived() {
    start "$work/keepalived-$1.log" ip netns exec "${host[$1]}" keepalived -n -l -f /etc/keepalived/keepalived.conf \
        -p "$work/keepalived-$1.pid" -r "$work/vrrp-$1.pid" -c "$work/checkers-$1.pid"
    keepalived[$1]=$started
}

# here NODE: the last numbers of the virtual addresses that its kernel has, and the same by what tandem says.
here_by_ip() { ip -n "${host[$1]}" -o "-$family" address show dev eth0 | awk '{ print $4 }' | grep -oE '10[12]/' | tr -d '/' | sort | xargs; }
here_by_node() {
    inside=(ip netns exec "${host[$1]}")
    http /node | jq -r '[.listeners[] | select(.role == "vip" and .held) | .listener | capture("(?<n>10.)\\]?:8060").n] | unique | join(" ")'
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
    start "$work/s$server.log" ip netns exec "${host[servers]}" "$TANDEM" mrcp-server --listen "$(uri_of "$server"):7010" \
        --slow "${slow[$((server - 21))]}"
    until_true 10 bound "$(ip_of "$server")" 7010 ip netns exec "${host[servers]}" || fail "no server at $(ip_of "$server")"
    servers+=("$started")
done
start "$work/direct.log" ip netns exec "${host[servers]}" "$TANDEM" mrcp-server --listen "$(uri_of 21):7011"
until_true 10 bound "$(ip_of 21)" 7011 ip netns exec "${host[servers]}" || fail "no server at $(ip_of 21), port 7011"
servers+=("$started")
for node in a b; do
    # Both keys of both, as tandem-a.toml says.
    if [ "$node" = a ]; then
        (umask 077; for key in cluster gossip; do head -c 32 /dev/urandom | od -An -tx1 | tr -d " \n" >"$work/a/state/$key.key"; done)
    else
        cp -p "$work/a/state/"*.key "$work/b/state/"
    fi
    start_node "$node"
    sqlite3 "$work/$node/tandem.db" "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description)
        VALUES (19, 'sip:$(uri_of 21):7010', 0, 1, 100, '', ''), (19, 'sip:$(uri_of 22):7010', 0, 1, 100, '', '')"
    http /reload -X POST >/dev/null || fail "the rows are not taken"
    start_keepalived "$node"
done
moved "at the start" 10 101 102

# On the bridge each packet is seen once.
start "$work/capture.log" tcpdump -i vipbr -n -U -s 700 --immediate-mode -B 65536 -w "$work/all.pcap" "port 8060 or port 7010 or port 7011 or ($unreachable)"
capture=$started
until_true 10 grep -q 'listening on' "$work/capture.log" || fail "tcpdump does not run"

# That sofia-sip gives up on ICMP: at once, and not after 32 s.
began=$(milliseconds)
on caller "$work/sofia" "sip:$caller:5071;transport=udp" "sip:$(uri_of 21):9" 1 1 100 >"$work/icmp.log" 2>&1
[ "$(report icmp .failed)" = 1 ] && [ $(($(milliseconds) - began)) -lt 10000 ] || fail "sofia-sip does not give up on ICMP"

for vip in "${vips[@]}"; do
    start "$work/ours-$vip.log" ip netns exec "${host[caller]}" "$TANDEM" calls --json --to "$(uri_of "$vip"):8060" --from "$(ip_of 30)" \
        --rate $((rate * 6 / 20)) --for "${time}s" --hold "${hold}s"
    callers+=("$started")
done
start "$work/ours-direct.log" ip netns exec "${host[caller]}" "$TANDEM" calls --json --to "$(uri_of 21):7011" --from "$(ip_of 30)" \
    --rate 20 --for "${time}s"
callers+=("$started")
first=$(uri_of "${vips[0]}"):8060
start "$work/tcp.log" ip netns exec "${host[caller]}" "$TANDEM" calls --json --to "$first" --from "$(ip_of 30)" \
    --transport tcp --rate $((rate / 20)) --for "${time}s" --hold "${hold}s"
callers+=("$started")
start "$work/sofia.log" ip netns exec "${host[caller]}" "$work/sofia" "sip:$caller:5071;transport=udp" "sip:$first" \
    $((rate * 2 / 20)) "$time" $((hold * 1000))
callers+=("$started")
# It writes what it counts of each message into the folder that it runs in.
start "$work/sipp.log" ip netns exec "${host[caller]}" env --chdir="$work" sipp "$first" -sf "$here/caller_lossy.xml" \
    -i "$(ip_of 30)" -p 5073 -t u1 -nostdin -buff_size 4194304 -r $((rate * 5 / 20)) -m $((rate * 5 / 20 * time)) -d $((hold * 1000)) \
    -recv_timeout 33000 -trace_counts -fd 1 -trace_err -error_file "$work/sipp.err"
callers+=("$started")
began=$(milliseconds)
# at SECONDS: waits until so many have passed since calls began.
at() { sleep "$(awk -v left="$((began + $1 * 1000 - $(milliseconds)))" 'BEGIN { print (left > 0 ? left / 1000 : 0) }')"; }
# captured FILTER: the packets so far, a line each. The last one may not be whole yet.
captured() { { tcpdump -n -tt -r "$work/all.pcap" "$1" 2>/dev/null || true; }; }
# silence HOST FROM TO: the longest time without a packet from it to the callers, between these milliseconds.
silence() {
    captured "udp and src host $(ip_of "$1") and dst host $(ip_of 30)" | awk -v from="$2" -v to="$3" '
        function heard(now) { if (now - last > most) most = now - last; last = now }
        BEGIN { last = from }
        $1 * 1000 >= from && $1 * 1000 <= to { heard($1 * 1000) }
        END { heard(to); printf "%d\n", most }'
}

on servers nft -f - <<<'table inet servers { chain output { type filter hook output priority filter; policy accept; }; }'
# step WHAT AT SECONDS MOST A B: what `act` does then, and where the addresses are within SECONDS; the longest silence of either
# may be MOST milliseconds.
step() {
    local what=$1 since until gap vip busy
    at "$2"
    on servers nft add rule inet servers output udp sport 7010 counter drop
    sleep 0.2
    since=$(milliseconds)
    act
    on servers nft flush chain inet servers output
    moved "$what" "$3" "$5" "$6"
    at $(($2 + 7))
    until=$(milliseconds)
    busy=$(silence 21 "$since" "$until")
    for vip in "${vips[@]}"; do
        gap=$(silence "$vip" "$since" "$until")
        echo "$what: longest silence of $vip: $gap ms; of the third server: $busy ms"
        [ "$gap" -le $(($4 + busy)) ] || wrong "$what: $vip was silent for $gap ms, more than $4, and the third server for $busy ms"
    done
}
act() { stop "${keepalived[a]}"; }
step "keepalived of a is stopped" 11 3 1500 "" "101 102"
act() { start_keepalived a; }
step "keepalived of a is started" 19 5 1500 101 102
act() { kill -KILL "${tandem[a]}"; tandem[a]=; }
step "tandem of a is killed" 27 6 5000 "" "101 102"
act() { start_node a; }
step "tandem of a is started" 35 8 1500 101 102
for what in icmp "tcp flags"; do
    on a nft list table inet tandem_vip | grep "$what" | grep -q 'counter packets [1-9].*drop' ||
        wrong "node a dropped nothing by its rule for $what: nothing was shown of that"
done
act() { kill -TERM "${tandem[a]}"; leaving=$(milliseconds); }
step "tandem of a leaves" 43 6 1500 "" "101 102"
ended "${tandem[a]}" 1 || wrong "node a has not left $(($(milliseconds) - leaving)) ms after SIGTERM"
grep -q 'new calls are refused' "$work/tandem-a.log" || wrong "node a told nothing of its second step"

for pid in "${callers[@]}"; do ended "$pid" 90 || fail "a caller does not end"; done
for pid in "$capture" "${servers[@]}"; do stop "$pid"; done

for node in b; do
    inside=(ip netns exec "${host[$node]}")
    echo "node $node: $(http /node | jq -c '{sessions, parked}');" \
        "moved $(metric 'tandem_sessions_ended_total{ending="moved"}')," \
        "address_lost $(metric 'tandem_sessions_ended_total{ending="address_lost"}')," \
        "late 2xx $(metric tandem_late_2xx_total), dropped $(metric tandem_dropped_total)"
    expect "health changes of node $node" 0 "$(grep -c 'destination is\|destination down' "$work/tandem-$node.log" || true)"
    [ "$(metric 'tandem_sessions_ended_total{ending="address_lost"}')" -gt 0 ] || wrong "node $node lost no call: nothing was shown of them"
done

# sipp_count MESSAGE: the last value of a column of what SIPp counts of its messages.
sipp_count() {
    awk -F';' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } END { print at ? $at : "none" }' "$work"/*_counts.csv
}
all=0
failed=0
lost=0
# told WHO CALLS FAILED LOST: of one caller by UDP.
told() {
    echo "$1: $2 calls, $3 failed, $4 sessions lost"
    all=$((all + $2))
    failed=$((failed + $3))
    lost=$((lost + $4))
}
for vip in "${vips[@]}"; do
    told "ours to $vip" "$(report "ours-$vip" .calls)" "$(report "ours-$vip" .failed)" "$(report "ours-$vip" .lost)"
    echo "  INVITEs $(codes "ours-$vip"), BYEs $(report "ours-$vip" '.byes // {} | tojson')"
    icmp=$(captured "($unreachable) and src host $(ip_of "$vip")" | wc -l)
    [ "$icmp" = 0 ] || wrong "$icmp ICMP errors came from $vip"
done
told "sofia-sip" "$(report sofia .calls)" "$(report sofia .failed)" "$(report sofia .lost)"
grep -hE '^[0-9.]+ (INVITE|BYE|a BYE)' "$work/sofia.log" || true
sent=$(sipp_count 0_INVITE_Sent)
byes=$(sipp_count 5_BYE_Sent)
told SIPp "$sent" $((sent - $(sipp_count 2_200_Recv))) $((byes - $(sipp_count 7_200_Recv)))
[ "$byes" = "$(sipp_count 2_200_Recv)" ] || wrong "SIPp sent $byes BYEs to $(sipp_count 2_200_Recv) sessions"
echo "ours by TCP to ${vips[0]}: $(report tcp .calls) calls, $(report tcp .failed) failed ($(codes tcp)), $(report tcp .lost) sessions lost"
[ "$(report tcp .failed)" -le 25 ] || wrong "$(report tcp .failed) calls failed by TCP, more than 25"
[ "$(report tcp .lost)" -le 25 ] || wrong "$(report tcp .lost) BYEs were not answered by TCP, more than 25"
echo "$name: $all calls by UDP, $failed failed, $lost sessions lost"
[ "$all" -ge $((rate * 19 / 20 * time * 80 / 100)) ] || wrong "only $all calls were made"
[ "$lost" = 0 ] || { wrong "$lost BYEs were not answered"; "$here/vip/unanswered.py" "$work/all.pcap" "$(ip_of 30)" | head -n 60; }
[ "$failed" -le 3 ] || wrong "$failed calls failed, more than 3"
verdict
