#!/usr/bin/env bash
# Make a base image for the Dockerfile on a host that cannot pull one.
set -euo pipefail

suite=trixie

usage() {
    cat <<TEXT
Usage: local_test/base_image.sh [--force] [IMAGE]

Make IMAGE (default: debian:$suite-slim, what the Dockerfile starts from) with debootstrap and
'docker import': Debian $suite, minimal variant, without documentation, manual pages and locales,
as the official slim image is. For hosts that reach a Debian mirror but no image registry.

The host's bundle of certificate authorities travels along, and PIP_CERT and SSL_CERT_FILE point
to it, so that pip works behind a proxy that inspects TLS. Build images that leave this host on the
official base instead: build_and_push.sh warns when it finds this one.

  --force   replace an image that has this name already
  --help    print this text

Environment: http_proxy (how to reach the mirror), TMPDIR (needs 500 MB, not mounted nodev or
noexec), SSL_CERT_FILE (the bundle to carry; default /etc/ssl/certs/ca-certificates.crt).
TEXT
}

say() { echo "base_image: $*"; }
die() { echo "base_image: $*" >&2; exit 1; }

parse_arguments() {
    force=no
    image=debian:$suite-slim
    while [ $# -gt 0 ]; do
        case $1 in
            --force) force=yes ;;
            -h | --help) usage; exit 0 ;;
            -*) usage >&2; die "unknown option '$1'; accepted: --force, --help" ;;
            *) image=$1 ;;
        esac
        shift
    done
}

check_host() {
    command -v docker >/dev/null ||
        die "no 'docker' on PATH; on Debian: apt-get install docker.io"
    docker info >/dev/null 2>&1 ||
        die "the Docker engine does not answer ('docker info' fails); start dockerd, or set DOCKER_HOST"
    if [ "$force" = no ] && docker image inspect "$image" >/dev/null 2>&1; then
        die "the image '$image' exists already; keep it, name another, or replace it with --force"
    fi
    command -v debootstrap >/dev/null ||
        die "no 'debootstrap' on PATH; on Debian: apt-get install debootstrap debian-archive-keyring"
    [ "$(id -u)" -eq 0 ] ||
        die "debootstrap has to run as root, this is uid $(id -u); try: sudo $0 $image"
    [ -r "$keyring" ] ||
        die "no '$keyring' to check the mirror's signatures with; on Debian: apt-get install debian-archive-keyring"
}

remove_work_dir() {
    # debootstrap leaves these mounted when it is interrupted; removing through a mount is worse
    # than leaving files behind.
    local mount
    for mount in proc sys; do
        if mountpoint --quiet "$root/$mount"; then umount "$root/$mount" || return 0; fi
    done
    rm -rf --one-file-system "$work_dir"
}

bootstrap() {
    say "installing Debian $suite into a temporary directory (about a minute) ..."
    debootstrap --variant=minbase --keyring="$keyring" --force-check-gpg "$suite" "$root" \
        >"$work_dir/log" 2>&1 || {
        tail -n 20 "$work_dir/log" >&2
        die "debootstrap failed; its last lines are above (no mirror within reach? set http_proxy)"
    }
}

# What the official images set: no services, no caches, no translations (debuerreotype).
configure_packages() {
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
    cat >"$root/etc/dpkg/dpkg.cfg.d/docker" <<'TEXT'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
TEXT
    cat >"$root/etc/apt/apt.conf.d/docker" <<'TEXT'
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Apt::AutoRemove::SuggestsImportant "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
TEXT
}

# debootstrap writes the mirror that it used and only the release itself; updates and security
# fixes live beside it.
upgrade() {
    local mirror signed="signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror=$(awk '$1 == "deb" { print $2; exit }' "$root/etc/apt/sources.list")
    cat >"$root/etc/apt/sources.list" <<TEXT
deb [$signed] $mirror $suite main
deb [$signed] $mirror $suite-updates main
deb [$signed] $mirror-security $suite-security main
TEXT
    say "applying updates and security fixes ..."
    {
        chroot "$root" apt-get --quiet update --error-on=any &&
            DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get --quiet --yes dist-upgrade
    } >"$work_dir/log" 2>&1 || {
        tail -n 20 "$work_dir/log" >&2
        die "apt-get failed inside the new system; its last lines are above"
    }
}

# Copyright files stay: licences ask for them, and the official slim image keeps them.
strip_files() {
    find "$root/usr/share/doc" ! -type d ! -name copyright -delete
    find "$root/usr/share/doc" -type d -empty -delete
    find "$root"/usr/share/{info,lintian,locale,man} ! -type d -delete
    find "$root"/usr/share/{lintian,locale} -mindepth 1 -type d -empty -delete
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/ldconfig/aux-cache \
        "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/tmp/*
    find "$root/var/log" -type f -delete
    rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
}

# Not under /etc/ssl/certs: the package ca-certificates writes its own bundle there.
carry_authorities() {
    local bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    local carried=/usr/local/share/host-ca-bundle.pem
    changes=(
        --change 'CMD ["bash"]'
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        --change 'LABEL byoa.base=local'
    )
    if [ -r "$bundle" ]; then
        install -m 644 "$bundle" "$root$carried"
        changes+=(--change "ENV PIP_CERT=$carried" --change "ENV SSL_CERT_FILE=$carried")
    else
        say "no certificate bundle at '$bundle': none carried"
    fi
}

parse_arguments "$@"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
check_host

work_dir=$(mktemp -d "${TMPDIR:-/var/tmp}/base_image.XXXXXX")
root=$work_dir/root
trap remove_work_dir EXIT
trap 'exit 130' INT TERM

bootstrap
configure_packages
upgrade
strip_files
carry_authorities
tar -C "$root" --numeric-owner --sort=name -c . |
    docker import "${changes[@]}" --message "debootstrap --variant=minbase $suite" - "$image" >/dev/null
say "made $image, $(($(docker image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
