#!/usr/bin/env bash
# The HTTP surface of a node with tokens and TLS: every operation of docs/openapi.json, well and badly, each answer and each event of
# the stream checked against the document's schema for it; each by nobody and by each role; clients without the right authority;
# a certificate that is renewed. A second node hears of the orders.
. "$(dirname "$0")/common.sh"
need curl openssl python3 sqlite3
python3 -c "import jsonschema" || fail "needs python3-jsonschema"
document=$here/../../docs/openapi.json
python3 "$here/api/test_check.py" || fail "what checks the answers does not"

# key NAME; signed NAME EXTENSIONS: a certificate of the authority.
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key" 2>>"$work/openssl.log" && chmod 600 "$work/$1.key"; }
signed() {
    key "$1"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr" 2>>"$work/openssl.log"
    printf '%s\n' "$2" >"$work/$1.ext"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 -extfile "$work/$1.ext" \
        -out "$work/$1.pem" 2>>"$work/openssl.log"
}
for ca in ca other; do
    key $ca
    openssl req -x509 -new -key "$work/$ca.key" -subj "/CN=$ca" -days 2 -out "$work/$ca.pem" 2>>"$work/openssl.log"
done
names='subjectAltName=DNS:localhost,IP:127.0.0.1'
signed node "$names"
signed renewed "$names"
for role in read operate admin; do (umask 077 && openssl rand -hex 32 >"$work/$role.token"); done
token() { cat "$work/$1.token"; }

