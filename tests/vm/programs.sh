#!/bin/sh
# Puts the programs as they are now, without symbols, into a directory that goes into the guest: programs.sh DIRECTORY
set -eu
cd "$(dirname "$0")/../.."
cargo build -q --bins
for program in layerseal layerseal-runtime; do
    cp "${CARGO_TARGET_DIR:-target}/debug/$program" "$1/$program"
    strip "$1/$program" 2>/dev/null || true
done
