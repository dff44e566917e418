#!/usr/bin/env bash
# The peers' own tools and words: opensips-cli (PyPI) lists, sets states and reloads at the running node; and a real Kamailio
# and the node are asked the same over HTTP (jsonrpcs) with the same rows, and answer alike.
# The tool comes from PyPI when it is not at hand: $OPENSIPS_CLI may name one that is.
if [ -z "${OPENSIPS_CLI:-}" ]; then
    # Before the script goes where nothing leads out of the machine.
    venv=$(mktemp -d "${TMPDIR:-/tmp}/tandem-compat-venv.XXXXXX")
    trap 'rm -rf "$venv"' EXIT
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet opensipscli==0.4.1 opensips==0.1.11 || {
        echo "FAIL compat: no opensips-cli from PyPI"
        exit 1
    }
    OPENSIPS_CLI=$venv/bin/opensips-cli "$0" "$@"
    exit
fi
. "$(dirname "$0")/common.sh"
need kamailio python3 sqlite3 curl jq
them=127.0.0.2:5070

# cli WORD...: what opensips-cli prints.
cli() {
    HOME=$work "$OPENSIPS_CLI" -o communication_type=http -o url=http://127.0.0.1:9060/mi -o history_file="$work/history" \
        -x mi "$@" 2>"$work/cli.log"
}

# said WHAT WANTED WORD...: what opensips-cli prints is that, as JSON without spaces.
said() {
    local what=$1 wanted=$2
    shift 2
    expect "$what" "$wanted" "$(cli "$@" | jq -c .)"
}

# refused WHAT WANTED WORD...: opensips-cli fails, and says that.
refused() {
    local what=$1 wanted=$2
    shift 2
    ! cli "$@" >"$work/cli.out" || fail "$what: it is done: $(cat "$work/cli.out")"
    grep -qF -e "$wanted" "$work/cli.log" || fail "$what: $(cat "$work/cli.log"), not $wanted"
}

# listed STATE STATE [EXTRA]: the list as OpenSIPS writes it.
listed() {
    local row='"first_hit_counter":0,"attr":"pstn=100"'${3:-}
    printf '{"PARTITIONS":[{"name":"default","SETS":[{"id":19,"Destinations":[%s,%s]}]}]}' \
        "{\"URI\":\"sip:127.0.0.3:7010\",\"state\":\"$1\",$row,\"resolved_addresses\":[\"127.0.0.3:7010\"]}" \
        "{\"URI\":\"sip:127.0.0.3:7011\",\"state\":\"$2\",$row,\"resolved_addresses\":[\"127.0.0.3:7011\"]}"
}

write_config
start_tandem 127.0.0.3

one=sip:127.0.0.3:7010
for method in ds_list dispatcher:list; do
    said "$method" "$(listed Active Active)" "$method"
    said "$method full" "$(listed Active Active ',"weight":1,"priority":100,"description":"TTS_MRCP_CLIENT_FS"')" "$method" full=1
done
for method in ds_set_state dispatcher:set_state; do
    said "$method i" '"OK"' "$method" i 19 "$one"
    said 'the list after i' "$(listed Inactive Active)" ds_list
    said "$method p" '"OK"' "$method" state=p group=default:19 address="$one"
    said 'the list after p' "$(listed Probing Active)" ds_list
done
said 'ds_set_state i again' '"OK"' ds_set_state i 19 "$one"
said 'ds_reload' '"OK"' ds_reload
said 'dispatcher:reload' '"OK"' dispatcher:reload partition=default inherit_state=y
said 'the list after a reload' "$(listed Inactive Active)" ds_list
said 'ds_set_state a' '"OK"' ds_set_state a 19 sip:127.0.0.3:7011
refused 'nobody' '404: destination not found' ds_set_state i 19 sip:nobody
refused 'no such partition' '500: ERROR Unknown partition' ds_list partition=other
refused 'no state' '500: Bad state value' ds_set_state x 19 "$one"
refused 'too few' '-32602: Invalid params (Too few or too many parameters)' ds_set_state i 19
# It asks `which` first.
refused 'no such command' "no command 'dlg_list' in module 'mi'" dlg_list
said 'which' '[["state","group","address"]]' which ds_set_state
echo "opensips-cli $("$OPENSIPS_CLI" --version | awk '{ print $NF }'): it lists, sets and reloads"

