#!/usr/bin/env bash
# Install the Debian packages of programs that the benchmarks need.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: benchmarks/install_programs.sh PROGRAM...

Install what is missing of wrk, nginx and java with apt-get, as root. No service is started.
TEXT
}

die() { echo "install_programs: $*" >&2; exit 1; }

package_of() {
    case $1 in
        wrk) echo wrk ;;
        nginx) echo nginx-light ;;
        java) echo default-jre-headless ;;
        *) die "unknown program '$1'; accepted: wrk, nginx, java" ;;
    esac
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    "") usage >&2; exit 1 ;;
esac
packages=()
for program in "$@"; do
    command -v "$program" >/dev/null || packages+=("$(package_of "$program")")
done
[ ${#packages[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${packages[*]}"
[ "$(id -u)" -eq 0 ] || die "not root; run: sudo apt-get install --no-install-recommends ${packages[*]}"

# Debian's way to install a service without starting it: nginx would listen on every interface.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
echo "install_programs: apt-get install ${packages[*]}"
apt-get --quiet --quiet update
DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet install --yes --no-install-recommends \
    "${packages[@]}" >/dev/null
