#!/usr/bin/env bash
# vip.sh by IPv6.
FAMILY=6 exec "$(dirname "$0")/vip.sh"
