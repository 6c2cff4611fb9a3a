#!/bin/sh
# Writes module.tar.gz, as the registry takes it, into the folder given (default: dist). PYTHON has pip and setuptools.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/dist}
mkdir -p "$out"
out=$(cd "$out" && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
source=$temporary/source content=$temporary/content
mkdir "$source" "$content"

# a copy, for setuptools leaves a folder behind that would end up in later wheels
cp -R "$root"/accelerate "$root"/backends "$root"/*.py "$root"/pyproject.toml "$root"/README.md "$root"/LICENSE "$source"
"${PYTHON:-python3}" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$content" "$source"
cd "$root/deploy/viam"
cp meta.json run.sh setup.sh README.md "$content"
chmod 755 "$content/run.sh" "$content/setup.sh"
tar --create --gzip --file "$out/module.tar.gz" --directory "$content" .
echo "$out/module.tar.gz"
