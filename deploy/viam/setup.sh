#!/bin/sh
# Makes the virtual environment of this module, beside it or in the folder that viam-server keeps for it; run.sh calls
# it, too. Nothing is done where the python3 that is found has everything. PYTHON names another one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VIAM_MODULE_DATA:-$here}/venv
python=${PYTHON:-python3}
wheel=$(echo "$here"/edge_accelerate-*.whl)
version=$(basename "$wheel" | cut -d- -f2)

# stdout is what run.sh reads: the Python that can start the module
exec 3>&1 1>&2
complete="import accelerate; assert accelerate.__version__ == '$version'; import accelerate.serve.viam.module"
if (cd / && "$python" -c "$complete") 2>/dev/null; then
    echo "$python" >&3
    exit
fi
ready=$venv/.ready-$(cksum < "$wheel" | tr ' ' -)
if [ ! -e "$ready" ]; then
    echo "edge-accelerate: making $venv with $("$python" --version) (minutes, once)"
    rm -rf "$venv"
    "$python" -m venv "$venv" || { echo "Debian: apt install python3-venv; Python 3.10 or later"; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check "edge-accelerate[viam,vision,cli] @ file://$wheel"
    for runtime in litert onnxruntime triton; do # a machine may lack wheels of one
        "$venv/bin/pip" install --quiet --disable-pip-version-check "edge-accelerate[$runtime] @ file://$wheel" ||
            echo "edge-accelerate: without $runtime"
    done
    touch "$ready"
fi
echo "$venv/bin/python" >&3