# ask WHERE NAME METHOD PARAMS: the answer, in $work/NAME.
ask() {
    local request
    request=$(jq -cn --arg method "$3" --argjson params "$4" '{ jsonrpc: "2.0", id: "7", method: $method, params: $params }')
    curl -sS --max-time 5 -o "$work/$2" -H 'Content-Type: application/json' -w '%{http_code}' -d "$request" "http://$1/RPC"
}

# alike METHOD [PARAMS]: Kamailio and the node answer with one status and in one shape.
alike() {
    local their our method=$1 params=${2:-[]}
    their=$(ask "$them" theirs.json "$method" "$params") || fail "$method: Kamailio is mute"
    our=$(ask 127.0.0.1:9060 ours.json "$method" "$params")
    expect "$method $params: the status" "$their" "$our"
    python3 -B "$here/compat/shape.py" "$work/theirs.json" "$work/ours.json" >"$work/shape" ||
        fail "$method $params: $(head -n 1 "$work/shape")"
    asked=$((asked + 1))
}

# same METHOD PARAMS: and in the same words.
same() {
    alike "$@"
    expect "$1 $2" "$(jq -c . "$work/theirs.json")" "$(jq -c . "$work/ours.json")"
}

# states: the first letters of the flags in Kamailio's list and in ours.
states() {
    alike dispatcher.list '["short"]'
    local file
    for file in theirs ours; do jq -r '[.result.RECORDS[0].SET.TARGETS[].DEST.FLAGS[:1]] | join("")' "$work/$file.json"; done
}

both() { printf '%s\n%s' "$1" "$1"; }

attrs='duid=b;maxload=9;weight=50;rweight=20;socket=udp:127.0.0.2:5070'
sqlite3 "$work/tandem.db" ".timeout 5000" "UPDATE dispatcher SET attrs = '$attrs' WHERE destination LIKE '%7011'"
take_rows
folder=$work/kamailio
mkdir -p "$folder"
{
    # The last of one priority stands first in the list.
    echo "19 sip:127.0.0.3:7011 0 100 $attrs"
    echo "19 $one 0 100 pstn=100"
} >"$folder/dispatcher.list"
sed "s|FOLDER|$folder|" "$here/compat/kamailio.cfg" >"$folder/kamailio.cfg"
start "$work/kamailio.log" "$(type -P kamailio)" -DD -E -f "$folder/kamailio.cfg" -Y "$folder" -m 64 -M 8
until_true 20 ask "$them" theirs.json dispatcher.list '[]' || fail "no Kamailio: $(tail -n 3 "$work/kamailio.log")"

asked=0
cli ds_set_state a 19 "$one" >/dev/null || fail "$(cat "$work/cli.log")"
for mode in '[]' '["short"]' '["full"]' '["other"]'; do alike dispatcher.list "$mode"; done
said_of='[.result.RECORDS[0].SET.TARGETS[].DEST | { URI, PRIORITY, ATTRS: (.ATTRS | del(.PROBING_COUNT, .PING_SOCKET, .OCMIN, .OCMAX)) }]'
expect 'the rows' "$(jq -c "$said_of" "$work/theirs.json")" "$(jq -c "$said_of" "$work/ours.json")"
same dispatcher.set_state "[\"d\", 19, \"$one\"]"
expect 'the states after d' "$(both DA)" "$(states)"
for state in d dp i ip 0 t tp a ap; do same dispatcher.set_state "[\"$state\", 19, \"$one\"]"; done
same dispatcher.set_state '["d", 19, "all"]'
expect 'the states after d to all' "$(both DD)" "$(states)"
same dispatcher.set_state '["i", 19, "all"]'
expect 'the states after i to all' "$(both II)" "$(states)"
same dispatcher.reload '[]'
same dispatcher.set_state "[\"x\", 19, \"$one\"]"
same dispatcher.set_state '["d", 19, "sip:nobody"]'
same dispatcher.set_state "[\"d\", 20, \"$one\"]"
same dispatcher.set_state '["d", 19]'
same dispatcher.nothing '[]'
echo "$(kamailio -v | awk 'NR == 1 { print "Kamailio", $3 }'): $asked requests are answered alike"
verdict
