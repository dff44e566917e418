#!/usr/bin/env bash
# Makes the pictures in docs/page anew, in a network namespace with the addresses that they show (root; two minutes). They
# look as they should with Debian's fonts-inter. TANDEM names the program.
set -euo pipefail
[ -n "${TANDEM_ALONE:-}" ] || TANDEM_ALONE=1 exec unshare --net -- "$0" "$@"
TANDEM=$(realpath "${TANDEM:-$(dirname "$0")/../../target/debug/tandem}")
export TANDEM
ip link set lo up
for address in 10.129.39.{11,12,201,202,88,89,90,91,101,102,103,104,105}; do ip address add "$address/32" dev lo; done
node "$(dirname "$0")/screenshots.mjs"
