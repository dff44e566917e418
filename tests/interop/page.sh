#!/usr/bin/env bash
# The operator's page in Chromium, against a pair of real nodes with calls and three stand-in servers: a server dies, orders by
# click and by keyboard, refusals, tokens, a restart, axe-core in both themes and at both widths; and a thousand destinations.
# What drives the browser comes from npm, before: tests/page/install.
. "$(dirname "$0")/common.sh"
need node npm chromium
page=$here/../page
[ -d "$page/node_modules/playwright-core" ] && [ -d "$page/node_modules/axe-core" ] ||
    fail "what drives the browser is not there: run tests/page/install, which asks npm for it"
[ -x "$TANDEM" ] || fail "no program at $TANDEM: build it, or set TANDEM"
TANDEM=$(realpath "$TANDEM")
export TANDEM TMPDIR=$work

for tests in words page token thousand; do
    node --test --test-reporter=spec "$page/$tests.test.mjs" >"$work/$tests.log" 2>&1 || {
        cat "$work/$tests.log"
        fail "$tests.test.mjs"
    }
    grep -hE '^(ℹ (pass|fail)|1,000)' "$work/$tests.log" | sed "s/^ℹ /$tests: /"
done
echo "PASS $name"
