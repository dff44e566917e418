#!/usr/bin/env bash
# The article's topology in two network namespaces: callers on 127.0.0.1 of the proxy's host, servers on 10.129.39.88.
# The proxy is in both networks, so it writes two Record-Routes. 200 calls; 7010 ends its half by a BYE of its own, which
# must find its way to the caller. None fails and nothing is sent twice. Needs root. TANDEM names the program.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk ip
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
calls=${CALLS:-200}

near=tandem-near-$$
far=tandem-far-$$
for namespace in "$near" "$far"; do
    ip netns add "$namespace"
    namespaces+=("$namespace")
    ip -n "$namespace" link set lo up
done
ip -n "$near" link add servers type veth peer name proxy netns "$far"
ip -n "$near" address add 10.129.39.1/24 dev servers
ip -n "$near" link set servers up
ip -n "$far" address add 10.129.39.88/24 dev proxy
ip -n "$far" link set proxy up
inside=(ip netns exec "$near")
outside=(ip netns exec "$far")

write_config '
[[listener]]
bind = "udp:10.129.39.1:8060"
role = "node"'

sipp_server s7010 server_hangs_up 10.129.39.88 7010 "${outside[@]}"
first=$started
sipp_server s7011 server 10.129.39.88 7011 "${outside[@]}"
second=$started
start_tandem 10.129.39.88

status=0
"${inside[@]}" sipp 127.0.0.1:8060 -sf "$here/caller_either.xml" -i 127.0.0.1 -p 5072 -nostdin \
    -m "$calls" -r 40 -timeout 120s -timeout_error \
    -trace_stat -stf "$work/caller.csv" -fd 1 -trace_err -error_file "$work/caller.err" \
    >"$work/caller.log" 2>&1 </dev/null || status=$?
sipp_drain "$first"
sipp_drain "$second"

twice=0
for who in caller s7010 s7011; do
    count=$(counter $who 'Retransmissions(C)')
    [ "$count" = none ] || twice=$((twice + count))
done
echo "$name: $(counter caller 'SuccessfulCall(C)') of $calls calls succeeded, $(counter caller 'FailedCall(C)') failed;" \
    "the server ended $(counter s7010 'SuccessfulCall(C)'), the caller $(counter s7011 'SuccessfulCall(C)');" \
    "$twice retransmissions"
expect "SIPp's exit status" 0 "$status"
expect "calls that failed" 0 "$(counter caller 'FailedCall(C)')"
expect "calls that succeeded" "$calls" "$(counter caller 'SuccessfulCall(C)')"
expect "calls that the server ended" "$((calls / 2))" "$(counter s7010 'SuccessfulCall(C)')"
expect "calls that the caller ended" "$((calls / 2))" "$(counter s7011 'SuccessfulCall(C)')"
expect "calls that failed on 7010" 0 "$(counter s7010 'FailedCall(C)')"
expect "calls that failed on 7011" 0 "$(counter s7011 'FailedCall(C)')"
expect "messages sent twice" 0 "$twice"
echo "PASS $name"
