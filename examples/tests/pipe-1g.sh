#!/usr/bin/env bash
# Carries 1 GB through `hbone-cat` in a shell pipe, both ways at once, and compares checksums.
#
#   bash examples/tests/pipe-1g.sh [BYTES]
#
#   random bytes -> sha256 -> hbone-cat dial =tunnel=> hbone-cat serve -> echo server
#                   sha256 <-                <=tunnel=                 <-
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly bytes=${1:-1000000000}

cargo build --quiet --release --package mesh-examples --bin hbone-cat --example echo --example dev-certs
readonly built=${CARGO_TARGET_DIR:-target}/release

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
certs() { echo --cert "$work/$1.pem" --key "$work/$1.key" --roots "$work/roots.pem"; }
# first_line FILE: waits at most 10 s for it.
first_line() {
    for _ in {1..100}; do
        if [[ $(wc -l <"$1") -gt 0 ]]; then head -n 1 "$1" && return; fi
        sleep 0.1
    done
    echo "nothing came up in 10 s" >&2
    return 1
}

"$built/examples/dev-certs" "$work" spiffe://cluster.local/ns/demo/sa/{client,server}
: >"$work/echo.out" >"$work/serve.err"
"$built/examples/echo" 127.0.0.1:0 >"$work/echo.out" &
# shellcheck disable=SC2046  # the flags are meant to be split
"$built/hbone-cat" serve --bind 127.0.0.1:0 --allow spiffe://cluster.local/ns/demo/sa/client \
    --json $(certs server) 2>"$work/serve.err" &
app=$(first_line "$work/echo.out")
peer=$(first_line "$work/serve.err" | sed 's/.*"bind":"\([^"]*\)".*/\1/')

began=$(date +%s.%N)
# shellcheck disable=SC2046
head -c "$bytes" /dev/urandom \
    | tee >(sha256sum >"$work/sent") \
    | "$built/hbone-cat" dial --peer "$peer" --target "$app" \
        --expect spiffe://cluster.local/ns/demo/sa/server $(certs client) \
    | sha256sum >"$work/received"
ended=$(date +%s.%N)

first_line "$work/sent" >/dev/null
echo "sent:     $(cut -c1-64 "$work/sent")"
echo "received: $(cut -c1-64 "$work/received")"
cmp "$work/sent" "$work/received"
awk -v bytes="$bytes" -v from="$began" -v to="$ended" \
    'BEGIN { printf "%d bytes each way in %.1f s\n", bytes, to - from }'
