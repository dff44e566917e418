#!/usr/bin/env bash
# dashboards/ with a real Prometheus, as it is shipped: prometheus.yml (but it scrapes each second, and the rules are where they
# are), the rules, their unit tests, and every query of every dashboard, which must be answered with data. It scrapes a pair with
# the shipped configurations (config/tandem-{a,b}.toml, with HTTP at an address that Prometheus reaches, and a second set that
# has probes, agents and limits), each in a network namespace, under 40 calls a second, while a server dies and comes back, a
# set is emptied by orders, a virtual address is nowhere and then at the other node, and a row changes.
#
# - promtool finds nothing wrong with the configuration, the rules and either node's metrics.
# - The alerts of what went wrong have fired, as TandemSetEmpty and TandemNoHolder, and no other one that is critical; so has that of
#   a webhook that nobody answers.
# - Every query, of variables and annotations too, has data, each recording rule has, and no rule has an error (dashboards/ask.py).
# - The drill has data by a job that scrapes as seldom as prometheus.yml says, too.
# Needs root. TANDEM names the program.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq ip python3 prometheus promtool
[ "$(id -u)" -eq 0 ] || fail "needs root, for network namespaces"
shipped=$here/../../dashboards
prometheus=10.0.0.40:9090

# Beside what follows, which mostly waits.
start "$work/rules.log" nice promtool test rules "$shipped"/rules/tests/*.yml
rules_test=$started
mkdir -p "$work/prometheus/rules"
ln -s "$(realpath "$shipped/rules")" "$work/prometheus/rules/tandem"
sed -E 's/_interval: [0-9]+s/_interval: 1s/' "$shipped/prometheus.yml" >"$work/prometheus/prometheus.yml"
# The same job once more, as often as it is shipped: for the drill.
{
    echo '  - job_name: tandem-shipped'
    awk '$1 == "scrape_interval:" { print "    scrape_interval: " $2 }' "$shipped/prometheus.yml"
    sed '1,/- job_name: tandem/d' "$shipped/prometheus.yml"
} >>"$work/prometheus/prometheus.yml"
# What nodes with tokens and TLS want is a comment.
for line in authorization scheme tls_config; do grep -q "^    # $line: " "$shipped/prometheus.yml" || wrong "prometheus.yml has no $line"; done
sed -E 's/^    # (authorization|scheme|tls_config): /    \1: /' "$work/prometheus/prometheus.yml" >"$work/prometheus/guarded.yml"
promtool check config --syntax-only "$work/prometheus/guarded.yml" >"$work/config.log" 2>&1 || wrong "promtool check config, with TLS: $(cat "$work/config.log")"
promtool check config "$work/prometheus/prometheus.yml" >"$work/config.log" 2>&1 || fail "promtool check config: $(cat "$work/config.log")"

# The nodes have a namespace each; all others are here, on the bridge.
ip link add vipbr type bridge
ip link set vipbr up
for number in 21 22 23 30 40; do ip address add "10.0.0.$number/24" dev vipbr; done
declare -A host=([a]=tandem-a-$$ [b]=tandem-b-$$) own=([a]=10.0.0.11 [b]=10.0.0.12)
for node in a b; do
    ip netns add "${host[$node]}"
    namespaces+=("${host[$node]}")
    ip -n "${host[$node]}" link set lo up
    ip link add "vip-$node" type veth peer name eth0 netns "${host[$node]}"
    ip link set "vip-$node" master vipbr up
    ip -n "${host[$node]}" link set eth0 up
    ip -n "${host[$node]}" address add "${own[$node]}/24" dev eth0
done
# hold NODE NUMBER, leave NODE NUMBER: as keepalived does, and what an ARP of its would do.
hold() { ip -n "${host[$1]}" address add "10.0.0.$2/24" dev eth0 && ip neighbour flush dev vipbr; }
leave() { ip -n "${host[$1]}" address del "10.0.0.$2/24" dev eth0; }
hold a 101
hold b 102
start "$work/prometheus.log" prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" \
    --web.listen-address="$prometheus"

server() {
    start "$work/s$1.log" "$TANDEM" mrcp-server --listen "10.0.0.$1:7010"
    until_true 10 bound "10.0.0.$1" 7010 || fail "no server at 10.0.0.$1: $(tail -n 3 "$work/s$1.log")"
}
for number in 21 22 23; do server "$number"; done
third=$started
mkdir "$work/agent"
echo '100% up' >"$work/agent/index.html"
start "$work/agent.log" python3 -m http.server 9001 --directory "$work/agent"

asr='
[[set]]
id = 20
name = "asr"
[set.probe]
interval = "1s"
down_interval = "1s"
timeout = "1s"
[set.agent]
port = 9001
interval = "1s"
timeout = "500ms"
[set.capacity]
max_sessions = 1000
[set.capacity.resources]
tts = { max_sessions = 1000 }
asr = { max_sessions = 1000 }
[[rule]]
name = "asr"
user_agent = "ASR"
set = 20
[records]
file = "records.jsonl"
# It takes no POST.
[[events.webhook]]
name = "noc"
url = "http://10.0.0.21:9001/"
retry_for = "1s"
[drain]
handover = "0s"
limit = "1s"'
at() { curl -fsS --max-time 5 "http://${own[$1]}:9060$2" "${@:3}"; }
order() { "$TANDEM" set --http "${own[a]}:9060" 19 "$1" "$2" --force --reason test --by test >/dev/null || fail "no order to $1"; }
for node in a b; do
    mkdir -p "$work/$node/state"
    # Both keys of both, as tandem-a.toml says.
    if [ "$node" = a ]; then
        (umask 077; for key in cluster gossip; do head -c 32 /dev/urandom | od -An -tx1 | tr -d " \n" >"$work/a/state/$key.key"; done)
    else
        cp -p "$work/a/state/"*.key "$work/b/state/"
    fi
    sed "s/^listen = .*/listen = \"${own[$node]}:9060\"/" "$here/../../config/tandem-$node.toml" >"$work/$node/tandem.toml"
    echo "$asr" >>"$work/$node/tandem.toml"
    start "$work/tandem-$node.log" ip netns exec "${host[$node]}" "$TANDEM" run --config "$work/$node/tandem.toml"
    until_true 20 at "$node" /ready || fail "tandem of $node is not ready: $(tail -n 3 "$work/tandem-$node.log")"
