#!/usr/bin/env bash
# Builds and tests everything on a fresh Debian 12. The last line counts: "N passed, N failed, N skipped".
#
#   tests/run.sh [--fast] [--tsan] [--no-install] [-k EXPR]
#     --fast        unit and system tests only
#     --tsan        unit and system tests under the thread sanitizer, instead of address and undefined
#     --no-install  never call apt
#     -k EXPR       system tests that match, as pytest takes it
#   FUZZ_SECONDS=5 for each fuzzer, SIM_SEEDS=200 simulated histories, JOBS=number of processors
#
# Each step writes to build/log/NAME.log, which is shown where the step failed.
set -u
cd "$(dirname "$0")/.." || exit 1

fast=0 preset=asan install=1 pytest_args=()
while [ $# -gt 0 ]; do
    case $1 in
    --fast) fast=1 ;;
    --tsan) preset=tsan ;;
    --no-install) install=0 ;;
    -k) pytest_args=(-k "${2:?-k needs an expression}") && shift ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) echo "unknown option $1 (see --help)" >&2 && exit 2 ;;
    esac
    shift
done

JOBS=${JOBS:-$(nproc)}
log=$PWD/build/log
passed=0 failed=0 skipped=0
mkdir -p "$log"

tally() { # PASSED FAILED SKIPPED
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# step NAME COMMAND...: one result of the summary.
step() {
    local name=$1 begin=$SECONDS
    shift
    if "$@" >"$log/$name.log" 2>&1; then
        echo "ok    $name ($((SECONDS - begin)) s)"
        tally 1 0 0
    else
        echo "FAIL  $name ($((SECONDS - begin)) s): $*"
        tail -n 60 "$log/$name.log" | sed 's/^/      /'
        tally 0 1 0
        return 1
    fi
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}

# junit FILE: adds a report's counts; a report that is not there is one failure.
junit() {
    local counts
    counts=$(python3 - "$1" <<'PY'
import sys
import xml.etree.ElementTree as tree

suite = tree.parse(sys.argv[1]).getroot()
suite = suite if suite.tag == "testsuite" else suite[0]
count = {k: int(suite.get(k) or 0) for k in ("tests", "failures", "errors", "skipped", "disabled")}
failed, skipped = count["failures"] + count["errors"], count["skipped"] + count["disabled"]
print(count["tests"] - failed - skipped, failed, skipped)
PY
    ) || counts="0 1 0"
    # shellcheck disable=SC2086 # three words
    tally $counts
}

build() { # PRESET
    cmake --preset "$1" && cmake --build --preset "$1" -j "$JOBS"
}

sources() { # FOLDER...
    find "$@" -name '*.[ch]' | sort
}

check_format() {
    sources src fs tests | xargs clang-format --dry-run -Werror
}

check_tidy() {
    sources src fs | grep '\.c$' | xargs -P "$JOBS" -n 4 clang-tidy --quiet -p build/clang
}

fuzz_one() { # PROGRAM, as tests/fuzz/LAYER/fuzz_X.c; tests/fuzz/LAYER/X/ are its seeds, where there are any
    local name source seeds found
    name=$(basename "$1")
    source=$(find tests/fuzz -name "$name.c")
    seeds=$(dirname "$source")/${name#fuzz_}
    found=$PWD/build/fuzz/corpus/$name
    mkdir -p "$found"
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086 # no seeds: no argument
    "$1" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
        -artifact_prefix="build/fuzz/$name-" "$found" $seeds
}

[ "$install" = 0 ] || step install tests/install-deps.sh || finish
[ "$install" = 0 ] || step peers tests/install-mcp-peers.sh || finish
[ "$install" = 0 ] || step install-brokers tests/install-brokers.sh

# ---- unit and system tests ----

export TRIGGERD_BUILD=$PWD/build/$preset
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=second_deadlock_stack=1:halt_on_error=1
run=()
# The thread sanitizer of these compilers does not know the address layout of newer kernels.
[ "$preset" = asan ] || run=(setarch -R)

step "build-$preset" build "$preset" || finish

rm -f "$log"/*.xml
"${run[@]}" ctest --test-dir "$TRIGGERD_BUILD" -j "$JOBS" --output-on-failure --output-junit "$log/unit.xml" 2>&1 |
    tee "$log/unit.log" | grep -vE '^ *(Start|[0-9]+/[0-9]+ Test .* Passed)'
junit "$log/unit.xml"

system() { # NAME ARGUMENT...
    "${run[@]}" python3 -m pytest -q -p no:cacheprovider --junitxml "$log/$1.xml" "${pytest_args[@]}" "${@:2}" >"$log/$1.log" 2>&1
}

# Side by side, as those of the brokers mostly wait for brokers.
brokers=(tests/system/test_{kafka,rabbitmq,redis,sqs}.py)
begin=$SECONDS
system brokers "${brokers[@]}" &
system system tests/test_layers.py tests/system "${brokers[@]/#/--ignore=}"
wait
echo "tests/system ($((SECONDS - begin)) s)"
for part in system brokers; do
    grep -vE '^[.sxFE]+ +\[ *[0-9]+%\]$' "$log/$part.log"
    junit "$log/$part.xml"
done

[ "$fast" = 0 ] && [ "$preset" = asan ] || finish

# ---- what a reader of the code would find ----

step format check_format
step package tests/package/run.sh --no-install
step build-clang build clang && step tidy check_tidy

# ---- what chance finds ----

if step build-fuzz build fuzz; then
    for program in build/fuzz/tests/fuzz_*; do
        [ -x "$program" ] && [ -f "$program" ] && step "$(basename "$program")" fuzz_one "$program"
    done
fi
if [ -x "$TRIGGERD_BUILD/tests/sim" ]; then
    step sim "$TRIGGERD_BUILD/tests/sim" --seeds "${SIM_SEEDS:-200}"
fi
finish
