#!/usr/bin/env bash
# Makes sure that this host can build and test xpd: Go, a C compiler for the race
# detector, PostgreSQL 15's server programs and, for root, who alone can partition
# hosts in tests, the tools for networks. Says nothing and changes nothing when
# all are there. Installs Debian packages as root or with passwordless sudo;
# otherwise it names what to install and exits 1. Go is never installed, only
# checked.
set -euo pipefail
umask 022 # a private umask would make what is installed unreadable to user postgres

readonly go_min=1.26
readonly pg_bin=/usr/lib/postgresql/15/bin
readonly pg_programs=(postgres initdb pg_ctl pg_rewind pg_basebackup pg_controldata psql)
readonly pg_common_conf=/etc/postgresql-common/createcluster.conf

die() {
  echo "install-deps: $*" >&2
  exit 1
}

# check_go asks in the module's folder, so that a go command that fetches the
# toolchain named in go.mod by itself is good enough.
check_go() {
  local have
  command -v go >/dev/null ||
    die "go is missing: install Go $go_min or newer and put it on PATH"
  have=$(go env GOVERSION) || die "Go $go_min or newer is needed"
  have=${have#go}
  [[ $(printf '%s\n' "$go_min" "$have" | sort -V | head -n 1) == "$go_min" ]] ||
    die "Go $go_min or newer is needed, found $have in $(command -v go)"
}

# missing_packages prints, one a line, the Debian packages that this host lacks.
# It looks for the programs: where they came from does not matter.
missing_packages() {
  local program
  for program in "${pg_programs[@]}"; do
    if [[ ! -x $pg_bin/$program ]]; then
      echo postgresql-15
      break
    fi
  done
  if ((EUID == 0)); then # others skip the tests that cut networks
    command -v ip >/dev/null || echo iproute2
    command -v iptables >/dev/null || echo iptables
  fi
  # go test -race needs a C compiler and the C library's headers.
  command -v "${CC:-gcc}" >/dev/null || echo gcc
  if command -v dpkg-query >/dev/null; then
    dpkg-query -W -f='${Status}' libc6-dev 2>/dev/null | grep -q 'ok installed' || echo libc6-dev
  fi
}

# apt runs apt-get without questions, waiting for another apt to finish.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" </dev/null
}

# keep_default_cluster_away stops Debian's packaging from making and starting a
# cluster of its own on port 5432: xpd runs its own PostgreSQL.
keep_default_cluster_away() {
  apt install --no-install-recommends postgresql-common
  if [[ $(pg_conftool -bs "$pg_common_conf" show create_main_cluster 2>/dev/null) != off ]]; then
    "${as_root[@]}" pg_conftool "$pg_common_conf" set create_main_cluster off
  fi
}

check_go
mapfile -t packages < <(missing_packages)
((${#packages[@]})) || exit 0

command -v apt-get >/dev/null ||
  die "missing on this host: ${packages[*]} (Debian's names); PostgreSQL 15 is looked for in $pg_bin"
if ((EUID == 0)); then
  as_root=()
elif sudo -n true 2>/dev/null; then
  as_root=(sudo -n)
else
  die "packages are missing, and this is neither root nor passwordless sudo." \
    $'As root run:\n\n    apt-get install' "${packages[*]}"
fi

echo "install-deps: installing ${packages[*]}"
apt update
if [[ " ${packages[*]} " == *" postgresql-15 "* ]]; then
  keep_default_cluster_away
fi
apt install --no-install-recommends "${packages[@]}"

mapfile -t packages < <(missing_packages)
((${#packages[@]} == 0)) || die "still missing after the installation: ${packages[*]}"