done
# rows WEIGHT: of both nodes, whose first destination has this weight.
rows() {
    local node set number
    for node in a b; do
        {
            echo 'BEGIN; DELETE FROM dispatcher;'
            for set in 19 20; do
                for number in 21 22 23; do
                    echo "INSERT INTO dispatcher (setid, destination, state, weight, priority, attrs, description)
                        VALUES ($set, 'sip:10.0.0.$number:7010', 0, $([ "$number" = 21 ] && echo "$1" || echo 1), 100, '', '');"
                done
            done
            echo 'COMMIT;'
        } | sqlite3 -cmd '.timeout 5000' "$work/$node/tandem.db"
    done
    at a /reload -X POST >/dev/null || fail "the rows are not taken"
}
rows 1

# is EXPRESSION: whether Prometheus has it.
is() { curl -fsS --max-time 5 "http://$prometheus/api/v1/query" --data-urlencode "query=$1" | jq -e '.data.result | length > 0'; }
# becomes WHAT SECONDS EXPRESSION
becomes() { until_true "$2" is "$3" || fail "not within $2 s: $1 ($3)"; }
becomes "Prometheus reaches both nodes" 30 'sum(up{job="tandem"}) == 2'
began=$(date +%s)
callers=()
for vip in 101 102; do
    for agent in OPENSIPS_TTS_MRCP_CLIENT ASR; do
        start "$work/calls-$vip-$agent.log" "$TANDEM" calls --json --to "10.0.0.$vip:8060" --from 10.0.0.30 --user-agent "$agent" --rate 10 --hold 2s
        callers+=("$started")
    done
done
becomes "each set's servers get calls" 20 'count(rate(tandem_selections_total{job="tandem", kind="session"}[10s]) > 0) == 12'

