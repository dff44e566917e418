#!/usr/bin/env bash
# Peers that stall: 1,000 idle TCP connections, 10 that send half a message and 10 that ask without end and never read,
# beside 200 calls a second over TCP for 10 s. First the same calls alone, to compare. TANDEM names the program; IDLE,
# STALLED, RATE and TIME may be changed.
#
# Bounds:
# - No call fails, none is lost: a stuck peer delays nobody (RFC 3261 has no word for one, so this is the whole point).
#   p99 stays below 500 ms, T1: no UDP caller in that place would have sent again.
# - The idle connections have brought one request and are kept (`idle_timeout` is 10 minutes). Those with half a message
#   are closed after `message_timeout`, 10 s.
# - Memory: not more than 64 KiB of it for each connection, and 32 MiB for the calls themselves.
. "$(dirname "$0")/common.sh"
need sqlite3 curl ss awk jq python3
idle=${IDLE:-1000}
stalled=${STALLED:-10}
rate=${RATE:-200}
time=${TIME:-10}
files=$((idle + 4 * stalled + 200))
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge "$files" ] || ulimit -n "$files" ||
    fail "needs $files open files: raise ulimit -n"

write_config

# The idle, the half and the deaf, until SIGTERM; says READY, and at the end what became of each kind.
cat >"$work/crowd.py" <<'PY'
import select, signal, socket, sys
idle, stalled = int(sys.argv[1]), int(sys.argv[2])
PROXY = ("127.0.0.1", 8060)
# Answers copy it, so that few of them fill what the system buffers for one connection, some megabytes.
LONG = ";long=" + 8000 * "x"
def options(n, more=""):
    return (f"OPTIONS sip:127.0.0.1:8060 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKcrowd{n}{more}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:crowd@127.0.0.1>;tag={n}\r\nTo: <sip:127.0.0.1:8060>\r\nCall-ID: crowd-{n}\r\nCSeq: 1 OPTIONS\r\n"
            "Content-Length: 0\r\n\r\n").encode()
def connect(buffer=None):
    one = socket.socket()
    if buffer:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    one.settimeout(10)
    one.connect(PROXY)
    return one
def is_open(one):
    """Whether the proxy has left the connection open; reads nothing but its end."""
    poll = select.poll()
    poll.register(one, select.POLLRDHUP)
    return not any(event & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
idlers, halves, deaf = [], [], []
for n in range(idle):
    one = connect()
    one.sendall(options(n))
    answer = one.recv(4096)
    assert answer.startswith(b"SIP/2.0 200"), answer
    idlers.append(one)
for n in range(stalled):
    one = connect()
    one.sendall(options(f"half{n}")[:120])
    halves.append(one)
for _ in range(stalled):
    one = connect(4096)
    one.setblocking(False)
    deaf.append(one)
print("READY", flush=True)
asked, rest = 0, [b""] * stalled
while not stop:
    for n, one in enumerate(deaf):
        # The rest of the last request first, or the next would begin inside it.
        if not rest[n]:
            asked += 1
            rest[n] = options(f"deaf{asked}", LONG)
        try:
            rest[n] = rest[n][one.send(rest[n]):]
        except OSError:
            pass
    select.select([], [], [], 0.01)
print("kept", *(sum(map(is_open, kind)) for kind in (idlers, halves, deaf)), "asked", asked, flush=True)
PY

row() { printf '%-10s %6s %8s %6s %6s %9s %9s %12s %12s %10s\n' "$@"; }
rss() { awk '/^VmRSS:/ { print $2 }' "/proc/$proxy/status"; }

# calls PREFIX: the calls and their row.
calls() {
    local before after
    before=$(rss)
    "$TANDEM" calls --json --transport tcp --rate "$rate" --for "${time}s" --hold 1s >"$work/$1.log" 2>&1 ||
        fail "$1: no calls: $(tail -n 3 "$work/$1.log")"
    after=$(rss)
    row "$1" "$(report "$1" .calls)" "$(report "$1" .answered)" "$(report "$1" .failed)" "$(report "$1" .lost)" \
        "$(report "$1" .p50_ms)" "$(report "$1" .p99_ms)" "$before" "$after" "$(metric tandem_tcp_connections)"
    [ "$(report "$1" .calls)" -ge $((rate * time * 95 / 100)) ] || wrong "$1: only $(report "$1" .calls) calls were made"
    [ "$(report "$1" .failed)" = 0 ] || wrong "$1: $(report "$1" .failed) calls failed ($(codes "$1"))"
    [ "$(report "$1" .lost)" = 0 ] || wrong "$1: $(report "$1" .lost) BYEs were not answered"
    below "$(report "$1" .p99_ms)" 500 || wrong "$1: p99 is $(report "$1" .p99_ms) ms, not below 500"
}

lab_server s7010 7010 --transport tcp
lab_server s7011 7011 --transport tcp
start_tandem 127.0.0.1 ';transport=tcp'
proxy=$started
fresh=$(rss)
echo "$name: $rate calls a second over TCP for $time s, alone and beside $idle idle, $stalled half and $stalled deaf connections"
row beside calls answered failed lost p50_ms p99_ms rss_kb rss_kb_after connections
calls nobody
start "$work/peers.log" python3 "$work/crowd.py" "$idle" "$stalled"
crowd=$started
until_true 60 grep -q READY "$work/peers.log" || fail "the crowd does not stand: $(tail -n 3 "$work/peers.log")"
calls crowd
# The half messages are the calls' time and a second old by now.
sleep 2
last=$(rss)
kill -TERM "$crowd"
ended "$crowd" 10 || fail "the crowd does not end"
read -r _ idlers halves deaf _ asked < <(tail -n 1 "$work/peers.log") || true
echo "$name: rss $fresh kB at the start, $last at the end; kept open: $idlers of $idle idle, $halves of $stalled half, $deaf of" \
    "$stalled deaf ($asked requests); queues full: $(metric tandem_tcp_queue_full_total)"
[ "$idlers" = "$idle" ] || wrong "$idlers of $idle idle connections were kept"
[ "$halves" = 0 ] || wrong "$halves half messages are still waited for"
[ "$((last - fresh))" -le $(((idle + 2 * stalled) * 64 + 32768)) ] || wrong "rss grew by $((last - fresh)) kB"
verdict
