#!/bin/sh
# Whether this node can answer SIP: keepalived's vrrp_script. With a word it asks that of the node instead: `check.sh live`.
exec curl -fs --max-time 1 -o /dev/null "http://127.0.0.1:9060/${1:-ready}"
