#!/bin/sh
# Makes the two keys that the nodes share, once, and gives them to both: what `openssl rand -hex 32` and a copy do by hand.
set -eu
umask 077
for key in cluster gossip; do
    if [ ! -s "/state/a/$key.key" ]; then
        new=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
        [ "${#new}" -eq 64 ] || { echo "/dev/urandom gave ${#new} digits and not 64: $key.key is not made" >&2; exit 1; }
        printf '%s' "$new" >"/state/a/$key.new"
        mv "/state/a/$key.new" "/state/a/$key.key"
    fi
    cp "/state/a/$key.key" "/state/b/$key.new"
    mv "/state/b/$key.new" "/state/b/$key.key"
done
