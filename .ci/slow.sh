# shellcheck shell=bash
# The slow steps of `.ci/run --full`, and what they do. Sourced by `.ci/run`, whose `step` and
# `skipped` they use. Each has a limit in seconds: a step that is stuck fails.

# The command, for so many seconds at most.
limited() {
    timeout --kill-after=10 "$@"
}

# The features of users, a line each.
features_of_users() {
    sed -n '/^\[features\]/,/^\[/s/^\([a-z][a-z-]*\) = .*/\1/p' Cargo.toml
}

# The library with each set of its features. One that compiles alone may need another's code.
powerset() {
    local features=() set number bit
    mapfile -t features < <(features_of_users)
    [ ${#features[@]} -ge 6 ] || { echo "only ${#features[@]} features" >&2 && return 1; }
    for ((number = 0; number < 1 << ${#features[@]}; number++)); do
        set=
        for bit in "${!features[@]}"; do
            if ((number >> bit & 1)); then
                set+=,${features[bit]}
            fi
        done
        printf 'features: %s\n' "${set#,}"
        limited 300 cargo clippy --quiet --locked --lib --no-default-features \
            --features "${set#,}" -- -D warnings
    done
    limited 300 cargo clippy --quiet --locked -p grpc-health-service --lib --no-default-features \
        -- -D warnings
}

# As in the gate, for longer and over more processes.
long_chaos() {
    local kind
    limited 900 cargo test --locked --test chaos
    for kind in retries outliers silence; do
        limited 600 cargo test --locked --test chaos -- "--$kind"
    done
}

long_netns() {
    local code=0
    limited 900 cargo test --locked --test chaos -- --netns || code=$?
    [ "$code" = 77 ] || return "$code"
    skipped long-netns "above is what is not here"
}

# More seeds of the tests that draw, and more rounds of the others.
long_tests() {
    CHURN_SEEDS=200 limited 1800 cargo test --locked --test it churn
    SIMULATION_SEEDS=500 limited 1800 cargo test --locked --test it simulation
    PROPTEST_CASES=10000 limited 1800 cargo test --locked --lib
    ROLLING_ROUNDS=5 limited 900 cargo test --locked --test rolling -- --test-threads 1
}

# Those that check themselves, as users build.
benches() {
    limited 1800 cargo bench --locked --bench call --bench allocations -- --quick
    if ! command -v valgrind >/dev/null; then
        skipped benches "there is no valgrind"
        return 0
    fi
    limited 1800 cargo bench --locked --bench instructions -- --check
}

# Debian's Prometheus, where there is none: its package is unpacked below the target folder and
# not installed, as an installed one starts a daemon, now or at the next start of the machine.
unpack_prometheus() {
    local folder=${CARGO_TARGET_DIR:-$PWD/target}/prometheus as=()
    [ "$(id -u)" = 0 ] || as=(sudo -n)
    mkdir -p "$folder"
    if ! [ -x "$folder/usr/bin/promtool" ]; then
        (cd "$folder" &&
            { apt-get download prometheus ||
                { "${as[@]}" apt-get update && apt-get download prometheus; }; } &&
            dpkg -x prometheus_*.deb .) || return 1
    fi
    export PATH=$folder/usr/bin:$PATH
}

# The dashboard and the alerts in `docs/observing`, by Prometheus itself.
observing() {
    local built
    if ! { command -v prometheus && command -v promtool; } >/dev/null && ! unpack_prometheus; then
        skipped observing "there is no prometheus, and apt does not have it"
        return 0
    fi
    # With TLS, whose handshakes have a panel.
    limited 900 cargo build --locked --all-features --example observed
    built=$(cargo metadata --format-version 1 --no-deps |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    limited 600 .ci/observing.py "$built/debug/examples/observed"
}

slow_steps() {
    step observing observing
    step lowest limited 1800 .ci/lowest
    step powerset powerset
    step benches benches
    step long-tests long_tests
    step long-chaos long_chaos
    step long-netns long_netns
    # It says by itself which languages are not here, each as a step `interop-LANGUAGE`.
    step interop-all limited 3600 tests/interop/run --all --long
}