stop "$third"
becomes "calls find the dead server out" 20 'sum(tandem_destination_fit{job="tandem", set="19", destination="sip:10.0.0.23:7010"}) == 0'
becomes "probes find the dead server out" 20 'sum(tandem_destination_fit{job="tandem", set="20", destination="sip:10.0.0.23:7010"}) == 0'
server 23
leave a 101
for number in 21 22 23; do order "10.0.0.$number:7010" maint; done
for alert in TandemSetEmpty TandemNoHolder TandemWebhookDropped; do becomes "$alert fires" 30 "ALERTS{job=\"tandem\", alertname=\"$alert\", alertstate=\"firing\"}"; done
hold b 101
for number in 21 22 23; do order "10.0.0.$number:7010" ready; done
becomes "the server is back" 40 'sum(tandem_destination_fit{job="tandem", destination="sip:10.0.0.23:7010"}) == 4'
becomes "both addresses are at b" 10 'sum(tandem_listener_held{job="tandem", instance="b", role="vip"}) == 4'
rows 2
becomes "both nodes have the new weight" 20 'sum(tandem_destination_weight{job="tandem", set="19", destination="sip:10.0.0.21:7010"}) == 4'
becomes "both alerts end" 30 'absent(ALERTS{alertname=~"TandemSetEmpty|TandemNoHolder", alertstate="firing"})'

for node in a b; do
    at "$node" /metrics >"$work/metrics-$node"
    promtool check metrics <"$work/metrics-$node" >"$work/promtool-$node.log" 2>&1 || wrong "promtool check metrics, node $node: $(cat "$work/promtool-$node.log")"
done
fired=$(curl -fsS "http://$prometheus/api/v1/query" --data-urlencode 'query=max_over_time(ALERTS{alertstate="firing"}['"$(($(date +%s) - began))s])" |
    jq -r '[.data.result[].metric | "\(.severity) \(.alertname)"] | unique[]')
echo "$name: alerts that fired: $(xargs <<<"$fired")"
others=$(grep '^critical' <<<"$fired" | grep -vE ' Tandem(SetEmpty|NoHolder|CallsRefused)$' || true)
[ -z "$others" ] || wrong "fired without a cause: $(xargs <<<"$others")"
python3 -B "$here/dashboards/ask.py" "$prometheus" "$shipped" 20 "$began" set=20 destination=sip:10.0.0.23:7010 >"$work/ask.log" ||
    wrong "$(cat "$work/ask.log")"
echo "$name: $(tail -n 1 "$work/ask.log")"
# The drill as it is shipped; and that a window is found that is too short for that.
mkdir "$work/drill" "$work/broken"
ln -s "$(realpath "$shipped/drill.json")" "$work/drill/drill.json"
ask_drill() { python3 -B "$here/dashboards/ask.py" "$prometheus" "$work/drill" "$1" "$began" job=tandem-shipped "${@:2}" >"$work/drill.log"; }
ask_drill 10 || wrong "by the job as it is shipped: $(cat "$work/drill.log")"
! ask_drill 0 window=4s || wrong "nobody finds rates over less than a scrape"
grep -q '"Calls by node" A has no data' "$work/drill.log" || wrong "of rates over less than a scrape: $(cat "$work/drill.log")"
# That what nobody has is found.
sed 's/tandem_sessions{/tandem_session{/g' "$shipped/overview.json" >"$work/broken/overview.json"
! python3 -B "$here/dashboards/ask.py" "$prometheus" "$work/broken" 0 "$began" >"$work/broken.log" || wrong "nobody finds a metric that there is not"
grep -q '"Sessions" A has no data' "$work/broken.log" || wrong "of a metric that there is not: $(cat "$work/broken.log")"
# All at once: each ends with its last call.
for pid in "${callers[@]}"; do kill -TERM "$pid" 2>/dev/null || wrong "a caller has ended"; done
for pid in "${callers[@]}"; do stop "$pid"; done
wait "$rules_test" || wrong "promtool test rules: $(cat "$work/rules.log")"
verdict
