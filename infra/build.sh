#!/bin/sh
# What the image is built from, as a plain script: infra/Dockerfile runs it, and so may anybody who builds without containers.
#   sh infra/build.sh SOURCE_DIR TARGET_DIR
# SOURCE_DIR: a clone. TARGET_DIR: gets dist/, the console's page, package.json and the run-time dependencies.
set -eu
source_dir=$(cd "$1" && pwd)
mkdir -p "$2"
target_dir=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$source_dir"
cp -R package.json package-lock.json tsconfig.json src services test "$work/"
cp LICENSE README.md CHANGELOG.md "$target_dir/"
cd "$work"
npm ci --ignore-scripts --no-audit --no-fund
npx tsc -p tsconfig.json
cp -R dist package.json package-lock.json "$target_dir/"
rm -rf "$target_dir/dist/test"
mkdir -p "$target_dir/services/console"
cp -R services/console/page "$target_dir/services/console/"
cd "$target_dir"
npm ci --omit=dev --ignore-scripts --no-audit --no-fund
