#!/usr/bin/env bash
# /metrics of a pair of nodes in which everything happens that has metrics: probes, an agent, limits, calls by UDP and TCP, and a
# server that is busy, so that calls fail over. promtool finds nothing to say of either node's; every name of docs/metrics.md is there,
# and no other; what was counted is what was done; the nodes agree; and the series of a destination go with its row, while what was
# counted of the set stays. TANDEM names the program.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq promtool python3
calls=60

write_config '[set.probe]
interval = "1s"
[set.agent]
port = 7999
interval = "1s"
[set.capacity]
max_sessions = 50
[set.capacity.resources]
tts = { max_sessions = 40 }
[records]
file = "records.jsonl"
[[events.webhook]]
url = "http://127.0.0.1:7999/"
[cluster]
bind = "127.0.0.1:7946"
seeds = ["127.0.0.1:7947"]'
mkdir "$work/b"
sed -e '1i node_id = "b"' -e 's/:8060/:8070/; s/:9060/:9070/; s/sqlite:tandem.db/sqlite:..\/tandem.db/' \
    -e 's/^bind = "127.0.0.1:7946"/bind = "127.0.0.1:7947"/; s/^seeds = .*/seeds = ["127.0.0.1:7946"]/' "$work/tandem.toml" >"$work/b/tandem.toml"
sed -i '1i node_id = "a"' "$work/tandem.toml"

mkdir "$work/agent"
echo '75%' >"$work/agent/index.html"
start "$work/agent.log" python3 -m http.server --bind 127.0.0.1 --directory "$work/agent" 7999
until_true 10 bound 127.0.0.1 7999 || fail "no agent: $(tail -n 3 "$work/agent.log")"
lab_server first 7010
lab_server second 7011 --busy
start_tandem 127.0.0.1
start "$work/b.log" "$TANDEM" run --config "$work/b/tandem.toml"
node_b=$started
until_true 20 curl -fsS http://127.0.0.1:9070/ready || fail "node b is not ready: $(tail -n 3 "$work/b.log")"

# of_b NAME: its value at node b.
of_b() { curl -fsS http://127.0.0.1:9070/metrics | awk -v name="$1" '$1 == name { print $2 }'; }
two_nodes() { [ "$(metric tandem_cluster_nodes)" = 2 ] && [ "$(of_b tandem_cluster_nodes)" = 2 ]; }
until_true 20 two_nodes || fail "the nodes do not hear each other: $(metric tandem_cluster_nodes), $(of_b tandem_cluster_nodes)"
agent_has_answered() { [ "$(metric 'tandem_agent_checks_total{result="answered"}')" -gt 0 ]; }
until_true 20 agent_has_answered || fail "the agent is not asked"

for transport in udp tcp; do
    "$TANDEM" calls --json --transport "$transport" --rate 50 --calls $((calls / 2)) --hold 200ms >"$work/$transport.log" 2>&1 ||
        fail "calls by $transport: $(tail -n 1 "$work/$transport.log")"
    expect "calls by $transport that were answered" $((calls / 2)) "$(report "$transport" .answered)"
done
until_true 20 no_sessions || fail "$(metric tandem_sessions) sessions are left"
# Node b has heard of both servers too.
votes() { [ "$(curl -fsS http://127.0.0.1:9070/metrics | grep -c '^tandem_destination_votes{.*node="a"}')" = 2 ]; }
until_true 20 votes || fail "node b does not hear what a holds of the servers"

http /metrics >"$work/metrics.a"
curl -fsS http://127.0.0.1:9070/metrics >"$work/metrics.b"
for node in a b; do
    said=$(promtool check metrics <"$work/metrics.$node" 2>&1) || fail "promtool, node $node: $said"
    expect "what promtool says of node $node" "" "$said"
done
# Each has a value here: one without has no line either.
sed -n 's/^| `\([a-z0-9_]*\)` | \([a-z]*\) .*/\1 \2/p' "$here/../../docs/metrics.md" | sort >"$work/told"
sed -n 's/^# TYPE //p' "$work/metrics.a" | sort >"$work/written"
[ "$(wc -l <"$work/told")" -gt 80 ] || fail "docs/metrics.md has only $(wc -l <"$work/told") names"
expect "names and kinds that differ from docs/metrics.md" "" "$(diff "$work/told" "$work/written")"

failovers=$(metric tandem_failovers_total)
[ "$failovers" -ge 1 ] || fail "no call has failed over"
expect "first choices" "$calls" "$(metric 'tandem_choices_total{choice="first"}')"
expect "failovers" "$failovers" "$(metric 'tandem_choices_total{choice="failover"}')"
expect "selections" $((calls + failovers)) "$(metric 'tandem_selections_total{kind="session"}')"
expect "calls that were set up" "$calls" "$(metric tandem_setup_seconds_count)"
expect "calls that were set up by the busy one" none "$(metric 'tandem_setup_seconds_count{destination="sip:127.0.0.1:7011"}')"
expect "drift" 0 "$(metric tandem_drift_sessions)"
expect "disagreements" 0 "$(metric tandem_cluster_disagreements)"
expect "partitions that differ" 0 "$(metric tandem_cluster_rows_differ)"
expect "limit of sessions" 100 "$(metric tandem_destination_limit_sessions)"
below "$(metric tandem_cluster_peer_age_seconds)" 1 || fail "node b was heard $(metric tandem_cluster_peer_age_seconds) s ago"

set_rows sip:127.0.0.1:7010
expect "series of the row that is gone" 0 "$(http /metrics | grep -c '7011"' || true)"
expect "failovers of the set, after the reload" "$failovers" "$(metric tandem_failovers_total)"
gone_at_b() { [ "$(curl -fsS http://127.0.0.1:9070/metrics | grep -c '7011"')" = 0 ]; }
until_true 20 gone_at_b || fail "node b still tells of the row that is gone"
stop "$node_b"
alone() { [ "$(metric tandem_cluster_nodes)" = 1 ] && [ "$(metric tandem_cluster_peer_age_seconds)" = none ]; }
until_true 20 alone || fail "node b is gone and still told of"
echo "metrics: $(wc -l <"$work/told") names, $(grep -vc '^#' "$work/metrics.a") series, $calls calls, $failovers failovers"
verdict
