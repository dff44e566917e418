#!/bin/sh
# 10,000 seeds (or as many as the first argument says) of the simulations of calls and of sessions, optimised. Fails with
# the seed that shows a fault.
set -eu
cd "$(dirname "$0")/../.."
TANDEM_SIM_SEEDS="${1:-10000}" cargo test --release --test engine -- sim:: sim_sessions:: --nocapture
