#!/bin/sh
# Makes the base image from Debian's packages alone, for hosts that reach no image registry. Needs root,
# debootstrap and a Docker engine: deploy/base-image.sh [NAME [MIRROR]]
set -eu
name=${1:-cir-base:bookworm}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" ${2:+"$2"}
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$name"
