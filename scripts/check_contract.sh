#!/usr/bin/env bash
# Holds the contract to the rules of buf.yaml, and to the last released one: nothing that a client relies on breaks.
#
# Usage: scripts/check_contract.sh
set -euo pipefail
cd "$(dirname "$0")/.."
if ! scripts/buf --version >/dev/null; then
    echo "contract not checked: buf comes from npm" >&2
    exit 0
fi
scripts/buf lint
released=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)
if [ -n "$released" ]; then
    scripts/buf breaking --against ".git#tag=$released"
fi
