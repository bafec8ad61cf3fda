# Daily commands. `just` alone lists them.

_list:
    @just --list

# Everything that must pass before a change is taken.
check:
    tests/run

# The end-to-end tests alone, against binaries built now.
e2e *ARGS:
    cargo build --workspace
    cargo nextest run -p tests --test e2e {{ARGS}}

# The benchmark: a table, and JSON when a path is given.
bench *ARGS:
    tests/bench/run {{ARGS}}

# Every fuzz target, for so many seconds each.
fuzz *ARGS:
    tests/fuzz/run {{ARGS}}

# A gateway on loopback with the commands to try it.
demo:
    cargo run --release -- dev
