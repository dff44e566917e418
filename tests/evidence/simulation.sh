#!/bin/sh
# 10,000 seeds (or as many as the first argument says) of the simulations of calls, of sessions and of clusters of 2, 3 and 5
# nodes, and a hundredth of that of clusters of 50, optimised. Fails with the seed that shows a fault.
set -eu
cd "$(dirname "$0")/../.."
seeds="${1:-10000}"
TANDEM_SIM_SEEDS="$seeds" cargo test --release --test engine -- sim:: sim_sessions:: sim_cluster:: --skip fifty --nocapture
TANDEM_SIM_SEEDS="$((seeds / 100))" cargo test --release --test engine -- fifty --nocapture
