#!/bin/sh
# Whether this node can answer SIP: keepalived's vrrp_script.
exec curl -fs --max-time 1 -o /dev/null http://127.0.0.1:9060/ready
