#!/bin/sh
# One node told of a dead server by the other, before any probe of its own: 200 times (or as many as the first argument says)
# the time from when the one holds it for down to when the other gives it no call any more, with gossip every 100 ms. Prints the
# median, p99 and the worst, and fails if the median is above 1 s or the worst above 5 s.
set -eu
cd "$(dirname "$0")/../.."
TANDEM_VERDICT_TRIALS="${1:-200}" cargo test --test server -- told:: --nocapture