write_config "
[http.tls]
cert = \"node.pem\"
key = \"node.key\"
[http.client]
token_file = \"read.token\"
[[http.token]]
name = \"noc\"
role = \"read\"
file = \"read.token\"
[[http.token]]
name = \"bob\"
role = \"operate\"
sha256 = \"$(tr -d '\n' <"$work/operate.token" | sha256sum | cut -d' ' -f1)\"
[[http.token]]
name = \"ann\"
role = \"admin\"
file = \"admin.token\"
[trace]
sample = 1.0
[cluster]
bind = \"127.0.0.1:7946\"
seeds = [\"127.0.0.1:7947\"]"
sed -i '1i node_id = "a"' "$work/tandem.toml"
mkdir "$work/b"
sed -e 's/^node_id = .*/node_id = "b"/; s/:8060/:8061/; s/:9060/:9061/; s/7947/0000/; s/7946/7947/; s/0000/7946/; s/^url = .*/url = "sqlite:..\/tandem.db"/' \
    -e '/^\[http\.\|^\[\[http/,/^\[cluster/{/^\[cluster/!d}' "$work/tandem.toml" >"$work/b/tandem.toml"

# `http` of common.sh asks without TLS.
http() { curl -fsS --max-time 5 --cacert "$work/ca.pem" -H "Authorization: Bearer $(token admin)" "https://127.0.0.1:9060$1" "${@:2}"; }
lab_server server 7010
start_tandem
"$TANDEM" check --config "$work/tandem.toml" >"$work/check.log" || fail "check: $(cat "$work/check.log")"
start "$work/b.log" "$TANDEM" run --config "$work/b/tandem.toml"
set_rows sip:127.0.0.1:7010 sip:127.0.0.1:7011
until_true 20 curl -fs -o /dev/null http://127.0.0.1:9061/ready || fail "b is not ready: $(tail -n 3 "$work/b.log")"
until_true 10 sh -c "curl -fs http://127.0.0.1:9061/sets/19 | grep -q 7010" || fail "b has no rows: $(tail -n 3 "$work/b.log")"
start "$work/calls.log" "$TANDEM" calls --rate 2 --for 60s --hold 60s
caller=$started

# As whom TLS lets in.
curl -fsS --cacert "$work/ca.pem" -o /dev/null https://localhost:9060/live || fail "the right authority is not believed"
! curl -fsS --cacert "$work/other.pem" -o /dev/null https://localhost:9060/live 2>/dev/null || fail "another authority is believed"
! curl -fsS -o /dev/null https://localhost:9060/live 2>/dev/null || fail "the system's authorities are believed"
! curl -fsS --max-time 5 -o /dev/null http://127.0.0.1:9060/live 2>/dev/null || fail "it is served without TLS"

# The program's own commands.
"$TANDEM" show --http https://localhost:9060 --ca "$work/ca.pem" --token-file "$work/read.token" >"$work/show.log" 2>&1 ||
    fail "show by its authority: $(cat "$work/show.log")"
TANDEM_TOKEN=$(token read) "$TANDEM" show --config "$work/tandem.toml" >"$work/show.log" 2>&1 ||
    fail "show by the configuration: $(cat "$work/show.log")"
"$TANDEM" show 19 --config "$work/tandem.toml" >"$work/show.log" 2>&1 || fail "show with the configuration's token: $(cat "$work/show.log")"
! "$TANDEM" show --http https://localhost:9060 --ca "$work/other.pem" >"$work/show.log" 2>&1 || fail "show believes anybody"
grep -q 'no TLS with https://localhost:9060' "$work/show.log" || fail "show says: $(cat "$work/show.log")"
! "$TANDEM" show --http https://localhost:9060 --ca "$work/ca.pem" >"$work/show.log" 2>&1 || fail "show needs no token"
grep -q -- '--token-file' "$work/show.log" || fail "show says: $(cat "$work/show.log")"
! "$TANDEM" set 19 7010 drain --reason test --config "$work/tandem.toml" >"$work/set.log" 2>&1 || fail "noc may give orders"
grep -q 'of role operate' "$work/set.log" || fail "set says: $(cat "$work/set.log")"
echo "TLS: only those who are trusted, by curl and by tandem show"

# All operations.
python3 "$here/api/drive.py" "$document" "$work" || fail "the surface and its document differ"

# Who ordered what, here and on the other node.
curl -fsS --cacert "$work/ca.pem" "https://127.0.0.1:9060/sets/19/destination/order?uri=sip:127.0.0.1:7011" -o /dev/null -X PUT -H "Authorization: Bearer $(token operate)" \
    -H "Content-Type: application/json" -d '{"order": "drain", "by": "alice", "reason": "new model"}' || fail "an order is refused"
order='change ordered actor="alice via bob" role="operate" source=127.0.0.1:[0-9]* what="PUT /sets/19/destination/order?uri=[^"]*: drain" reason="new model" result="ok"'
grep -q "$order" "$work/tandem.log" || fail "the order is not logged: $(grep 'change ordered' "$work/tandem.log" | head -n 3)"
until_true 10 grep -q 'order given .*7011.*order="drain".* by="alice via bob" reason="new model"' "$work/b.log" ||
    fail "b does not log the order: $(grep order "$work/b.log" | tail -n 3)"
for role in read operate admin; do
    ! grep -q "$(token $role)" "$work/tandem.log" "$work/b.log" "$work/check.log" || fail "the log tells the token of $role"
done
echo "the log: who, whence, what and why, on both nodes"

# Another certificate, while it runs. Bad ones come first.
shown() { openssl s_client -connect 127.0.0.1:9060 </dev/null 2>/dev/null | openssl x509 -noout -subject 2>/dev/null | grep -q "CN *= *$1"; }
shown node || fail "it does not show its certificate"
echo nothing >"$work/node.pem"
until_true 15 grep -q 'the new files can.t be used' "$work/tandem.log" || fail "a bad certificate is not told of"
shown node || fail "a bad certificate is shown"
cp "$work/renewed.key" "$work/node.key" && cp "$work/renewed.pem" "$work/node.pem"
until_true 15 shown renewed || fail "the new certificate is not shown"
echo "a renewed certificate is shown"

# The last order of all. Told to end, the caller would hold its calls for their minute.
disown "$caller" && kill -KILL "$caller"
stop "$caller"
python3 "$here/api/drive.py" "$document" "$work" drain || fail "drain differs from its document"
until_true 10 grep -q 'change ordered actor="ann" .*what="POST /drain"' "$work/tandem.log" || fail "drain is not logged"
until_true 10 grep -q 'leaving: calls are served' "$work/tandem.log" || fail "it does not leave"
verdict
