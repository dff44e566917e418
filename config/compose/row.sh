#!/bin/sh
# Puts the row of profile `one` into its node's table, and waits until the node has taken it.
set -eu
sqlite3 -bail /var/lib/tandem/tandem.db ".read /compose/one.sql"
until curl -fs --max-time 5 http://127.0.0.1:9060/ready | grep -q '"degraded":\[\]'; do sleep 1; done
