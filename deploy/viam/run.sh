#!/bin/sh
# What viam-server starts, with the socket as argument.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/setup.sh")
cd "$here" # no module of the working folder gets in the way
exec "$python" -m accelerate.serve.viam "$@"
