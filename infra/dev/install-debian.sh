#!/usr/bin/env bash
# Install what the tests want from Debian or Ubuntu, or of it only the packages that are named as arguments. Does
# nothing where all of it is there.
#
# As root it installs. Without root it says what to install and goes on: the tests skip what they cannot run and
# say so. Where CI is true it also uses sudo, if that asks nothing.
set -euo pipefail

# PROGRAM PACKAGES...
wanted='
curl                  curl ca-certificates
/usr/sbin/sshd        openssh-server
ssh                   openssh-client
podman                podman netavark aardvark-dns iptables
/usr/sbin/runc        runc
/usr/sbin/slurmctld   slurm-wlm
/usr/sbin/munged      munge
/usr/bin/pg_ctlcluster postgresql
redis-server          redis-server
chromium              chromium
'
packages=()
while read -r program names; do
  [ -z "$program" ] || command -v "$program" >/dev/null || for name in $names; do
    [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] || packages+=("$name")
  done
done <<<"$wanted"
[ ${#packages[@]} -gt 0 ] || exit 0

say() { printf '\nheadrace: %s\n\n' "$*" >&2; }
command -v apt-get >/dev/null || { say "not a Debian. The tests that need these will be skipped: ${packages[*]}"; exit 0; }

sudo=()
if [ "$(id -u)" != 0 ]; then
  if [ "${CI:-}" = true ] && sudo -n true 2>/dev/null; then
    sudo=(sudo -n)
  else
    say "what needs these packages will not run; to install them: sudo $0 $* (${packages[*]})"
    exit 0
  fi
fi

say "installing ${packages[*]}"
# Tests start every daemon themselves, each on a port of its own: installing one must not start it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 0755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -qq --yes --no-install-recommends "${packages[@]}" </dev/null >/dev/null
