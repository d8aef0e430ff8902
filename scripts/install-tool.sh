#!/usr/bin/env bash
# Usage: install-tool.sh FOLDER PACKAGE VERSION
# Makes sure that FOLDER holds the Go program PACKAGE at exactly VERSION, built
# with the Go in use: a linter refuses code newer than the Go that built it.
set -euo pipefail

folder=$1 package=$2 version=$3
have=$(go version -m "$folder/${package##*/}" 2>/dev/null |
  awk 'NR == 1 { go = $NF } $1 == "mod" { print $3, go; exit }') || have=
[[ $have != "$version $(go env GOVERSION)" ]] || exit 0

echo "install-tool: building ${package##*/} $version (some minutes the first time)"
GOBIN=$folder go install "$package@$version"
