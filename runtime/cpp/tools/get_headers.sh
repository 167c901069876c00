#!/usr/bin/env bash
# get_headers.sh FOLDER: put the headers of ONNX Runtime's C API below FOLDER, for ONNXRUNTIME_ROOT=FOLDER.
#
# They come from the package libonnxruntime-dev of Debian 13, which is fetched and unpacked with a private apt state:
# nothing is installed, root is not needed, and apt checks the archive's signature. The C API is versioned, so that
# these headers fit every ONNX Runtime from 1.18 on, whatever its origin. On other systems take the headers of an
# ONNX Runtime release instead.
set -euo pipefail
folder=$(realpath -m "${1:?usage: get_headers.sh FOLDER}")
sources=/etc/apt/sources.list.d/debian.sources
[ -f "$sources" ] || { echo "no Debian system ($sources is missing): set ONNXRUNTIME_ROOT yourself" >&2; exit 1; }

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
# The system's first source, of the suite that has the package.
awk '/^Suites:/ {sub(/:.*/, ": trixie")} /^$/ {exit} {print}' "$sources" > "$work/trixie.sources"
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/trixie.sources" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Dir::State::status=/dev/null
  -o Acquire::Languages=none)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download libonnxruntime-dev)
dpkg -x "$work"/libonnxruntime-dev_*.deb "$work/package"
mkdir "$work/ready"
mv "$work/package/usr/include/onnxruntime" "$work/ready/include"
cp "$work/package/usr/share/doc/libonnxruntime-dev/copyright" "$work/ready/copyright"
# One rename, so that the folder is complete or not there; somebody else may have been faster.
mv -T "$work/ready" "$folder" 2>/dev/null || [ -f "$folder/include/onnxruntime_c_api.h" ]
