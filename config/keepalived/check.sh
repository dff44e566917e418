#!/bin/sh
# Whether this node can answer SIP: keepalived's vrrp_script. With a word it asks that of the node instead: `check.sh live`.
url=http://127.0.0.1:9060   # [http] listen; with [http.tls] https://
# Its certificate need not name this machine's own address: -k.
exec curl -kfs --max-time 1 -o /dev/null "$url/${1:-ready}"
