#!/usr/bin/env bash
# Two of our own nodes in a row, a (127.0.0.1) and b (127.0.0.2): a's set leads to b, b's to SIPp servers. Each call has a
# re-INVITE from both ends and BYE from either; every request in the dialog passes both nodes by both Record-Routes. So it is
# where each node has its own key, where they share one (then each can read the other's cookie, and must not take it for its
# own), and in a spiral: a to b, back to a by another listener and rule, and on to the servers. Where a leads to b and b to a,
# each call ends in 482 after one turn; where b has no servers, in 480.
. "$(dirname "$0")/common.sh"
. "$here/dialog.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-100}   # Of each case; even.

# at NODE COMMAND...: common.sh's functions for that node: its folder, its addresses.
at() {
    local main=$work
    local work=$work/$1 node=$1
    mkdir -p "$work"
    shift
    "$@"
}
http() { curl -fsS --max-time 5 "http://$(address "${node:-a}"):9060$1" "${@:2}"; }
address() { case $1 in a) echo 127.0.0.1 ;; b) echo 127.0.0.2 ;; esac; }

# start_node KEY [EXTRA]: a fresh one with more TOML; KEY is own or shared. Its process id is in $started.
start_node() {
    write_config "${2:-}"
    sed -i "s/127\.0\.0\.1/$(address "$node")/; s/^state_dir.*/node_id = \"$node\"\nstate_dir = \"$1\"/" "$work/tandem.toml"
    rm -rf "${work:?}/$1"
    if [ "$1" = shared ]; then
        mkdir -m 700 "$work/shared"
        install -m 600 "$main/cluster.key" "$work/shared/cluster.key"
    fi
    start_tandem
}
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$work/cluster.key"

# set_20 URI...: more rows, of set 20.
set_20() {
    local uri
    for uri in "$@"; do
        echo "INSERT INTO \`dispatcher\` (\`setid\`, \`destination\`, \`state\`, \`weight\`, \`priority\`, \`attrs\`, \`description\`)" \
            "VALUES (20, '$uri', 0, 1, 100, '', '');"
    done | sqlite3 "$work/tandem.db"
    take_rows
}

# parameter TRANSPORT: what a URI says of it.
parameter() { [ "$1" = u1 ] || echo ';transport=tcp'; }

scheme() { [ "$1" = u1 ] && echo udp || echo tcp; }

row() { printf '%-7s %-7s %-7s %-7s %-8s %9s %6s %9s %9s\n' "$@"; }

# told CASE KEY CALLER BETWEEN SERVER ROUND A B: a row, the requests that each node must have had, and that each is at rest
# and has thrown nothing away. Then both end.
told() {
    local round=$6 node by_each twice
    by_each="$(at a new_requests) $(at b new_requests)"
    twice=$(resent "$round")
    row "${@:1:5}" "$(counter "$round-caller" 'SuccessfulCall(C)')" "$twice" "${by_each% *}" "${by_each#* }"
    [ "$twice" != 0 ] || check "$round: requests by each node" "$7 $8" "$by_each"
    for node in a b; do
        at $node at_rest || wrong "$round: sessions are left on $node"
        check "$round: messages that $node dropped" 0 "$(at $node metric tandem_dropped_total)"
    done
    stop "$a"
    stop "$b"
}

# straight KEY CALLER BETWEEN SERVER: a, b, servers.
straight() {
    local round=straight-$1-$2-$3-$4
    at a start_node "$1"
    a=$started
    at b start_node "$1"
    b=$started
    at a set_rows "sip:127.0.0.2:8060$(parameter "$3")"
    at b set_rows "sip:127.0.0.3:7010$(parameter "$4")" "sip:127.0.0.3:7011$(parameter "$4")"
    by_way 127.0.0.1:8060 127.0.0.2:8060
    servers "$round" dialog_server "$4"
    calls "$round" dialog_caller "$2" 127.0.0.1:8060 "$calls"
    served_all "$round" "$calls"
    told straight "$@" "$round" $((7 * calls)) $((7 * calls))
}

# spiral KEY CALLER BETWEEN SERVER: a, b, a, servers.
spiral() {
    local round=spiral-$1-$2-$3-$4
    # The first line goes on with the rule for set 19.
    at a start_node "$1" "listener = \"$(scheme "$2"):127.0.0.1:8060\"
[[listener]]
bind = \"$(scheme "$3"):127.0.0.1:8062\"
role = \"node\"
[[rule]]
name = \"back\"
listener = \"$(scheme "$3"):127.0.0.1:8062\"
set = 20"
    a=$started
    at b start_node "$1"
    b=$started
    at a set_rows "sip:127.0.0.2:8060$(parameter "$3")"
    at a set_20 "sip:127.0.0.3:7010$(parameter "$4")" "sip:127.0.0.3:7011$(parameter "$4")"
    at b set_rows "sip:127.0.0.1:8062$(parameter "$3")"
    by_way 127.0.0.1:8060 127.0.0.2:8060 127.0.0.1:806[02]
    servers "$round" dialog_server "$4"
    calls "$round" dialog_caller "$2" 127.0.0.1:8060 "$calls"
    served_all "$round" "$calls"
    told spiral "$@" "$round" $((14 * calls)) $((7 * calls))
}

# refused CASE KEY CALLER BETWEEN URI STATUS A B: calls that must end in STATUS, with so many requests for each at a and at b.
# URI is plain, or user: that one b does not write, so that a call that goes in a circle goes on to b once more.
refused() {
    local round=$1-$2-$3-$4-$5
    at a start_node "$2"
    a=$started
    at b start_node "$2"
    b=$started
    at a set_rows "sip:127.0.0.2:8060$(parameter "$4")"
    [ "$1" != circle ] || at b set_rows "sip:127.0.0.1:8060$(parameter "$4")"
    by_way 127.0.0.1:8060
    sed "s/480/$6/g" "$here/caller_refused.xml" >"$work/caller_told.xml"
    [ "$5" = plain ] || sed -i 's/\(INVITE\|ACK\) sip:/\1 sip:user@/' "$work/caller_told.xml"
    calls "$round" caller_told "$3" 127.0.0.1:8060 "$calls"
    check "$round: SIPp's exit status" 0 "$status"
    check "$round: calls that ended in $6" "$calls" "$(counter "$round-caller" 'SuccessfulCall(C)')"
    told "$1" "$2" "$3" "$4" "$5" "$round" $(($7 * calls)) $(($8 * calls))
}

row case keys caller between servers succeeded resent 'by a' 'by b'
for way in "u1 u1 u1" "t1 t1 t1" "u1 t1 u1" "t1 u1 t1"; do straight own $way; done
for way in "u1 u1 u1" "t1 t1 t1"; do straight shared $way; done
spiral shared u1 u1 u1
for way in "u1 u1 u1" "t1 t1 t1" "u1 t1 u1"; do spiral own $way; done
for keys in own shared; do
    refused circle $keys u1 u1 plain 482 4 2
    refused circle $keys t1 t1 user 482 4 4
done
refused empty own u1 t1 plain 480 2 2
verdict
