#!/bin/sh
# 1,000,000 hostile packets (or as many as the first argument says) at the gossip of two running nodes that serve calls: random
# ones, real ones changed or sent again, and such as were sealed with a wrong key, another cluster's name or long ago. Each is
# refused and counted by its cause, or dropped by the kernel; no node panics, answers, grows, or changes its mind about the other
# or a server; what they tell each other arrives in between and afterwards. Unoptimised, so that a sum that overflows is a panic.
set -eu
cd "$(dirname "$0")/../.."
TANDEM_HOSTILE_PACKETS="${1:-1000000}" cargo test --test server -- siege:: --nocapture
