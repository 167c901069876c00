#!/usr/bin/env bash
# tsan.sh BUNDLE [BUILD_FOLDER]: the test programs under ThreadSanitizer, with eight threads on one bundle and image, and a
# cancellation from another thread. ONNXRUNTIME_ROOT has the headers, SAMHQ_ONNXRUNTIME is the library.
set -euo pipefail
bundle=${1:?usage: tsan.sh BUNDLE [BUILD_FOLDER]}
root=$(realpath "$(dirname "$0")/../../..")
build=${2:-$root/build/tsan}
cmake -S "$root/tests/cpp" -B "$build" -DSAMHQ_SANITIZE=thread -DCMAKE_UNITY_BUILD=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
cmake --build "$build" --target extras
export TSAN_OPTIONS="suppressions=$root/runtime/cpp/tools/tsan.supp halt_on_error=1 ${TSAN_OPTIONS:-}"
"$build/extras" threads "$bundle" 8
"$build/extras" cancel "$bundle"
echo "no race"
