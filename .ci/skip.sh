# shellcheck shell=bash
# How a step says that it cannot run here. Sourced by `.ci/run` and by `tests/interop/run`.
#
#   skipped NAME REASON
#
# prints it and goes on. In a full run (FULL_RUN=yes, which `.ci/run --full` exports) it fails,
# unless ALLOW_SKIP has the name among its words.
skipped() {
    local name=$1 reason=$2
    printf '\n!!!! SKIPPED %s: %s\n\n' "$name" "$reason"
    [ "${FULL_RUN:-no}" = yes ] || return 0
    case " ${ALLOW_SKIP:-} " in
        *" $name "*) return 0 ;;
    esac
    printf 'a full run has to have %s; ALLOW_SKIP="%s" permits to go on without\n' "$name" "$name" >&2
    return 1
}
