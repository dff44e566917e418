#!/bin/sh
# keepalived.sh a|b: that node's keepalived, with the shipped files at docker-compose.yml's addresses: 10.129.39.N for 10.0.0.N.
set -eu
here() { sed 's/10\.0\.0\./10.129.39./g' "/usr/share/tandem/$1"; }
# A kernel that lacks what the rules need moves addresses all the same.
here tandem-vip.nft | nft -f - || echo "no nftables rules: callers of a node that was killed hear ICMP until its address has moved" >&2
here "keepalived-$1.conf" >/run/keepalived.conf
exec keepalived --dont-fork --log-console --log-detail --use-file /run/keepalived.conf --pid /run/keepalived.pid --vrrp_pid /run/vrrp.pid
